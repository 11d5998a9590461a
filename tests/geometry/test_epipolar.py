"""Epipolar geometry against projection."""

import torch
from hypothesis import given, settings

from tests.geometry.random_cameras import generators, random_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.epipolar import (
    epipolar_distance,
    epipolar_lines,
    fundamental_matrices,
)
from unseen.geometry.projection import project
from unseen.geometry.rays import get_rays

fast = settings(max_examples=25, deadline=None)


def corresponding_points(
    generator: torch.Generator,
) -> tuple[Cameras, Cameras, torch.Tensor, torch.Tensor]:
    """Two cameras and image points of the same world points, in front of both."""
    first, second = random_cameras(1, generator), random_cameras(1, generator)
    xy = torch.rand(1, 40, 2, generator=generator, dtype=torch.float64)
    depth = 1 + 4 * torch.rand(1, 40, 1, generator=generator, dtype=torch.float64)
    origins, directions = get_rays(first, xy)
    other, other_depth = project(second, origins + depth * directions)
    seen = other_depth[0] > 0.1
    return first, second, xy[:, seen], other[:, seen]


@fast
@given(generators)
def test_corresponding_points_lie_on_epipolar_lines(generator):
    first, second, xy, other = corresponding_points(generator)
    distance = epipolar_distance(first, second, xy, other)
    torch.testing.assert_close(distance, torch.zeros_like(distance))


@fast
@given(generators)
def test_the_distance_is_measured_across_the_line(generator):
    first, second, xy, other = corresponding_points(generator)
    lines = epipolar_lines(fundamental_matrices(first, second), xy)
    normal = lines[..., :2]
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones_like(normal[..., 0]))
    along = torch.stack([-normal[..., 1], normal[..., 0]], dim=-1)
    moved = other + 0.3 * normal + 0.7 * along
    distance = epipolar_distance(first, second, xy, moved)
    torch.testing.assert_close(distance, torch.full_like(distance, 0.3))


@fast
@given(generators)
def test_exchanging_the_cameras_transposes_the_matrix(generator):
    first, second = random_cameras(3, generator), random_cameras(3, generator)
    forth = fundamental_matrices(first, second)
    back = fundamental_matrices(second, first)
    torch.testing.assert_close(back, forth.transpose(-1, -2))
    # Rank two.
    determinant = torch.linalg.det(forth)
    torch.testing.assert_close(determinant, torch.zeros_like(determinant))
