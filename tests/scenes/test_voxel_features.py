"""Scenes of feature voxels: against a slow twin, in batches, on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_rays
from unseen.networks.render_mlp import RenderMLP, RenderMLPConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.voxel_features import VoxelFeatureScene, ball_range

SIZE = (5, 6)


@pytest.fixture
def scene(generator) -> VoxelFeatureScene:
    torch.manual_seed(0)
    decoder = RenderMLP(RenderMLPConfig(features=4, width=8, layers=2, skip=0))
    grid = 2 * torch.randn(2, 4, 6, 6, 6, generator=generator)
    sampling = CoarseFineSampling("endpoints", 8, 6, 0)
    background = torch.tensor([0.2, 0.5, 1.0])
    return VoxelFeatureScene(grid, decoder, 2.0, background, sampling)


@pytest.fixture
def cameras() -> Cameras:
    angles = torch.tensor([0.0, 1.0, 2.0] * 2)
    found = sphere_cameras(angles, torch.full((6,), 0.4), torch.tensor(0.7))
    return found.reshape(2, 3)


def slowly(scene: VoxelFeatureScene, camera: Cameras, pixel: int) -> torch.Tensor:
    """One pixel of one scene, sample by sample, all samples evaluated anew."""
    sampling = scene.sampling
    pixels = torch.tensor([[pixel]])
    origin, direction = (x[0, 0] for x in pixel_rays(camera[None], SIZE, pixels))
    direction = direction / direction.norm()
    near, far = (x[None] for x in ball_range(camera, 0.5 * scene.extent))

    def march(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        light, color, weights = torch.ones(()), torch.zeros(3), []
        for k, position in enumerate(positions):
            point = (origin + position * direction)[None]
            raw, value = scene.query(point, direction[None])
            last = k == len(positions) - 1
            length = 1e10 if last else positions[k + 1] - position
            alpha = 1 - torch.exp(-raw[0].relu() * length)
            weights.append(light * alpha)
            color = color + weights[-1] * value[0]
            light = light * (1 - alpha)
        return color + light * scene.background, torch.stack(weights)

    numbers = sampling.middle((1,))
    first = sampling.coarse_positions(near, far, numbers)
    _, weights = march(first[0])
    merged = sampling.fine_positions(first, weights[None], near, far, numbers)
    return march(merged[0])[0]


def test_rendering_is_the_slow_one(scene, cameras: Cameras, generator) -> None:
    one = scene[1]
    one.grid.requires_grad_()
    pixels = torch.tensor([[0, 8, 29]] * 3)
    found = one.render_pixels(cameras[1], SIZE, pixels)
    expected = torch.stack(
        [
            torch.stack([slowly(one, cameras[1, v], int(p)) for p in pixels[v]])
            for v in range(3)
        ]
    )
    torch.testing.assert_close(found.color, expected, rtol=0, atol=2e-5)
    assert found.opacity is not None and 0.1 < found.opacity.mean() < 0.999
    cotangent = torch.randn(expected.shape, generator=generator)
    weights = [one.grid, *one.decoder.parameters()]
    ours = torch.autograd.grad((found.color * cotangent).sum(), weights)
    theirs = torch.autograd.grad((expected * cotangent).sum(), weights)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_pixels_batches_and_files_render_alike(scene, cameras, tmp_path: Path) -> None:
    both, one = scene.render(cameras, SIZE), scene[1].render(cameras[1], SIZE)
    torch.testing.assert_close(both.color[1], one.color)
    assert one.depth is not None and both.depth is not None
    torch.testing.assert_close(both.depth[1], one.depth)
    pixels = torch.tensor([[0, 7, 29]] * 3)
    some = scene[1].render_pixels(cameras[1], SIZE, pixels).color.transpose(-1, -2)
    image = one.color.flatten(-2).gather(-1, pixels[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(some, image)

    save_scene(scene[1], tmp_path / "scene.safetensors")
    read = load_scene(tmp_path / "scene.safetensors")
    assert isinstance(read, VoxelFeatureScene)
    again, first = (s[None].render(cameras[1:], SIZE).color for s in (read, scene[1]))
    assert torch.equal(again, first)


@torch.no_grad()
def test_nothing_is_outside_of_the_cube_where_zero_decodes_to_nothing(scene) -> None:
    scene.decoder.density[-1].bias.fill_(-1e-3)
    torch.nn.init.zeros_(scene.decoder.density[0].bias)
    points = torch.tensor([[0.9, 0.0, 0.0], [1.3, 0.0, 0.0], [0.0, 0.0, -1.2]])
    raw, _ = scene[0].query(points, points / points.norm(dim=-1, keepdim=True))
    assert raw[0].abs() > 1e-2 and (raw[1:] == -1e-3).all()
    density, color = scene.evaluate(points.expand(2, 3, 3))
    assert (density >= 0).all() and (density[:, 1:] == 0).all()
    assert color.shape == (2, 3, 3)


def test_noise_and_jitter_come_from_the_generator(scene, cameras: Cameras) -> None:
    noisy = dataclasses.replace(scene, density_noise=1.0)
    pixels = torch.arange(30).expand(2, 3, -1)

    def drawn(which: VoxelFeatureScene, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return which.render_pixels(cameras, SIZE, pixels, generator).color

    assert torch.equal(drawn(noisy, 1), drawn(noisy, 1))
    assert not torch.allclose(drawn(noisy, 1), drawn(noisy, 2), atol=1e-3)
    assert not torch.allclose(drawn(noisy, 1), drawn(scene, 1), atol=1e-3)


def test_a_camera_inside_of_the_ball_sees_what_is_ahead() -> None:
    eye = torch.eye(4)
    eye[:3, 3] = torch.tensor([0.3, 0.0, 0.0])
    one = torch.ones(())
    near, far = ball_range(Cameras(eye, torch.eye(3), one, one), 1.0)
    assert 0 < near < 0.01 and far == pytest.approx(2.001)
