"""The voxel scene: its field in closed form, its renderings, its file."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch.nn import functional

from unseen.data.cameras import sphere_cameras
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.voxel_radiance import BIAS, VoxelRadianceScene

BOX = torch.tensor([[-1.0, -0.5, 0.0], [1.0, 0.5, 1.0]])


def test_the_field_is_interpolated_before_its_nonlinearities() -> None:
    grid = torch.zeros(4, 2, 4, 8)
    grid[0] = torch.arange(8.0)  # evidence grows along x
    grid[1] = torch.arange(4.0)[:, None]  # and red along y
    grid[3] = torch.arange(2.0)[:, None, None]  # and blue along z
    scene = VoxelRadianceScene(grid, BOX, torch.ones(3))
    # Voxel centres along x are at -1 + 0.25 (i + 0.5): this is half-way from 2 to 3.
    point = torch.tensor([[-0.25, 0.125, 0.25], [1.01, 0.0, 0.5]])
    density, color = scene.evaluate(point)
    expected = functional.softplus(torch.tensor(2.5 + BIAS)) / (1.0 / 8)
    assert torch.allclose(density, torch.stack([expected, torch.tensor(0.0)]))
    assert torch.allclose(color[0], torch.tensor([2.0, 0.0, 0.0]).sigmoid(), atol=1e-6)


def test_a_homogeneous_box_absorbs_by_its_thickness() -> None:
    grid = torch.zeros(4, 4, 4, 4)
    grid[0, :], grid[1, :] = 1 - BIAS, 50.0
    box = torch.tensor([[-0.5] * 3, [0.5] * 3])
    scene = VoxelRadianceScene(grid, box, torch.zeros(3), num_samples=400)
    camera = sphere_cameras(torch.zeros(1), torch.zeros(1), torch.tensor(0.5))
    found = scene.render(camera, (1, 1))
    assert found.opacity is not None
    density = math.log1p(math.e) / 0.25
    # Evidence falls off outside of the outermost voxel centres, half a voxel in.
    middle = 1 - math.exp(-density * 0.75)
    assert middle < float(found.opacity) < 1 - math.exp(-density)
    assert torch.allclose(
        found.color[0, 0], found.opacity[0], atol=1e-5
    )  # red before black


def test_pixels_batches_and_files_render_alike(
    tmp_path: Path, generator: torch.Generator
) -> None:
    grid = 4 * torch.randn(2, 4, 6, 6, 6, generator=generator)
    scenes = VoxelRadianceScene(grid, BOX, torch.tensor([0.2, 0.5, 1.0]), 24)
    angles = torch.tensor([[0.0, 1.0, 2.0]] * 2)
    cameras = sphere_cameras(
        angles.flatten(), torch.full((6,), 0.4), torch.tensor(0.7)
    ).reshape(2, 3)
    both = scenes.render(cameras, (5, 6))
    one = scenes[1].render(cameras[1], (5, 6))
    assert torch.allclose(both.color[1], one.color, atol=1e-6)
    pixels = torch.tensor([[[0, 7, 29]] * 3] * 2)
    some = scenes.render_pixels(cameras, (5, 6), pixels)
    image = both.color.flatten(-2).gather(-1, pixels[:, :, None].expand(-1, -1, 3, -1))
    assert torch.allclose(some.color.transpose(-1, -2), image, atol=1e-5)

    save_scene(scenes[1], tmp_path / "scene.safetensors")
    read = load_scene(tmp_path / "scene.safetensors")
    assert isinstance(read, VoxelRadianceScene) and read.num_samples == 24
    assert torch.equal(read.render(cameras[1], (5, 6)).color, one.color)
