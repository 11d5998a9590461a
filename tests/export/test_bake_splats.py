"""Scenes that are known in closed form, baked into Gaussians."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.analytic_scene import ball, sky
from unseen.errors import UserError
from unseen.export.bake_splats import (
    BakeOptions,
    bake_splats,
    initial_gaussians,
    render_views,
)
from unseen.export.surrounding import random_views, surrounding_sphere
from unseen.scenes.gaussians import GaussianScene

OPTIONS = BakeOptions(max_gaussians=800, views=16, size=32, steps=40)
SCENE = ball(0.1, radius=0.6)


def error(scene: GaussianScene) -> float:
    """Mean square error of colour on views that no fit used."""
    cameras = random_views(SCENE, 4, 40.0, torch.Generator().manual_seed(77))
    truth = render_views(SCENE, cameras, (32, 32)).color
    return float((scene.render(cameras, (32, 32)).color - truth).square().mean())


def test_a_fit_looks_like_the_scene_from_elsewhere():
    baked = bake_splats(SCENE, OPTIONS)
    start = bake_splats(SCENE, dataclasses.replace(OPTIONS, steps=0))
    # The colour jumps across the ball, and 800 Gaussians are few.
    assert error(baked) < 1e-2, error(baked)
    assert error(baked) < 0.5 * error(start), error(start)
    assert baked.count <= 800
    assert torch.equal(baked.background, torch.ones(3))


def test_the_first_gaussians_lie_on_the_surface():
    generator = torch.Generator().manual_seed(0)
    cameras = random_views(SCENE, 12, 40.0, generator)
    views = render_views(SCENE, cameras, (48, 48))
    start = initial_gaussians(SCENE, cameras, views, OPTIONS)
    distance = (start.means - SCENE.center).norm(dim=-1)
    # Depth is that of 24 samples per ray, 2 / 24 apart.
    assert float((distance - 0.6).abs().mean()) < 0.05
    assert 400 < start.count <= 800
    _, expected = SCENE.evaluate(start.means)
    found = start.base_colors
    away = (start.means[:, 0] - 0.1).abs() > 0.15
    assert float((found - expected)[away].abs().mean()) < 0.06


def test_the_same_seed_gives_the_same_gaussians():
    options = dataclasses.replace(OPTIONS, steps=3, views=4)
    first, second = (bake_splats(SCENE, options) for _ in range(2))
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])
    other = bake_splats(SCENE, dataclasses.replace(options, seed=1))
    assert other.count != first.count or not torch.equal(other.means, first.means)


def test_progress_is_reported():
    seen = []
    options = dataclasses.replace(OPTIONS, steps=3, views=4, degree=1)
    baked = bake_splats(SCENE, options, lambda *done: seen.append(done))
    assert seen == [(i + 1, 7) for i in range(7)]
    assert baked.degree == 1 and bool(baked.harmonics[:, 1:].any())


def test_what_cannot_be_baked_is_refused():
    with pytest.raises(UserError, match="SkyScene renders no depth"):
        bake_splats(sky(), OPTIONS)
    with pytest.raises(UserError, match="scene is empty"):
        bake_splats(ball(peak=0.1), OPTIONS)


def test_the_sphere_around_scenes():
    center, radius = surrounding_sphere(SCENE)
    assert radius == 1.0 and not center.any()
    baked = bake_splats(SCENE, dataclasses.replace(OPTIONS, steps=0, views=4))
    shift = torch.tensor([5.0, 0.0, 2.0])
    moved = dataclasses.replace(
        baked,
        means=3 * baked.means + shift,
        log_scales=baked.log_scales + torch.tensor(3.0).log(),
    )
    center, radius = surrounding_sphere(moved)
    expected = 3 * SCENE.center + shift
    assert float((center - expected).norm()) < 0.2
    assert 3 * 0.6 < radius < 3 * 0.8


def test_the_sphere_around_a_fog_holds_its_box():
    fog = ball(peak=0.01)
    center, radius = surrounding_sphere(fog)
    corners = fog.bounds()
    assert float((corners - center).norm(dim=-1).max()) <= radius
