"""Cameras: group axioms, projection, batch axes."""

import math

import pytest
import torch
from hypothesis import given, settings

from tests.geometry.random_cameras import generators, random_cameras, random_motions
from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.projection import project, world_to_camera
from unseen.geometry.rays import get_rays, unproject

fast = settings(max_examples=25, deadline=None)


def assert_same(first: Cameras, second: Cameras) -> None:
    torch.testing.assert_close(first.extrinsics, second.extrinsics)
    torch.testing.assert_close(first.intrinsics, second.intrinsics)
    torch.testing.assert_close(first.near, second.near)
    torch.testing.assert_close(first.far, second.far)


def assert_rigid(extrinsics: torch.Tensor) -> None:
    """Axes orthonormal and right-handed, last row (0, 0, 0, 1)."""
    rotation = extrinsics[..., :3, :3]
    identity = torch.eye(3).to(rotation).expand_as(rotation)
    torch.testing.assert_close(
        rotation.transpose(-1, -2) @ rotation, identity, atol=1e-5, rtol=0
    )
    determinant = torch.linalg.det(rotation)
    torch.testing.assert_close(determinant, torch.ones_like(determinant))
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(extrinsics)
    assert torch.equal(extrinsics[..., 3, :], last.expand(extrinsics.shape[:-1]))


@fast
@given(generators)
def test_rigid_motions_act_as_a_group(generator):
    cameras = random_cameras(3, generator)
    first, second = random_motions(2, generator)
    identity = torch.eye(4, dtype=torch.float64)
    # Identity, compatibility with the product, inverse, closure.
    assert_same(cameras.transform(identity), cameras)
    assert_same(
        cameras.transform(first).transform(second), cameras.transform(second @ first)
    )
    assert_same(cameras.transform(first).transform(first.inverse()), cameras)
    assert_rigid(cameras.transform(first).extrinsics)


@fast
@given(generators)
def test_project_inverts_get_rays(generator):
    cameras = random_cameras(2, generator)
    xy = torch.rand(2, 7, 2, generator=generator, dtype=torch.float64)
    depth = 0.1 + 5 * torch.rand(2, 7, generator=generator, dtype=torch.float64)
    origins, directions = get_rays(cameras, xy)
    projected, projected_depth = project(
        cameras, origins + depth[..., None] * directions
    )
    torch.testing.assert_close(projected, xy)
    torch.testing.assert_close(projected_depth, depth)


@fast
@given(generators)
def test_projection_is_invariant_to_rigid_motions(generator):
    cameras = random_cameras(2, generator)
    points = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    (motion,) = random_motions(1, generator)
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    torch.testing.assert_close(
        world_to_camera(cameras, points),
        world_to_camera(cameras.transform(motion), moved),
    )
    still, after = project(cameras, points), project(cameras.transform(motion), moved)
    torch.testing.assert_close(still, after, atol=1e-6, rtol=1e-6)


def test_projection_by_hand():
    cameras = Cameras(
        look_at(torch.tensor([4.0, 0.0, 0.0]), torch.zeros(3)),
        intrinsics_from_fov(torch.tensor(math.pi / 2)),
        torch.tensor(1.0),
        torch.tensor(9.0),
    )
    points = torch.tensor(
        [[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [2.0, 0.0, 1.0], [5.0, 0.0, 0.0]]
    )
    xy, depth = project(cameras, points)
    torch.testing.assert_close(depth, torch.tensor([4.0, 2.0, 2.0, -1.0]))
    # Seen from +x, +y is on the right; +z is up, which is towards y = 0.
    torch.testing.assert_close(
        xy, torch.tensor([[0.5, 0.5], [0.75, 0.5], [0.5, 0.25], [-10.0, -10.0]])
    )


def test_gradients_are_finite_at_the_camera_plane():
    cameras = random_cameras(1, torch.Generator().manual_seed(0))
    points = cameras.centers[:, None].clone().requires_grad_()
    xy, depth = project(cameras, points)
    (xy.sum() + depth.sum()).backward()
    assert points.grad is not None and points.grad.isfinite().all()


@pytest.mark.parametrize("fov", [0.1, 0.7, 1.5, 2.5])
def test_the_field_of_view_spans_the_image(fov):
    intrinsics = intrinsics_from_fov(torch.tensor(fov, dtype=torch.float64))
    edges = torch.tensor([[0.0, 0.5], [1.0, 0.5]], dtype=torch.float64)
    left, right = unproject(intrinsics.expand(2, 3, 3), edges)
    cosine = left @ right / (left.norm() * right.norm())
    assert math.isclose(float(cosine.arccos()), fov, rel_tol=1e-9)


def test_look_at_looks_at_its_target_with_z_up():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(20, 3, generator=generator)
    targets = torch.randn(20, 3, generator=generator)
    extrinsics = look_at(centers, targets)
    assert_rigid(extrinsics)
    forward = torch.nn.functional.normalize(targets - centers, dim=-1)
    torch.testing.assert_close(extrinsics[:, :3, 2], forward)
    torch.testing.assert_close(extrinsics[:, :3, 3], centers)
    # Right is horizontal, and down points down.
    torch.testing.assert_close(extrinsics[:, 2, 0], torch.zeros(20))
    assert (extrinsics[:, 2, 1] < 0).all()


def test_look_at_straight_down_is_still_rigid():
    centers = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0]])
    assert_rigid(look_at(centers, torch.zeros(2, 3)))


def test_batch_axes_behave_like_those_of_near():
    cameras = random_cameras(6, torch.Generator().manual_seed(0))
    assert cameras.shape == (6,) and len(cameras) == 6
    assert_same(Cameras.stack([cameras[k] for k in range(6)]), cameras)
    assert_same(Cameras.cat([cameras[:2], cameras[2:]]), cameras)
    grid = cameras.reshape(2, 3)
    assert grid.shape == (2, 3)
    assert_same(grid[1, 2], cameras[5])
    assert_same(grid[:, 1], cameras[torch.tensor([1, 4])])
    assert_same(grid.reshape(-1), cameras)
    assert_same(Cameras.stack([grid[:, k] for k in range(3)], dim=1), grid)
    assert_same(Cameras.cat([grid[:, :1], grid[:, 1:]], dim=1), grid)
    assert_same(cameras[:1].expand(4)[3], cameras[0])
    assert_same(cameras[None], Cameras.stack([cameras]))
    assert cameras.to(torch.float32).extrinsics.dtype == torch.float32


def test_negative_axes_are_refused():
    cameras = random_cameras(2, torch.Generator().manual_seed(0))
    for join in (Cameras.stack, Cameras.cat):
        with pytest.raises(ValueError, match="dim must be 0 or more"):
            join([cameras, cameras], dim=-1)
