"""The published pixelNeRF, number by number (tests/fixtures/pixelnerf/meta.json)."""

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
from unseen.checkpoints.pixelnerf_authors import load_official, read_pixelnerf
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.pixelnerf import PixelNeRF
from unseen.networks.embeddings import octave_encoding
from unseen.rendering.coarse_fine import SampleNumbers
from unseen.rendering.volume import RayRendering
from unseen.scenes.aligned_radiance import AlignedRadiance

SIZE = (128, 128)


class Case:
    """The inputs of the fixture, as our types, and its outputs."""

    def __init__(self) -> None:
        folder = fixture_folder("pixelnerf")
        self.meta = load_meta(folder)
        self.inputs = x = load_arrays(folder / "inputs.npz")
        self.outputs = load_arrays(folder / "outputs.npz")
        self.tolerance = self.meta["tolerance"]["suggested_atol"]
        self.sources = Views(0.5 * (x["images"] + 1), self.cameras(x["source_poses"]))
        self.target = self.cameras(x["target_pose"][None])
        self.pixels = x["pixels"][:, 1] * SIZE[1] + x["pixels"][:, 0]
        self.numbers = SampleNumbers(
            x["rand_coarse"][None],
            x["rand_fine_u"][None],
            x["rand_fine_jitter"][None],
            x["randn_depth"][None],
        )

    def cameras(self, poses: Tensor) -> Cameras:
        """OpenGL to OpenCV, pixels to normalised."""
        focal, center = float(self.inputs["focal"][0]), self.inputs["c"][0]
        width = float(SIZE[1])
        intrinsics = torch.eye(3)
        intrinsics[0, 0] = intrinsics[1, 1] = focal / width
        intrinsics[:2, 2] = center / width
        count, config = len(poses), self.meta["config"]
        return Cameras(
            poses @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])),
            intrinsics.expand(count, 3, 3),
            torch.full((count,), config["near"]),
            torch.full((count,), config["far"]),
        )

    def check(self, name: str, ours: Tensor) -> None:
        error = (ours - self.outputs[name]).abs().max().item()
        assert error <= self.tolerance[name], (name, error)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> PixelNeRF:
    """Through the file reader, as a released file is."""
    path = tmp_path_factory.mktemp("released") / "pixel_nerf_latest"
    official = synthetic_state_dict(fixture_folder("pixelnerf"))
    torch.save(official, path)
    return read_pixelnerf(path)


def published(field: AlignedRadiance, points: Tensor, directions: Tensor) -> Tensor:
    """A field's answer in the published order: colour, density."""
    density, color = field.query(points, directions)
    plain_density, plain_color = field.query_plain(points, directions)
    torch.testing.assert_close(density, plain_density, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(color, plain_color, rtol=1e-4, atol=1e-5)
    return torch.cat([color, density[..., None]], dim=-1)[0]


@torch.no_grad()
def test_rays(case: Case, method: PixelNeRF) -> None:
    reading = method.config.reading
    rays = reading.camera_rays(case.target[None], SIZE, case.pixels[None, None])
    ends = torch.stack([rays.near[0], rays.far[0]], dim=-1)
    case.check("rays", torch.cat([rays.origins[0], rays.directions[0], ends], dim=-1))


@pytest.mark.parametrize("views", [1, 2])
@torch.no_grad()
def test_queries_and_renders(case: Case, method: PixelNeRF, views: int) -> None:
    scene = method.scene(Views.stack([case.sources[:views]]))
    if views == 1:
        latent = scene.sources.maps[0, 0]
        case.check("latent_slice_1view", latent[::32, ::8, ::8])
    points, directions = case.inputs["query_xyz"], case.inputs["query_viewdirs"]
    for name, field in (("coarse", scene.coarse), ("fine", scene.fine)):
        case.check(
            f"query_{name}_{views}view",
            published(field, points[None], directions[None]),
        )
    rays = scene.reading.camera_rays(case.target[None], SIZE, case.pixels[None, None])
    for plain in (False, True):
        fine = scene.render_rays(rays, case.numbers, plain=plain)
        assert fine.coarse is not None
        for name, r in (("coarse", fine.coarse), ("fine", fine)):
            case.check(f"render_{name}_{views}view", with_published_depth(r))
            case.check(f"weights_{name}_{views}view", r.weights[0])
            case.check(f"z_{name}_{views}view", r.positions[0])


def with_published_depth(r: RayRendering) -> Tensor:
    """Colour and the sum of weighted positions, which is not divided by opacity."""
    depth = (r.weights * r.positions).sum(dim=-1, keepdim=True)
    return torch.cat([r.color, depth], dim=-1)[0]


@torch.no_grad()
def test_encoder_without_first_pool(case: Case) -> None:
    official = synthetic_state_dict(fixture_folder("pixelnerf"))
    method = load_official(official, "nmr")
    latent = method.encoder(case.inputs["images"][:1])[0]
    case.check("latent_slice_nofirstpool", latent[::32, ::8, ::8])


def test_positional_encoding(case: Case) -> None:
    """Frequencies and phases as the authors' tables have them."""
    frequencies = case.outputs["buffer/code._freqs"].flatten()
    phases = case.outputs["buffer/code._phases"].flatten()
    x = torch.tensor([[0.3, -0.2, 0.7]])
    waves = torch.sin(x * frequencies[:, None] + phases[:, None])
    expected = torch.cat([x, waves.flatten()[None]], dim=-1)
    torch.testing.assert_close(octave_encoding(x, 6, 1.5), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_authors_conventions_matter(case: Case, method: PixelNeRF) -> None:
    """Each of the conventions that an importer sets changes the published numbers."""
    scene = method.scene(Views.stack([case.sources[:1]]))
    for change in (
        {"pixel_grid": "centers"},
        {"measure": "depth"},
        {"octave_scale": 1.0},
        {"padding": "zeros"},
        {"map_extent": "corners"},
        {"frame": "camera"},
    ):
        reading = dataclasses.replace(scene.reading, **change)
        other = dataclasses.replace(scene, reading=reading)
        rays = reading.camera_rays(case.target[None], SIZE, case.pixels[None, None])
        r = other.render_rays(rays, case.numbers).coarse
        assert r is not None
        expected = case.outputs["render_coarse_1view"]
        error = (with_published_depth(r) - expected).abs().max()
        assert error > 2 * case.tolerance["render_coarse_1view"], change
