"""The grid of densities and values: its field, background, colours and file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.distillation.representations import ValueGrid
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.value_grid import ValueGridScene


def scene_of(generator, channels: int = 4) -> ValueGridScene:
    grid = ValueGrid(resolution=8, channels=channels, num_samples=40)
    return grid.scene(grid.start(generator), 0)


def camera():
    return sphere_cameras(torch.zeros(1), torch.zeros(1), torch.tensor(0.5))


def test_density_and_values_at_a_voxel(generator) -> None:
    scene = scene_of(generator)
    density = torch.randn(8, 8, 8, generator=generator)
    scene = dataclasses.replace(scene, density=density, log_gain=torch.tensor(0.7))
    # Voxel (z 2, y 5, x 6) of 8 along an axis of length 2.
    point = torch.tensor([[-1 + 0.25 * 6.5, -1 + 0.25 * 5.5, -1 + 0.25 * 2.5]])
    found, color = scene.evaluate(point)
    wanted = torch.nn.functional.softplus(density[2, 5, 6] * math.exp(0.7) - 1)
    torch.testing.assert_close(found[0], wanted)
    latent = scene.values[:, 2, 5, 6]
    torch.testing.assert_close(color[0], latent[:3].clamp(0, 1))
    assert not scene.evaluate(point + 2)[0].any()


def test_latents_are_composited_as_they_are(generator) -> None:
    """Behind an opaque box of one latent, that latent; around it the background's."""
    scene = scene_of(generator)
    latent = torch.tensor([2.0, -3.0, 0.5, 7.0])
    values = latent[:, None, None, None].expand(-1, 8, 8, 8)
    # Values fall off outside of the outermost voxels' centres: no matter is there.
    density = torch.full((8, 8, 8), -40.0)
    density[2:6, 2:6, 2:6] = 40
    solid = dataclasses.replace(scene, values=values, density=density)
    look = solid.see(camera(), (9, 9))
    torch.testing.assert_close(look.image[0, :, 4, 4], latent, rtol=1e-3, atol=1e-3)
    empty = dataclasses.replace(scene, density=scene.density - 40)
    torch.testing.assert_close(
        empty.see(camera(), (9, 9)).image, empty.see(camera(), (9, 9)).background
    )
    found = solid.render(camera(), (9, 9))
    assert found.features is not None and found.color.max() <= 1
    torch.testing.assert_close(found.features, look.image)


def test_the_background_has_no_seam(generator) -> None:
    scene = scene_of(generator)
    angle = torch.tensor([math.pi - 1e-4, -math.pi + 1e-4, 0.3])
    direction = torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=-1)
    values = scene._behind(direction)
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-2)
    assert not torch.allclose(values[0], values[2], atol=1e-2)


def test_three_values_are_colours(generator) -> None:
    scene = scene_of(generator, channels=3)
    assert not scene.holds_latents
    found = scene.render(camera(), (6, 6))
    assert found.features is None
    assert found.color.min() >= 0 and found.color.max() <= 1
    torch.testing.assert_close(found.color, scene.see(camera(), (6, 6)).image)


def test_it_is_saved(generator, tmp_path: Path) -> None:
    scene, path = scene_of(generator), tmp_path / "scene.safetensors"
    save_scene(scene, path)
    again = load_scene(path)
    assert torch.equal(
        again.render(camera(), (5, 5)).color, scene.render(camera(), (5, 5)).color
    )
    tensors, metadata = read_tensors(path)
    write_tensors(path, {**tensors, "density": tensors["density"][1:]}, metadata)
    with pytest.raises(UserError, match="different sizes"):
        load_scene(path)
