"""Distances between sets of shapes, against spheres and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import object_cameras
from unseen.errors import UserError
from unseen.evaluation.point_sets import (
    chamfer_distance,
    chamfer_distances,
    coverage,
    minimum_matching_distance,
)
from unseen.evaluation.surfaces import depth_points, mesh_points
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views


def sphere(radius: float, count: int = 3000, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=generator)
    return radius * torch.nn.functional.normalize(points, dim=-1)


def test_concentric_spheres() -> None:
    """Every point of either lies the difference of the radii from the other."""
    found = chamfer_distance(sphere(0.5), sphere(0.8, seed=1))
    assert found == pytest.approx(2 * 0.3**2, rel=0.02)
    assert chamfer_distance(sphere(0.5), sphere(0.5)) == 0
    # Of one sphere, drawn twice, what is left is the spacing of the points.
    assert chamfer_distance(sphere(0.5), sphere(0.5, seed=1)) < 1e-3


def test_distances_by_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [torch.rand(n, 3, generator=generator) for n in (5, 7, 11)]
    steps: list[tuple[int, int]] = []
    found = chamfer_distances(shapes[:2], shapes, lambda *step: steps.append(step))
    for i, a in enumerate(shapes[:2]):
        for j, b in enumerate(shapes):
            each = torch.cdist(a.double(), b.double()).square()
            expected = each.amin(dim=0).mean() + each.amin(dim=1).mean()
            torch.testing.assert_close(found[i, j], expected)
    assert steps == [(1, 2), (2, 2)] and found.shape == (2, 3)
    with pytest.raises(UserError, match="without points"):
        chamfer_distance(shapes[0], torch.zeros(0, 3))


def test_coverage_and_matching_of_spheres() -> None:
    radii = (0.2, 0.4, 0.6, 0.8)
    references = [sphere(r, 2000) for r in radii]
    same = chamfer_distances([sphere(r, 2000, 1) for r in radii], references)
    assert coverage(same) == 1 and minimum_matching_distance(same) < 0.01
    # Samples that are all alike cover one reference, however many there are.
    alike = chamfer_distances([sphere(0.42, 2000, s) for s in range(5)], references)
    assert coverage(alike) == 0.25
    expected = 2 * sum((r - 0.42) ** 2 for r in radii) / 4
    assert minimum_matching_distance(alike) == pytest.approx(expected, rel=0.1)
    # More samples never match worse.
    both = torch.cat([same, alike])
    assert minimum_matching_distance(both) <= minimum_matching_distance(same)


def test_points_of_a_mesh_are_uniform_in_area() -> None:
    """A small and a large square: points fall on them in proportion to their areas."""
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = torch.cat([square, 3 * square + torch.tensor([0.0, 0, 5])])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    generator = torch.Generator().manual_seed(0)
    points = mesh_points(vertices, faces, 20_000, generator)
    upper = points[:, 2] == 5
    assert float(upper.float().mean()) == pytest.approx(0.9, abs=0.01)
    inner = points[upper][:, :2] / 3
    assert ((inner >= 0) & (inner <= 1)).all()
    assert inner.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert inner.std(dim=0).tolist() == pytest.approx([12**-0.5] * 2, abs=0.01)


def ball_views(radius: float, count: int = 60, size: int = 32) -> Views:
    """Depth maps of a ball at the origin, in closed form."""
    cameras = object_cameras(
        count, torch.Generator().manual_seed(0), elevation_range=(-80.0, 80.0)
    )
    origins, directions = image_rays(cameras, (size, size))
    a = directions.square().sum(dim=-1)
    b = (origins * directions).sum(dim=-1)
    discriminant = b**2 - a * (origins.square().sum(dim=-1) - radius**2)
    depth = (-b - discriminant.clamp(min=0).sqrt()) / a
    depths = torch.where(discriminant > 0, depth, 0.0).unflatten(-1, (size, size))
    return Views(torch.ones(count, 3, size, size), cameras, depths=depths)


def test_points_of_depth_maps_lie_on_the_surface() -> None:
    generator = torch.Generator().manual_seed(0)
    points = depth_points(ball_views(0.7), 800, generator)
    assert points.shape == (800, 3)
    assert (points.norm(dim=-1) - 0.7).abs().max() < 0.01
    # All around, although the cameras are where they are.
    assert points.mean(dim=0).norm() < 0.05
    assert chamfer_distance(points, sphere(0.7)) < 0.01
    many = depth_points(ball_views(0.7, 1, 8), 5000, generator)
    assert many.shape == (5000, 3) and math.isfinite(float(many.sum()))


def test_views_without_depths_or_surfaces() -> None:
    generator, views = torch.Generator().manual_seed(0), ball_views(0.5, 2, 8)
    with pytest.raises(UserError, match="no depth maps"):
        depth_points(Views(views.images, views.cameras), 10, generator)
    assert views.depths is not None
    empty = Views(views.images, views.cameras, depths=torch.zeros_like(views.depths))
    with pytest.raises(UserError, match="show no surface"):
        depth_points(empty, 10, generator)
