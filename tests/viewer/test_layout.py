"""Scenes side by side: all show the side that the camera would see in the middle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unseen.geometry.cameras import look_at
from unseen.geometry.projection import project
from unseen.viewer.layout import (
    Viewpoint,
    Window,
    arrange,
    choose_columns,
    find_window,
    pose,
    rigid,
    viewing_distance,
    window_camera,
)
from unseen.viewer.sample import Sphere

SPHERE = Sphere(torch.tensor([0.2, -0.1, 0.3]), 1.2)
SIZE = (90, 160)


def viewpoint(distance: float = 9.0, azimuth: float = 0.7) -> Viewpoint:
    direction = torch.tensor([math.cos(azimuth), math.sin(azimuth), 0.4])
    center = SPHERE.center + distance * direction / direction.norm()
    return Viewpoint(look_at(center, SPHERE.center), math.radians(40), 16 / 9)


def test_a_pose_is_the_inverse_of_a_motion() -> None:
    motion = viewpoint().extrinsics
    torch.testing.assert_close(rigid(*pose(motion)), motion, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "count, aspect, columns",
    [(1, 1.5, 1), (4, 1.3, 2), (4, 5.0, 4), (2, 1.5, 2), (6, 1.5, 3)],
)
def test_columns_leave_most_room(count: int, aspect: float, columns: int) -> None:
    assert choose_columns(count, aspect) == columns


@given(st.integers(1, 9), st.floats(-3, 3))
@settings(deadline=None, max_examples=20)
def test_every_scene_shows_the_same_side(count: int, azimuth: float) -> None:
    view = viewpoint(azimuth=azimuth)
    toward = view.extrinsics[:3, 3] - SPHERE.center
    toward = toward / toward.norm()
    seen = []
    for motion in arrange(count, view, SPHERE):
        rotation = motion[:3, :3]
        torch.testing.assert_close(
            rotation.T @ rotation, torch.eye(3), atol=1e-5, rtol=0
        )
        local = torch.linalg.inv(motion) @ view.extrinsics
        direction = local[:3, 3] - SPHERE.center
        torch.testing.assert_close(
            direction / direction.norm(), toward, atol=1e-4, rtol=0
        )
        seen.append(motion[:3, :3] @ SPHERE.center + motion[:3, 3])
    # The grid is centred, and neighbours do not touch.
    middle = torch.stack(seen)
    assert count == 1 or torch.pdist(middle).min() > 2 * SPHERE.radius
    if choose_columns(count, view.aspect) * math.ceil(count / 3) == count:
        torch.testing.assert_close(middle.mean(0), SPHERE.center, atol=1e-4, rtol=0)


@given(st.integers(1, 9))
@settings(deadline=None, max_examples=9)
def test_all_scenes_are_in_view_from_the_viewing_distance(count: int) -> None:
    aspect = 16 / 9
    view = viewpoint(viewing_distance(count, SPHERE, math.radians(40), aspect))
    for motion in arrange(count, view, SPHERE):
        window = find_window(view, motion, SPHERE, (900, 1600))
        assert window is not None
        # Whole, up to the corners of what perspective enlarges.
        assert min(window.size) > 0.9 * max(window.size)


@given(st.floats(1.5, 20), st.integers(1, 5), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_a_window_holds_its_sphere(distance: float, count: int, seed: int) -> None:
    """Random points on the sphere project into the window, or out of the image."""
    view = viewpoint(distance)
    points = torch.randn(300, 3, generator=torch.Generator().manual_seed(seed))
    points = SPHERE.center + SPHERE.radius * points / points.norm(dim=-1, keepdim=True)
    for motion in arrange(count, view, SPHERE):
        window = find_window(view, motion, SPHERE, SIZE)
        whole = window_camera(
            view, motion, SPHERE, SIZE, Window(0, SIZE[0], 0, SIZE[1])
        )
        xy, depth = project(whole, points[None])
        x, y = xy[0, :, 0] * SIZE[1], xy[0, :, 1] * SIZE[0]
        visible = (depth[0] > 0) & (x > 0) & (x < SIZE[1]) & (y > 0) & (y < SIZE[0])
        if window is None:
            assert not visible.any()
            continue
        inside = (x >= window.left - 1e-3) & (x <= window.right + 1e-3)
        inside &= (y >= window.top - 1e-3) & (y <= window.bottom + 1e-3)
        assert inside[visible].all()
        # The window's own camera agrees with the whole picture's.
        part = window_camera(view, motion, SPHERE, SIZE, window)
        own, _ = project(part, points[None])
        height, width = window.size
        torch.testing.assert_close(
            own[0, visible] * torch.tensor([width, height])
            + torch.tensor([window.left, window.top]),
            torch.stack([x, y], -1)[visible],
            atol=0.05,
            rtol=1e-3,
        )


def test_bands_cover_a_window() -> None:
    window = Window(3, 40, 5, 25)
    bands = window.bands(100)
    rows = [row for band in bands for row in range(band.top, band.bottom)]
    assert rows == list(range(3, 40))
    assert all(band.size[0] * band.size[1] <= 100 for band in bands)
