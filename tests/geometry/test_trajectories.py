"""Camera paths: where they are, where they look, what they pass through."""

import math

import pytest
import torch

from tests.geometry.random_cameras import random_cameras
from tests.geometry.test_cameras import assert_rigid, assert_same
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.trajectories import (
    interpolate,
    orbit,
    random_sphere_cameras,
    spiral,
)

CENTER = torch.tensor([0.3, -0.2, 0.5])
LENS = {"fov": 0.7, "near": 1.0, "far": 5.0}


def assert_looks_at(cameras: Cameras, center: torch.Tensor) -> None:
    """The centre is in the middle of every image."""
    assert_rigid(cameras.extrinsics)
    xy, depth = project(cameras, center.expand(len(cameras), 1, 3))
    torch.testing.assert_close(xy, torch.full_like(xy, 0.5))
    assert (depth > 0).all()


def angles(cameras: Cameras, center: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Azimuth, elevation and distance of camera centres."""
    x, y, z = (cameras.centers - center).unbind(-1)
    return (
        torch.atan2(y, x),
        torch.atan2(z, torch.hypot(x, y)),
        torch.hypot(torch.hypot(x, y), z),
    )


def test_orbit_starts_on_x_and_goes_counter_clockwise():
    cameras = orbit(4, 0.0, 2.0, **LENS)
    expected = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [-2.0, 0.0, 0.0], [0.0, -2.0, 0.0]]
    torch.testing.assert_close(
        cameras.centers, torch.tensor(expected), atol=1e-6, rtol=0
    )
    assert (cameras.near == 1.0).all() and (cameras.far == 5.0).all()


def test_orbit_looks_at_its_center_and_closes():
    cameras = orbit(12, 0.4, 2.0, azimuth_start=0.3, center=CENTER, **LENS)
    assert_looks_at(cameras, CENTER)
    azimuth, elevation, distance = angles(cameras, CENTER)
    torch.testing.assert_close(elevation, torch.full((12,), 0.4))
    torch.testing.assert_close(distance, torch.full((12,), 2.0))
    assert math.isclose(float(azimuth[0]), 0.3, abs_tol=1e-6)
    # The step from the last view to the first is the same as all others.
    steps = azimuth.roll(-1) - azimuth
    torch.testing.assert_close(steps.cos(), torch.full((12,), math.cos(math.pi / 6)))
    torch.testing.assert_close(steps.sin(), torch.full((12,), math.sin(math.pi / 6)))


def test_turns_and_their_sign():
    half = orbit(5, 0.0, 1.0, turns=-0.5, **LENS)
    azimuth, _, _ = angles(half, torch.zeros(3))
    torch.testing.assert_close(azimuth, -torch.arange(5) * math.pi / 5)


def test_spiral_sweeps_its_elevations():
    cameras = spiral(25, (-0.2, 1.3), 2.0, turns=3.0, center=CENTER, **LENS)
    assert_looks_at(cameras, CENTER)
    azimuth, elevation, distance = angles(cameras, CENTER)
    torch.testing.assert_close(distance, torch.full((25,), 2.0))
    torch.testing.assert_close(elevation[[0, -1]], torch.tensor([-0.2, 1.3]))
    # Equal steps in height are equal areas of the sphere.
    steps = elevation.sin().diff()
    torch.testing.assert_close(steps, steps.mean().expand(24), atol=1e-5, rtol=0)
    turned = azimuth.diff().remainder(2 * math.pi).sum()
    assert math.isclose(float(turned), 6 * math.pi, rel_tol=1e-4)


def test_random_cameras_cover_the_sphere_evenly():
    draws = [
        random_sphere_cameras(
            4000,
            (-0.3, 1.2),
            (1.0, 3.0),
            generator=torch.Generator().manual_seed(seed),
            center=CENTER,
            **LENS,
        )
        for seed in (0, 0, 1)
    ]
    cameras = draws[0]
    assert_looks_at(cameras, CENTER)
    azimuth, elevation, distance = angles(cameras, CENTER)
    assert elevation.min() > -0.301 and elevation.max() < 1.201
    assert distance.min() > 0.999 and distance.max() < 3.001
    height = (math.sin(-0.3) + math.sin(1.2)) / 2
    assert abs(float(elevation.sin().mean()) - height) < 0.02
    assert abs(float(distance.mean()) - 2) < 0.04
    assert abs(float(azimuth.cos().mean())) < 0.05
    assert torch.equal(cameras.extrinsics, draws[1].extrinsics)
    assert not torch.equal(cameras.extrinsics, draws[2].extrinsics)


@pytest.mark.parametrize("per_segment", [1, 2, 7, 10])
def test_interpolation_passes_exactly_through_the_given_cameras(per_segment):
    cameras = random_cameras(5, torch.Generator().manual_seed(0)).to(torch.float32)
    path = interpolate(cameras, 4 * per_segment + 1)
    assert_rigid(path.extrinsics)
    assert torch.equal(path.extrinsics[::per_segment], cameras.extrinsics)
    assert torch.equal(path.intrinsics[::per_segment], cameras.intrinsics)
    assert torch.equal(path.near[::per_segment], cameras.near)


def test_interpolation_of_a_straight_steady_path_is_straight_and_steady():
    cameras = random_cameras(1, torch.Generator().manual_seed(0)).expand(4)
    extrinsics = cameras.extrinsics.clone()
    extrinsics[:, :3, 3] = torch.arange(4).double()[:, None] * torch.tensor([1, 2, -1])
    steady = Cameras(extrinsics, cameras.intrinsics, cameras.near, cameras.far)
    path = interpolate(steady, 13)
    torch.testing.assert_close(
        path.centers.diff(dim=0).var(dim=0), torch.zeros(3).double()
    )
    torch.testing.assert_close(path.extrinsics[6, :3, :3], extrinsics[0, :3, :3])


def test_interpolation_turns_at_constant_speed_by_the_shortest_arc():
    ends = orbit(4, 0.0, 2.0, **LENS).to(torch.float64)
    path = interpolate(ends[:2], 11)
    forward = path.extrinsics[:, :3, 2]
    cosines = (forward[1:] * forward[:-1]).sum(-1)
    expected = torch.full((10,), math.cos(math.pi / 20), dtype=torch.float64)
    torch.testing.assert_close(cosines, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("flip", [[1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1]])
def test_interpolation_through_half_a_turn(flip):
    # Exactly half a turn, where the antisymmetric part of the rotation is zero.
    cameras = random_cameras(1, torch.Generator().manual_seed(0)).expand(2)
    extrinsics = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    extrinsics[1, :3, :3] = torch.tensor(flip).diag()
    path = interpolate(
        Cameras(extrinsics, cameras.intrinsics, cameras.near, cameras.far), 5
    )
    assert_rigid(path.extrinsics)
    rotation = path.extrinsics[:, :3, :3]
    steps = rotation[:-1].transpose(-1, -2) @ rotation[1:]
    cosines = 0.5 * (steps.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1)
    torch.testing.assert_close(cosines, torch.full((4,), math.sqrt(0.5)).double())


def test_interpolation_of_one_camera_stays_there():
    camera = orbit(3, 0.1, 2.0, **LENS)[:1]
    assert_same(interpolate(camera, 4), camera.expand(4))


def test_interpolation_needs_one_view_axis():
    with pytest.raises(ValueError, match="one view axis"):
        interpolate(orbit(4, 0.1, 2.0, **LENS).reshape(2, 2), 5)
