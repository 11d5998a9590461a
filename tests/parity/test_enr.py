"""ENR computes what the authors' code does (tests/fixtures/enr)."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.enr_authors import read_enr, rename
from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import sphere_cameras
from unseen.geometry.views import Views
from unseen.methods.enr import ENR
from unseen.networks.voxel_resnet import inner_ball
from unseen.scenes.voxel_latent import VoxelLatentScene, relative_rotation


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> ENR:
    """The published file, as far as its tensors can be made up."""
    folder = fixture_folder("enr")
    path = tmp_path_factory.mktemp("enr") / "chairs.pt"
    config = load_meta(folder)["config"]
    mask = inner_ball(32).expand(64, -1, -1, -1).clone()
    official = {**synthetic_state_dict(folder), "spherical_mask.mask": mask}
    torch.save({"config": config, "state_dict": official}, path)
    return read_enr(path)


@pytest.fixture(scope="module")
def outputs() -> dict[str, Tensor]:
    return load_arrays(fixture_folder("enr") / "outputs.npz")


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    """Our cameras (view) at the fixture's angles: the source, then the target."""
    inputs = load_arrays(fixture_folder("enr") / "inputs.npz")
    angles = torch.deg2rad(inputs["angles"]).reshape(2, 2)
    return sphere_cameras(
        angles[:, 0], angles[:, 1], torch.full((2,), 2.0), 0.9, 1.25, 2.75
    )


@pytest.fixture(scope="module")
def scene(method: ENR, cameras: Cameras) -> VoxelLatentScene:
    inputs = load_arrays(fixture_folder("enr") / "inputs.npz")
    context = Views(inputs["image"][None], cameras[None, :1])
    return method.sample_scene(context, [0])


def check(outputs: dict[str, Tensor], name: str, value: Tensor) -> None:
    atol = load_meta(fixture_folder("enr"))["tolerance"]["suggested_atol"][name]
    torch.testing.assert_close(value, outputs[name], rtol=0, atol=atol)


def test_every_published_tensor_has_its_place() -> None:
    keys = json.loads((fixture_folder("enr") / "keys.json").read_text())
    lost = [key for key in keys if rename(key) is None]
    assert lost == ["spherical_mask.mask"]


def test_the_mask_is_the_ball_of_radius_15_5(outputs: dict[str, Tensor]) -> None:
    ball = inner_ball(32)
    assert 64 * float(ball.sum()) == float(outputs["buffer/spherical_mask_count"])
    assert torch.equal(ball[16], outputs["buffer/spherical_mask_centre_plane"])


def test_inferred_volume(scene: VoxelLatentScene, outputs: dict[str, Tensor]) -> None:
    volume = scene.volumes[0]
    check(outputs, "scene_slice", volume[::4, ::4, ::4, ::4])
    check(outputs, "scene_centre", volume[:, 16, 16, 16])


@torch.no_grad()
def test_rotation(
    scene: VoxelLatentScene, cameras: Cameras, outputs: dict[str, Tensor]
) -> None:
    found = relative_rotation(cameras.extrinsics[0], cameras.extrinsics[1])
    check(outputs, "rotation", found)
    turned = scene.rotated(cameras[None, 1:])[0, 0]
    check(outputs, "rotated_slice", turned[::4, ::4, ::4, ::4])


@torch.no_grad()
def test_renderings(
    scene: VoxelLatentScene, cameras: Cameras, outputs: dict[str, Tensor]
) -> None:
    images = scene.render(cameras[None], (128, 128)).color[0]
    check(outputs, "render_unrotated", images[0, :, ::4, ::4])
    check(outputs, "render", images[1, :, ::2, ::2])
