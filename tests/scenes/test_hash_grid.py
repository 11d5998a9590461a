"""The hash-grid scene: blob, normals, light, what is skipped, its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.distillation.representations import HashGrid
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.rendering.hash_encoding import HashLayout
from unseen.scenes.hash_grid import HashGridConfig, HashGridScene
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.look import Lighting

LAYOUT = HashLayout(levels=3, log2_rows=10, coarsest=4, growth=1.6)


def scene_of(generator, sky: bool = False, **settings) -> HashGridScene:
    config = HashGridConfig(LAYOUT, num_samples=96, **settings)
    grid = HashGrid(config, width=16, sky=sky, background=(0.2, 0.4, 0.6))
    return grid.scene(grid.start(generator), 0)


def cameras(count: int = 2):
    angles = torch.linspace(0, 4, count)
    return sphere_cameras(angles, torch.full((count,), 0.3), torch.tensor(0.7))


def test_a_new_scene_is_its_blob(generator) -> None:
    points = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.3, 0.0], [0.6, 0.0, 0.0]])
    reach = points.norm(dim=-1)
    cone, _ = scene_of(generator).evaluate(points)
    wanted = torch.nn.functional.softplus(10 * (1 - reach / 0.5))
    torch.testing.assert_close(cone, wanted, rtol=1e-2, atol=1e-3)
    settings = {"activation": "exp", "blob": "gaussian"}
    settings |= {"blob_scale": 5.0, "blob_width": 0.2}
    ball, color = scene_of(generator, **settings).evaluate(points)
    wanted = torch.exp(5 * torch.exp(-(reach**2) / 0.08))
    torch.testing.assert_close(ball, wanted, rtol=1e-2, atol=1e-3)
    assert (color - 0.5).abs().max() < 0.01
    outside = torch.tensor([[1.01, 0, 0], [0, -1.2, 0]])
    assert not scene_of(generator).evaluate(outside)[0].any()


@pytest.mark.parametrize("normals", ["analytic", "finite"])
def test_normals_of_a_ball_point_outwards(generator, normals) -> None:
    scene = scene_of(generator, normals=normals)
    points = torch.nn.functional.normalize(
        torch.randn(50, 3, generator=generator), dim=-1
    )
    found = scene.normals(0.4 * points)
    assert ((found * points).sum(-1) > 0.995).all()


@pytest.mark.parametrize("normals", ["analytic", "finite"])
def test_normals_carry_gradients(generator, normals) -> None:
    scene = scene_of(generator, normals=normals)
    table = (1e3 * scene.table).requires_grad_()
    scene = dataclasses.replace(scene, table=table)
    points = 0.4 * torch.rand(20, 3, generator=generator) - 0.2
    (gradient,) = torch.autograd.grad(scene.normals(points)[:, 0].sum(), table)
    assert gradient.abs().sum() > 0 and gradient.isfinite().all()


def test_both_kinds_of_normals_agree(generator) -> None:
    rough = scene_of(generator, normals="analytic")
    rough = dataclasses.replace(rough, table=2e3 * rough.table)
    settings = dataclasses.replace(rough.settings, normals="finite", step=1e-3)
    finite = dataclasses.replace(rough, settings=settings)
    points = 0.6 * torch.rand(200, 3, generator=generator) - 0.3
    cosine = (rough.normals(points) * finite.normals(points)).sum(-1)
    # Steps over a cell's face see two slopes.
    assert cosine.median() > 0.9999 and (cosine > 0.99).float().mean() > 0.9


def test_light_falls_from_the_side_that_it_is_on(generator) -> None:
    scene, camera = scene_of(generator), cameras(1)
    plain = scene.see(camera, (24, 24))
    right = camera.extrinsics[:, :3, 0]
    light = Lighting(camera.centers + 5 * right, ambient=0.1, textureless=True)
    lit = scene.see(camera, (24, 24), light)
    solid = plain.opacity[0] > 0.9
    columns = torch.where(solid, lit.values[0].mean(0), 0).sum(0) / solid.sum(0)
    columns = columns[solid.any(0)]
    assert columns[-3] > columns[2] + 0.15
    # Surfaces face the camera, or light passes them: little faces away.
    facing = scene.see(camera, (24, 24), with_normals=True).orientation
    assert facing is not None and 0 <= float(facing) < 0.05


def test_skipping_what_is_empty_changes_next_to_nothing(generator) -> None:
    scene = scene_of(generator, sky=True)
    pruned = scene.find_occupied(20, 1e-3)
    assert 0 < pruned.occupied.mean() < 0.5
    full, skipped = scene.see(cameras(), (16, 16)), pruned.see(cameras(), (16, 16))
    torch.testing.assert_close(skipped.image, full.image, rtol=0, atol=5e-3)
    assert (pruned.bounds().abs() < 0.95).all() and (scene.bounds().abs() == 1).all()


def test_it_is_saved_and_renders_as_it_looks(generator, tmp_path: Path) -> None:
    scene = scene_of(generator, sky=True, active_levels=2).find_occupied(16, 1e-3)
    path = tmp_path / "scene.safetensors"
    save_scene(scene, path)
    loaded = load_scene(path)
    found, again = scene.render(cameras(), (9, 8)), loaded.render(cameras(), (9, 8))
    assert torch.equal(found.color, again.color)
    look = scene.see(cameras(), (9, 8))
    torch.testing.assert_close(found.color, look.image)
    torch.testing.assert_close(found.depth, look.depth)
    pixels = torch.tensor([[3, 50], [0, 71]])
    few = scene.render_pixels(cameras(), (9, 8), pixels)
    wanted = found.color.flatten(-2).transpose(1, 2)
    torch.testing.assert_close(few.color[1, 1], wanted[1, 71])
    tensors, metadata = read_tensors(path)
    write_tensors(path, {**tensors, "table": tensors["table"][1:]}, metadata)
    with pytest.raises(UserError, match="table has shape"):
        load_scene(path)
