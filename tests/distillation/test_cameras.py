"""Camera priors keep to their intervals, and lights stay around the cameras."""

from __future__ import annotations

import math

import pytest
import torch

from unseen.distillation.cameras import (
    CameraPrior,
    light_positions,
    sample_viewpoints,
)
from unseen.errors import UserError
from unseen.geometry.cameras import look_at


def test_directions_and_distances_are_in_their_intervals(generator) -> None:
    prior = CameraPrior(elevation=(-10.0, 45.0), distance=(1.5, 2.0), fov=(40.0, 70.0))
    seen = sample_viewpoints(prior, 2000, generator)
    centers = seen.cameras.centers
    reach = centers.norm(dim=-1)
    assert 1.5 <= reach.min() < 1.52 and 1.98 < reach.max() <= 2.0001
    elevation = torch.rad2deg(torch.asin(centers[:, 2] / reach))
    torch.testing.assert_close(elevation, seen.elevation, rtol=0, atol=1e-3)
    assert elevation.min() > -10.01 and elevation.max() < 45.01
    azimuth = torch.rad2deg(torch.atan2(centers[:, 1], centers[:, 0]))
    torch.testing.assert_close(azimuth, seen.azimuth, rtol=0, atol=1e-2)
    # Azimuths are spread: one in every 2000th of the circle.
    assert azimuth.sort().values.diff().max() < 2 * 360 / 2000 + 1e-3
    fov = 2 * torch.atan(0.5 / seen.cameras.intrinsics[:, 0, 0])
    assert torch.rad2deg(fov).min() >= 40 and torch.rad2deg(fov).max() <= 70.001
    # Undisturbed cameras look at the origin, upright.
    wanted = look_at(centers, torch.zeros(3))
    torch.testing.assert_close(seen.cameras.extrinsics, wanted)
    assert (seen.cameras.near < reach).all() and (seen.cameras.far > reach).all()


def test_even_area_and_even_angle_differ(generator) -> None:
    interval = (0.0, 90.0)
    area = CameraPrior(elevation=interval, elevations="area")
    heights = sample_viewpoints(area, 4000, generator).cameras.centers
    heights = heights[:, 2] / heights.norm(dim=-1)
    assert abs(float(heights.mean()) - 0.5) < 0.02  # even in height
    even = CameraPrior(elevation=interval, elevations="even")
    angles = sample_viewpoints(even, 4000, generator).elevation
    assert abs(float(angles.mean()) - 45) < 1.5
    mixed = sample_viewpoints(CameraPrior(elevation=interval), 4000, generator)
    assert 33 < float(mixed.elevation.mean()) < 45


@pytest.mark.parametrize("unit", ["tangent", "sine"])
def test_a_unit_sphere_fills_the_field_of_view(generator, unit) -> None:
    prior = CameraPrior(distance=(1.0, 1.0), distance_unit=unit, fov=(20.0, 60.0))
    cameras = sample_viewpoints(prior, 100, generator).cameras
    half = torch.atan(0.5 / cameras.intrinsics[:, 0, 0])
    reach = cameras.centers.norm(dim=-1)
    ratio = half.tan() if unit == "tangent" else half.sin()
    torch.testing.assert_close(reach * ratio, torch.ones(100))


def test_groups_look_from_all_sides_at_one_height(generator) -> None:
    prior = CameraPrior(group=4, fov=(15.0, 60.0), elevation=(0.0, 30.0))
    seen = sample_viewpoints(prior, 8, generator)
    azimuth = seen.azimuth.unflatten(0, (2, 4))
    gaps = azimuth.sort(dim=1).values.diff(dim=1)
    torch.testing.assert_close(gaps, torch.full_like(gaps, 90), rtol=0, atol=1e-3)
    elevation = seen.elevation.unflatten(0, (2, 4))
    assert (elevation == elevation[:, :1]).all() and elevation[0, 0] != elevation[1, 0]
    with pytest.raises(ValueError, match="groups of 4"):
        sample_viewpoints(prior, 6, generator)


def test_disturbed_cameras_are_rigid_and_lean(generator) -> None:
    prior = CameraPrior(shift=0.1, center=0.2, roll=0.1)
    cameras = sample_viewpoints(prior, 500, generator).cameras
    rotation = cameras.extrinsics[:, :3, :3]
    identity = rotation.transpose(1, 2) @ rotation
    torch.testing.assert_close(identity, torch.eye(3).expand(500, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(500))
    # The right axis is level where nothing leans.
    lean = torch.asin(rotation[:, 2, 0])
    assert 0.05 < float(lean.std()) < 0.2
    level = sample_viewpoints(CameraPrior(), 50, generator).cameras
    assert level.extrinsics[:, 2, 0].abs().max() < 1e-5


def test_lights_are_near_the_cameras(generator) -> None:
    cameras = sample_viewpoints(CameraPrior(), 300, generator).cameras
    lights = light_positions(cameras, generator, 0.1, (0.8, 1.5))
    reach = lights.norm(dim=-1)
    assert reach.min() >= 0.8 and reach.max() <= 1.5
    cosine = torch.nn.functional.cosine_similarity(lights, cameras.centers)
    assert cosine.min() > math.cos(math.radians(25))


def test_intervals_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(UserError, match="elevation must go from low to high"):
        CameraPrior(elevation=(20.0, 10.0))
    with pytest.raises(UserError, match="0 to 180"):
        CameraPrior(fov=(20.0, 180.0))
