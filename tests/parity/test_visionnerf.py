"""The published VisionNeRF, number by number (tests/fixtures/visionnerf/meta.json)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.visionnerf_authors import PARTS, read_visionnerf
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.visionnerf import VisionNeRF
from unseen.rendering.volume import RayRendering
from unseen.scenes.aligned_scene import AlignedRadianceScene
from unseen.scenes.ray_sampling import Rays

SIZE = (128, 128)


class Case:
    """The inputs of the fixture, as our types, and its outputs."""

    def __init__(self) -> None:
        folder = fixture_folder("visionnerf")
        self.meta = load_meta(folder)
        self.inputs = x = load_arrays(folder / "inputs.npz")
        self.outputs = load_arrays(folder / "outputs.npz")
        self.tolerance = self.meta["tolerance"]["suggested_atol"]
        image = x["image"].permute(2, 0, 1)[None]
        self.source = Views(image, self.camera(x["source_pose"]))
        self.target = self.camera(x["target_pose"])
        self.pixels = x["pixels"][:, 1] * SIZE[1] + x["pixels"][:, 0]

    def camera(self, pose: Tensor) -> Cameras:
        near, far = self.inputs["near_far"]
        intrinsics = self.inputs["intrinsics"][:3, :3].clone()
        intrinsics[0] /= SIZE[1]
        intrinsics[1] /= SIZE[0]
        return Cameras(pose[None], intrinsics[None], near[None], far[None])

    def check(self, name: str, ours: Tensor) -> None:
        error = (ours - self.outputs[name]).abs().max().item()
        assert error <= self.tolerance[name], (name, error)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> VisionNeRF:
    """Through the file reader, as a released file is."""
    path = tmp_path_factory.mktemp("released") / "srn_cars_500000.pth"
    official = synthetic_state_dict(fixture_folder("visionnerf"))
    content: dict = {
        part: {
            key.removeprefix(f"{part}."): value
            for key, value in official.items()
            if key.startswith(f"{part}.")
        }
        for part in PARTS
    }
    torch.save({**content, "optimizer": {}, "scheduler": {}}, path)
    return read_visionnerf(path)


def rendering(
    case: Case, scene: AlignedRadianceScene, *, plain: bool = False
) -> tuple[Rays, RayRendering]:
    rays = scene.reading.camera_rays(case.target[None], SIZE, case.pixels[None, None])
    numbers = scene.sampling.middle(tuple(rays.near.shape))
    return rays, scene.render_rays(rays, numbers, plain=plain)


@torch.no_grad()
def test_every_output(case: Case, method: VisionNeRF) -> None:
    scene = method.scene(Views.stack([case.source]))
    case.check("feat_slice", scene.sources.maps[0, 0, ::32, ::8, ::8])
    for plain in (False, True):
        rays, fine = rendering(case, scene, plain=plain)
        assert fine.coarse is not None
        case.check("ray_o", rays.origins[0])
        case.check("ray_d", rays.directions[0])
        for name, r in (("coarse", fine.coarse), ("fine", fine)):
            case.check(f"{name}_rgb", r.color[0])
            case.check(f"{name}_depth", (r.weights * r.positions).sum(dim=-1)[0])
            case.check(f"{name}_weights", r.weights[0])
            case.check(f"{name}_z_vals", r.positions[0])


@torch.no_grad()
def test_the_authors_conventions_matter(case: Case, method: VisionNeRF) -> None:
    """Each of the conventions of the released weights changes the published numbers."""
    scene = method.scene(Views.stack([case.source]))
    for change in (
        {"pixel_grid": "centers"},
        {"measure": "distance"},
        {"unit_directions": True},
        {"world_density": True},
        {"octave_scale": 1.0},
        {"padding": "border"},
        {"map_extent": "ratio"},
        {"frame": "rotated"},
        {"density": "relu"},
    ):
        reading = dataclasses.replace(scene.reading, **change)
        assert differs(case, dataclasses.replace(scene, reading=reading)), change
    for block in scene.coarse_network.blocks:
        block.rectified_shortcut = False
    assert differs(case, scene)
    for block in scene.coarse_network.blocks:
        block.rectified_shortcut = True
    assert not differs(case, scene)


def differs(case: Case, scene: AlignedRadianceScene) -> bool:
    _, r = rendering(case, scene)
    assert r.coarse is not None
    error = (r.coarse.color[0] - case.outputs["coarse_rgb"]).abs().max()
    return bool(error > 2 * case.tolerance["coarse_rgb"])


@torch.no_grad()
def test_features_do_not_depend_on_the_batch(case: Case, method: VisionNeRF) -> None:
    """The authors' do, so they encode one image at a time."""
    image = 2 * case.source.images - 1
    both = method.encoder(torch.cat([image, image.flip(-1)]))
    torch.testing.assert_close(both[:1], method.encoder(image), rtol=1e-4, atol=1e-4)
