"""Triplane scenes: look-ups, fog whose absorption is known, files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from unseen.data.cameras import object_camera, object_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.networks.triplane_decoder import TriplaneDecoder, TriplaneDecoderConfig
from unseen.scenes.io import load_scene
from unseen.scenes.scene import Scene
from unseen.scenes.triplane import TriplaneScene
from unseen.scenes.triplane_sampling import TriplaneSampling

BOX = torch.tensor([[-0.5, -0.7, -0.4], [0.5, 0.7, 0.4]])
QUADRATURES = ("midpoint", "endpoint")


def scene(batch: tuple[int, ...] = (), **sampling) -> TriplaneScene:
    """Random planes and a decoder under which they are partly dense."""
    torch.manual_seed(0)
    decoder = TriplaneDecoder(TriplaneDecoderConfig(6, 8, gain=32.0))
    torch.nn.init.normal_(decoder.out.weight, std=0.5)
    planes = 2 * torch.randn(*batch, 3, 6, 9, 11)
    rays = TriplaneSampling(**{"num_uniform": 24, "num_importance": 8, **sampling})
    return TriplaneScene(planes, decoder, BOX, torch.ones(3), rays)


def fog(density: float, quadrature: str) -> TriplaneScene:
    """Grey, and everywhere in the box of one density."""
    made = scene(num_uniform=256, num_importance=64, quadrature=quadrature)
    for parameter in made.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    bias = math.log(math.expm1(density))
    config = dataclasses.replace(made.decoder.config, bias=bias)
    made.decoder.config = config
    return made


def around(count: int) -> Cameras:
    return object_cameras(count, torch.Generator().manual_seed(1))


def test_features_are_those_of_grid_sample() -> None:
    made = scene((2,))
    points = 1.3 * (2 * torch.rand(2, 40, 3) - 1)
    place = points / BOX[1]
    expected = torch.zeros(2, 40, 6)
    for plane, axes in enumerate(([0, 1], [0, 2], [1, 2])):
        found = functional.grid_sample(
            made.planes[:, plane], place[:, None][..., axes], align_corners=False
        )
        expected += found[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(made.features(points), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(made[1].features(points[1]), expected[1])


def test_planes_stand_in_the_worlds_axes() -> None:
    """Moving a point along an axis changes what the planes of that axis say alone."""
    made = scene()
    for plane, axes in enumerate(((0, 1), (0, 2), (1, 2))):
        only = torch.zeros_like(made.planes)
        only[plane] = made.planes[plane]
        alone = dataclasses.replace(made, planes=only)
        points = 0.3 * torch.rand(1, 3)
        for axis in range(3):
            moved = points + 0.05 * torch.eye(3)[axis]
            change = (alone.features(moved) - alone.features(points)).abs().max()
            assert (change > 1e-4) == (axis in axes)


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_fog_absorbs_what_it_should(quadrature: str) -> None:
    density, camera = 1.5, object_camera(40.0, 25.0)
    made = fog(density, quadrature)
    size = (9, 9)
    origins, directions = image_rays(camera, size)
    # Where rays cross the box, by slabs.
    ends = (BOX[:, None, None] - origins) / directions
    enter, leave = ends.amin(dim=0).amax(dim=-1), ends.amax(dim=0).amin(dim=-1)
    length = (leave - enter).clamp(min=0)
    if quadrature == "midpoint":
        length = length * directions.norm(dim=-1)
    expected = (1 - torch.exp(-density * length)).unflatten(-1, size)
    for found in (made.render(camera, size), made.render_plain(camera, size)):
        assert found.opacity is not None and found.depth is not None
        torch.testing.assert_close(found.opacity, expected, atol=0.02, rtol=0)
        # Grey over white.
        grey = 1 - 0.5 * found.opacity
        torch.testing.assert_close(found.color.mean(dim=1), grey, atol=1e-3, rtol=0)
    assert float(expected.max()) > 0.5 and float(expected.min()) == 0


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_pictures_are_those_of_all_samples(quadrature: str) -> None:
    made, cameras = scene((2,), quadrature=quadrature), around(4).reshape(2, 2)
    made = dataclasses.replace(
        made, sampling=dataclasses.replace(made.sampling, max_points=700)
    )
    with torch.no_grad():
        plain = made.render_plain(cameras, (12, 10))
        shown = made.render(cameras, (12, 10))
    assert plain.opacity is not None and shown.opacity is not None
    assert 0.03 < float(plain.opacity.mean()) < 0.9
    # Cells are called empty that absorb less than a thousandth; without their fog, a
    # few importance samples go elsewhere.
    assert (shown.color - plain.color).abs().mean() < 1e-3
    assert (shown.color - plain.color).abs().max() < 0.1
    # Single scenes of a batch are what they are in it.
    alone = made[1].render(cameras[1], (12, 10))
    torch.testing.assert_close(alone.color, shown.color[1])


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_gradients_reach_planes_and_decoder(quadrature: str) -> None:
    made = scene((2,), quadrature=quadrature)
    planes = made.planes.clone().requires_grad_()
    made = dataclasses.replace(made, planes=planes)
    pixels = torch.arange(30).expand(2, 1, -1)
    generator = torch.Generator().manual_seed(0)
    found = made.render_pixels(around(2)[:, None], (8, 8), pixels, generator)
    cotangent = torch.randn(found.color.shape, generator=generator)
    (found.color * cotangent).sum().backward()
    assert planes.grad is not None and (planes.grad.abs().amax(dim=(2, 3, 4)) > 0).all()
    for parameter in made.decoder.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
    # Jitter is the generator's.
    first, again, other = (
        made.render_pixels(
            around(2)[:, None], (8, 8), pixels, torch.Generator().manual_seed(seed)
        ).color
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_file_renders_identically(tmp_path: Path) -> None:
    made, cameras = scene(quadrature="endpoint"), around(2)
    made.save(tmp_path / "scene.safetensors")
    loaded: Scene = load_scene(tmp_path / "scene.safetensors")
    assert isinstance(loaded, TriplaneScene) and loaded.sampling == made.sampling
    size = (10, 12)
    assert torch.equal(
        loaded.render(cameras, size).color, made.render(cameras, size).color
    )


def test_a_surface_can_be_extracted(tmp_path: Path) -> None:
    """Being a field, a triplane becomes a mesh and splats."""
    made = fog(60.0, "midpoint")
    made.save(tmp_path / "box.glb")
    import trimesh

    mesh = trimesh.load(tmp_path / "box.glb", force="mesh")
    # The box itself; glTF's axes are not ours.
    sides = sorted(float(x) for x in mesh.extents)
    assert sides == pytest.approx([0.8, 1.0, 1.4], abs=0.05)
    low, high = made.bounds()
    torch.testing.assert_close(torch.stack([low, high]), BOX, atol=0.03, rtol=0)


def test_nothing_is_outside_of_the_box() -> None:
    made = fog(5.0, "midpoint")
    points = torch.tensor([[0.0, 0, 0], [0.51, 0, 0], [0, 0.69, 0], [0, 0, -0.41]])
    density, color = made.evaluate(points)
    assert (density > 4).tolist() == [True, False, True, False]
    assert (density[~(density > 4)] == 0).all() and ((color >= 0) & (color <= 1)).all()
