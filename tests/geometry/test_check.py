"""Every usual mistake in posed images ends in a sentence that names it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from unseen.data.cameras import object_cameras
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras, look_at
from unseen.geometry.check import check_cameras, check_targets, check_views
from unseen.geometry.views import Views


def around(count: int, seed: int = 0) -> Cameras:
    """Cameras around an object at the origin."""
    return object_cameras(count, torch.Generator().manual_seed(seed))


def views_of(cameras: Cameras) -> Views:
    generator = torch.Generator().manual_seed(1)
    return Views(torch.rand(len(cameras), 3, 8, 8, generator=generator), cameras)


def changed(cameras: Cameras, name: str, change: Callable) -> Cameras:
    """Cameras with one entry of the second one changed in place."""
    value = getattr(cameras, name).clone()
    change(value)
    return dataclasses.replace(cameras, **{name: value})


@pytest.mark.parametrize("count", [1, 2, 7])
def test_good_views_pass(count: int) -> None:
    check_views(views_of(around(count)), max_views=count)
    check_targets(around(5, seed=3), around(count))


def test_cameras_all_around_and_opposite_ones_pass() -> None:
    centers = torch.tensor([[3.0, 0, 0], [-3.0, 0, 0], [0, 0, 3.0]])
    cameras = dataclasses.replace(
        around(3), extrinsics=look_at(centers, torch.zeros(3, 3))
    )
    cameras = dataclasses.replace(
        cameras, near=torch.full((3,), 2.0), far=torch.full((3,), 4.0)
    )
    check_views(views_of(cameras))


def test_a_principal_point_off_the_middle_and_float_noise_pass() -> None:
    cameras = around(2)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 0, 2], intrinsics[:, 1, 1] = 0.9, 3.0
    noise = 1e-5 * torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    noise[:, 3] = 0
    check_cameras(Cameras(cameras.extrinsics + noise, intrinsics, *bounds(cameras)))


def bounds(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    return cameras.near, cameras.far


def test_no_view_and_too_many() -> None:
    with pytest.raises(UserError, match="no input view: give at least one"):
        check_views(views_of(around(3))[:0])
    with pytest.raises(UserError, match="no target camera"):
        check_targets(around(3)[:0], around(1))
    with pytest.raises(UserError, match="takes one input view, not 3"):
        check_views(views_of(around(3)), max_views=1)
    with pytest.raises(UserError, match="takes at most 2 input views, not 3"):
        check_views(views_of(around(3)), max_views=2)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (255.0, "divide 8-bit colours by 255"),
        (-1.0, r"outside of \[0, 1\]: map \[-1, 1\]"),
        (1.01, r"outside of \[0, 1\]"),
    ],
)
def test_colours(value: float, reason: str) -> None:
    views = views_of(around(3))
    views.images[1, 2, 4, 5] = value
    with pytest.raises(UserError, match=f"input view 1 has .*{reason}"):
        check_views(views)
    with pytest.raises(UserError, match="the input view has"):
        check_views(views[1:2])


def _to_pixels(k: torch.Tensor) -> None:
    k[1, :2] *= 64


def _put(row: int, column: int, value: float) -> Callable[[torch.Tensor], None]:
    def change(matrices: torch.Tensor) -> None:
        matrices[1, row, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_put(0, 0, 0.0), "focal length that is not positive"),
        (_put(1, 1, -1.2), "focal length that is not positive"),
        (_put(0, 0, math.nan), "not finite"),
        (_to_pixels, "divide the first row by the width and the second by the height"),
        (_put(0, 0, 131.25), "divide the first row by the width"),
        (_put(1, 2, 64.0), "divide the first row by the width"),
        (_put(2, 2, 0.0), "transpose the matrix"),
        (lambda k: k[1].copy_(k[1].T.clone()), "transpose the matrix"),
    ],
)
def test_intrinsics(change: Callable, reason: str) -> None:
    cameras = changed(around(3), "intrinsics", change)
    with pytest.raises(UserError, match=f"input view 1 .*{reason}"):
        check_views(views_of(cameras))


def _times(factor: float) -> Callable[[torch.Tensor], None]:
    def change(poses: torch.Tensor) -> None:
        poses[1, :3, :3] *= factor

    return change


def _mirror(poses: torch.Tensor) -> None:
    poses[1, :3, 1] *= -1


def _stretch(poses: torch.Tensor) -> None:
    poses[1, :3, 0] *= 1.5


def _skew(poses: torch.Tensor) -> None:
    poses[1, :3, 0] += 0.2 * poses[1, :3, 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_mirror, r"mirrored pose \(its determinant is -1\)"),
        (_times(2.0), "a scale in its rotation"),
        (_times(1.01), "a scale in its rotation"),
        (_times(0.0), "a scale in its rotation"),
        (_stretch, "not orthogonal and of one length"),
        (_skew, "not orthogonal and of one length"),
        (lambda p: p[1].copy_(p[1].T.clone()), "last row is not"),
        (_put(3, 3, 0.0), "last row is not"),
        (_put(0, 3, math.inf), "not finite"),
    ],
)
def test_poses(change: Callable, reason: str) -> None:
    cameras = changed(around(3), "extrinsics", change)
    with pytest.raises(UserError, match=f"input view 1 .*{reason}"):
        check_views(views_of(cameras))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("near", 0.0, "near bound that is not positive"),
        ("near", -0.5, "near bound that is not positive"),
        ("far", 0.1, "not below its far bound"),
        ("far", math.inf, "not finite"),
        ("near", math.nan, "not finite"),
    ],
)
def test_bounds(name: str, value: float, reason: str) -> None:
    cameras = changed(around(3), name, lambda x: x.__setitem__(1, value))
    with pytest.raises(UserError, match=f"the camera 1 .*{reason}"):
        check_cameras(cameras)
    with pytest.raises(UserError, match=f"target camera 1 .*{reason}"):
        check_targets(cameras, around(1))


def _as_opengl(poses: torch.Tensor) -> None:
    poses[1, :3, 1:3] *= -1


def test_cameras_that_look_away() -> None:
    """OpenGL's axes: the camera looks backwards, and no number is wrong in itself."""
    cameras = changed(around(3), "extrinsics", _as_opengl)
    with pytest.raises(UserError, match="input view 1 sees nothing that another"):
        check_views(views_of(cameras))
    with pytest.raises(UserError, match="target camera 1 sees nothing that an input"):
        check_targets(cameras, around(2, seed=5))
    # World to camera instead of camera to world.
    inverse = torch.linalg.inv(around(2).extrinsics)
    with pytest.raises(UserError, match="sees nothing"):
        check_targets(dataclasses.replace(around(2), extrinsics=inverse), around(1))


def test_a_part_of_the_frustum_is_enough_and_depth_counts() -> None:
    """Two cameras side by side meet beyond some depth; their bounds decide."""
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 1.0
    # A field of view of 53 degrees: one apart, the cones touch at depth 1.
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).expand(2, 3, 3)
    far = Cameras(poses, intrinsics, torch.full((2,), 0.1), torch.full((2,), 3.0))
    check_views(views_of(far))
    # What one of them sees beyond its far bound does not count either.
    for bound in ([0.9, 0.9], [0.9, 3.0], [3.0, 0.9]):
        close = dataclasses.replace(far, far=torch.tensor(bound))
        with pytest.raises(UserError, match="sees nothing"):
            check_views(views_of(close))
