"""Grids fitted to images, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.encoders.grid_fitting import (
    GridFitConfig,
    GridStore,
    draw_rays,
    fit_grids,
    fit_missing,
    roughness,
)
from unseen.errors import UserError
from unseen.geometry.views import Views
from unseen.scenes.grid_space import GridSpace

SPACE = GridSpace(resolution=8, num_samples=16)
CONFIG = GridFitConfig(num_steps=40, rays=128, learning_rate=0.1)


def ball_views(color: tuple[float, float, float], num_views: int = 5) -> Views:
    """Views of a coloured ball on white."""
    grid = torch.full((1, *SPACE.shape), -1.0)
    axis = (torch.arange(8) + 0.5) / 4 - 1
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    grid[0, 0] = torch.where(x**2 + y**2 + z**2 < 0.4, 1.0, -1.0)
    grid[0, 1:] = torch.tensor(color)[:, None, None, None]
    angles = torch.arange(num_views).float()
    elevations = 0.2 * torch.ones(num_views)
    cameras = sphere_cameras(angles, elevations, torch.tensor(0.7))
    images = SPACE.scene(grid)[0].render(cameras, (12, 12)).color
    return Views(images.detach(), cameras)


@pytest.fixture(scope="module")
def views() -> list[Views]:
    """Of two balls; of the second there are fewer."""
    return [ball_views((1.0, -1.0, -1.0)), ball_views((-1.0, -1.0, 1.0), 4)]


def test_fitted_grids_look_like_their_images(views) -> None:
    grids = fit_grids(views, SPACE, CONFIG, seeds=[3, 4])
    assert grids.shape == (2, *SPACE.shape) and grids.abs().max() <= 1
    for grid, shown in zip(grids, views, strict=True):
        found = SPACE.scene(grid[None])[0].render(shown.cameras, (12, 12)).color
        error = (found - shown.images).square().mean()
        spread = (1 - shown.images).square().mean()
        assert error < 0.1 * spread
    # Red is red and blue is blue in the middle.
    assert grids[0, 1, 4, 4, 4] > grids[0, 3, 4, 4, 4]
    assert grids[1, 3, 4, 4, 4] > grids[1, 1, 4, 4, 4]
    # An object is fitted as if alone.
    alone = fit_grids(views[1:], SPACE, CONFIG, seeds=[4])
    torch.testing.assert_close(alone[0], grids[1], rtol=0, atol=1e-3)


def test_rays_show_what_the_images_show(views) -> None:
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    rays = draw_rays(views, 50, generators)
    assert rays.pixels.shape == (2, 50) and rays.cameras.shape == (2, 50)
    centers = views[1].cameras.centers
    for k in range(50):
        view = int((centers - rays.cameras.centers[1, k]).norm(dim=-1).argmin())
        pixel = int(rays.pixels[1, k])
        color = views[1].images[view, :, pixel // 12, pixel % 12]
        assert torch.equal(rays.colors[1, k], color)


def test_roughness() -> None:
    grid = torch.zeros(2, 1, 2, 2, 2)
    grid[1, 0, :, :, 1] = 3.0  # all four pairs along the width differ by 3
    assert roughness(grid).tolist() == [0.0, 9.0]


def test_what_is_missing_is_fitted_and_kept(views, tmp_path: Path) -> None:
    config = GridFitConfig(num_steps=1, rays=8, objects_at_once=2)
    names, settings = ("a", "b", "c"), {"size": 8}
    store = GridStore(tmp_path / "grids", names, settings)
    assert store.missing() == [0, 1, 2]
    kept = torch.rand(SPACE.shape)
    store.write(1, kept)
    loaded, reports = [], []

    def load(number: int) -> Views:
        loaded.append(number)
        return views[0]

    def report(done: int, total: int) -> None:
        reports.append((done, total))

    again = GridStore(tmp_path / "grids", names, settings)
    fit_missing(again, load, SPACE, config, report)
    assert loaded == [0, 2] and reports == [(1, 3), (3, 3)]
    assert again.missing() == []
    fit_missing(again, load, SPACE, config, report)
    assert loaded == [0, 2] and len(reports) == 2
    found = again.read(torch.tensor([1, 2]))
    assert found.shape == (2, *SPACE.shape)
    torch.testing.assert_close(found[0], kept, rtol=0, atol=1e-3)


def test_wrong_folders_and_objects_are_refused(tmp_path: Path) -> None:
    store = GridStore(tmp_path, ("a", "b"), {"size": 8})
    with pytest.raises(UserError, match="grids of other objects"):
        GridStore(tmp_path, ("a", "c"), {"size": 8})
    with pytest.raises(UserError, match="grids of other settings"):
        GridStore(tmp_path, ("a", "b"), {"size": 16})
    with pytest.raises(UserError, match="which object is which"):
        store.read(None)
    with pytest.raises(UserError, match="no grid was fitted to"):
        store.read(torch.tensor([2]))
    with pytest.raises(UserError, match="does not exist"):
        store.read(torch.tensor([0]))
    store.write(0, torch.zeros(SPACE.shape))
    store.write(1, torch.zeros(4, 2, 2, 2))
    with pytest.raises(UserError, match="differ in size"):
        store.read(torch.tensor([0, 1]))
    store.write(1, torch.full(SPACE.shape, torch.nan))
    with pytest.raises(UserError, match="not finite"):
        store.read(torch.tensor([1]))
