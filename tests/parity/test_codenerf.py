"""CodeNeRF computes what the authors' code does (tests/fixtures/codenerf)."""

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
from unseen.checkpoints.codenerf_authors import read_codenerf, rename
from unseen.geometry.cameras import Cameras
from unseen.methods.codenerf import CodeNeRF

SIZE = (128, 128)


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> CodeNeRF:
    content: dict = {"niter": 1, "nepoch": 2}
    for key, value in synthetic_state_dict(fixture_folder("codenerf")).items():
        entry, name = key.split(".", 1)
        content.setdefault(entry, {})[name] = value
    path = tmp_path_factory.mktemp("codenerf") / "models.pth"
    torch.save(content, path)
    return read_codenerf(path)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    return load_arrays(fixture_folder("codenerf") / "inputs.npz")


@pytest.fixture(scope="module")
def outputs() -> dict[str, Tensor]:
    return load_arrays(fixture_folder("codenerf") / "outputs.npz")


@pytest.fixture(scope="module")
def camera(inputs: dict[str, Tensor]) -> Cameras:
    """The fixture's OpenGL pose as one of ours (batch, view)."""
    extrinsics = inputs["pose"] @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    focal = float(inputs["focal"]) / 128
    # The authors ignore the principal point: another one must not matter.
    intrinsics = torch.tensor([[focal, 0, 0.4], [0, focal, 0.7], [0, 0, 1]])
    near, far = inputs["near_far"]
    return Cameras(extrinsics, intrinsics, near, far).reshape(1, 1)


def check(outputs: dict[str, Tensor], name: str, value: Tensor) -> None:
    atol = load_meta(fixture_folder("codenerf"))["tolerance"]["suggested_atol"][name]
    torch.testing.assert_close(value, outputs[name], rtol=0, atol=atol)


def flat_pixels(inputs: dict[str, Tensor]) -> Tensor:
    column, row = inputs["pixels"].unbind(-1)
    return (row * SIZE[1] + column)[None, None]


def test_every_published_tensor_has_its_place() -> None:
    keys = json.loads((fixture_folder("codenerf") / "keys.json").read_text())
    lost = [key for key in keys if rename(key.removeprefix("model_params.")) is None]
    assert lost == ["shape_code_params.weight", "texture_code_params.weight"]


@torch.no_grad()
def test_rays_and_samples(method: CodeNeRF, inputs, outputs, camera: Cameras) -> None:
    scene = method.object_scene(inputs["instance"])
    positions = inputs["z_vals"][None, None]
    samples = scene.sampling.samples(camera, SIZE, flat_pixels(inputs), positions)
    check(outputs, "ray_origins", samples.origins[0, 0])
    check(outputs, "ray_dirs", samples.unit_directions()[0, 0])
    points = samples.points()[0, 0, :, ::8]
    directions = outputs["ray_dirs"][:, None].expand_as(points)
    density, color = method.network(
        points.flatten(0, 1)[None],
        directions.flatten(0, 1)[None],
        scene.shapes,
        scene.textures,
    )
    check(outputs, "sample_sigma", density[0].unflatten(0, (8, 12)))
    check(outputs, "sample_rgb", color[0].unflatten(0, (8, 12)))


@torch.no_grad()
def test_pixels(method: CodeNeRF, inputs, outputs, camera: Cameras) -> None:
    scene = method.object_scene(inputs["instance"])
    pixels, positions = flat_pixels(inputs), inputs["z_vals"][None, None]
    found = scene.render_samples(camera, SIZE, pixels, positions)
    check(outputs, "rgb", found.extras["linear"][0, 0])
    # Ours is depth, theirs is distance.
    per_distance = scene.sampling.samples(camera, SIZE, pixels, positions)
    assert found.depth is not None
    distance = found.depth / per_distance.depth_per_position
    check(outputs, "depth", distance[0, 0])
    # The last interval is endless, so every ray ends in matter.
    assert found.opacity is not None
    torch.testing.assert_close(found.opacity, torch.ones(1, 1, 8))
    # Public colours are clamped.
    clamped = found.extras["linear"].clamp(0, 1)
    assert torch.equal(found.color, clamped) and not torch.equal(
        clamped, found.extras["linear"]
    )


def test_positions_without_jitter(method: CodeNeRF, outputs, camera: Cameras) -> None:
    sampling = method.config.sampling
    found = sampling.positions(camera.near, camera.far)
    check(outputs, "z_fixed", found[0, 0])


def test_jitter_of_the_authors(method: CodeNeRF, inputs, camera: Cameras) -> None:
    """One vector per image: evenly spaced, and each moved by up to half a bin."""
    sampling, half = method.config.sampling, 1.0 / 192
    assert sampling.num_samples == 96 and sampling.quadrature == "open"
    start = torch.linspace(0.8 + half, 1.8 - half, 96)
    generator = torch.Generator().manual_seed(0)
    found = sampling.positions(camera.near, camera.far, generator)[0, 0]
    assert ((found - start) > -1e-6).all() and ((found - start) < half + 1e-6).all()
    assert (found - start).std() > 0.2 * half
    # The fixture's positions obey the same rule.
    moved = inputs["z_vals"] - start
    assert (moved > -1e-6).all() and (moved < half + 1e-6).all()
