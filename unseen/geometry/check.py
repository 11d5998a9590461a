"""Posed images that are about to be used: every usual mistake in one sentence.

A wrong camera convention or range does not crash anything. It gives a poor scene, and
nobody can see why; so everything that comes from outside is checked once, here.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.rays import get_rays
from unseen.geometry.views import Views

LONGEST_FOCAL = 100.0
"""Times the image's size: a field of view of half a degree."""
FURTHEST_CENTER = 2.0
"""Where a principal point may lie, in image sizes: far outside of a crop."""
TOLERANCE = 1e-3
"""Rounding that is forgiven, in colours and in entries of rotations."""


def check_views(views: Views, max_views: int | None = None) -> None:
    """Check posed images (view,) that a scene is to be made from.

    Raises:
        UserError: there are no views, or more than `max_views`; colours are not
            finite or outside of [0, 1]; a camera is none (see `check_cameras`); or,
            of several views, one sees nothing that another sees.
    """
    if views.cameras.near.numel() == 0:
        raise UserError("there is no input view: give at least one image.")
    if max_views is not None and len(views) > max_views:
        raise UserError(
            f"this model takes {_count(max_views)}, not {len(views)}: give the "
            f"{'one that shows' if max_views == 1 else 'ones that show'} most."
        )
    _check_images(views.images)
    check_cameras(views.cameras, "input view")
    if len(views) > 1:
        meets = _frustums_meet(views.cameras, views.cameras)
        alone = ~(meets & ~torch.eye(len(views), dtype=torch.bool)).any(dim=1)
        _refuse(
            alone,
            "input view",
            "sees nothing that another input view sees between near and far: check "
            "that the poses are camera to world, with OpenCV's axes (x right, y down, "
            "z forward)",
        )


def check_targets(cameras: Cameras, context: Cameras) -> None:
    """Check the cameras (target,) where a scene of the `context` (view,) is wanted.

    Raises:
        UserError: a camera is none (see `check_cameras`), or sees nothing between its
            near and far that a context camera sees.
    """
    if cameras.near.numel() == 0:
        raise UserError("there is no target camera: give at least one.")
    check_cameras(cameras, "target camera")
    _refuse(
        ~_frustums_meet(cameras, context).any(dim=1),
        "target camera",
        "sees nothing that an input view sees between near and far: check that its "
        "pose is in the same world, camera to world, with OpenCV's axes",
    )


def check_cameras(cameras: Cameras, name: str = "camera") -> None:
    """Check cameras of any batch shape by themselves; `name` heads the sentences.

    Raises:
        UserError: numbers are not finite; near and far are not 0 < near < far; the
            intrinsics are in pixels, transposed or have no positive focal length; the
            extrinsics are no rigid motion (transposed, mirrored, scaled or skewed).
    """
    # In double precision and on the CPU: nothing is lost, and little is to be done.
    cameras = cameras.to("cpu").to(torch.float64).reshape(-1)
    parts = (cameras.extrinsics, cameras.intrinsics)
    finite = torch.stack([x.flatten(1).isfinite().all(dim=1) for x in parts]).all(dim=0)
    finite &= cameras.near.isfinite() & cameras.far.isfinite()
    _refuse(~finite, name, "holds numbers that are not finite: write its camera again")
    _check_intrinsics(cameras.intrinsics, name)
    _check_extrinsics(cameras.extrinsics, name)
    _refuse(
        cameras.near <= 0,
        name,
        "has a near bound that is not positive: give the depth (z) before which there "
        "is nothing, in the world's unit",
    )
    _refuse(
        cameras.near >= cameras.far,
        name,
        "has a near bound that is not below its far bound: give the depths (z) between "
        "which the scene lies",
    )


def _check_images(images: Float[Tensor, "*batch channel height width"]) -> None:
    flat = images.flatten(0, -4) if images.ndim > 3 else images[None]
    low, high = flat.amin(dim=(1, 2, 3)), flat.amax(dim=(1, 2, 3))
    # A single NaN makes both NaN.
    _refuse(
        ~(low.isfinite() & high.isfinite()),
        "input view",
        "has pixels that are not finite: read the image again",
    )
    _refuse(high > 2, "input view", "has colours above 1: divide 8-bit colours by 255")
    _refuse(
        (low < -TOLERANCE) | (high > 1 + TOLERANCE),
        "input view",
        "has colours outside of [0, 1]: map [-1, 1] to it by (x + 1) / 2",
    )


def _check_intrinsics(intrinsics: Float[Tensor, "camera 3 3"], name: str) -> None:
    focal = intrinsics[:, [0, 1], [0, 1]]
    center = intrinsics[:, :2, 2]
    below = torch.cat([intrinsics[:, 1:2, 0], intrinsics[:, 2]], dim=1)
    _refuse(
        (below - below.new_tensor([0, 0, 0, 1])).abs().amax(dim=1) > TOLERANCE,
        name,
        "has intrinsics whose rows are not (fx, skew, cx), (0, fy, cy), (0, 0, 1): "
        "transpose the matrix",
    )
    _refuse(
        (focal.abs().amax(dim=1) > LONGEST_FOCAL)
        | (center.abs().amax(dim=1) > FURTHEST_CENTER),
        name,
        "has intrinsics in pixels: divide the first row by the width and the second by "
        "the height",
    )
    _refuse(
        focal.amin(dim=1) <= 0,
        name,
        "has a focal length that is not positive: give fx and fy, divided by the width "
        "and the height",
    )


def _check_extrinsics(extrinsics: Float[Tensor, "camera 4 4"], name: str) -> None:
    last = extrinsics.new_tensor([0, 0, 0, 1])
    _refuse(
        (extrinsics[:, 3] - last).abs().amax(dim=1) > TOLERANCE,
        name,
        "has a pose whose last row is not (0, 0, 0, 1): transpose the matrix, or "
        "complete it to 4x4",
    )
    rotation = extrinsics[:, :3, :3]
    gram = rotation.mT @ rotation
    square = gram.diagonal(dim1=1, dim2=2).mean(dim=1)
    skewed = (gram - square[:, None, None] * torch.eye(3).to(gram)).abs()
    _refuse(
        skewed.amax(dim=(1, 2)) > TOLERANCE * square.clamp(min=TOLERANCE),
        name,
        "has a pose whose axes are not orthogonal and of one length: give a rotation "
        "and a translation, camera to world",
    )
    _refuse(
        (square - 1).abs() > 2 * TOLERANCE,
        name,
        "has a pose with a scale in its rotation: divide the 3x3 block by it, and "
        "leave the translation in the world's unit",
    )
    _refuse(
        torch.linalg.det(rotation) < 0,
        name,
        "has a mirrored pose (its determinant is -1): turn two axes, not one, to get "
        "to OpenCV's (x right, y down, z forward)",
    )


def _frustums_meet(first: Cameras, second: Cameras) -> Bool[Tensor, "first second"]:
    """Whether each camera's frustum, near to far, has a point in common with others'.

    Points on a grid in either frustum are looked up in the other.
    """
    first = first.to("cpu").to(torch.float64)
    second = second.to("cpu").to(torch.float64)
    return _sees_points(first, second) | _sees_points(second, first).T


def _sees_points(seen: Cameras, by: Cameras) -> Bool[Tensor, "seen by"]:
    """Whether grid points of the frustums of `seen` are in the frustums of `by`."""
    side, steps = 8, 16
    axis = (torch.arange(side) + 0.5) / side
    xy = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    xy = xy.to(seen.near).expand(*seen.shape, -1, -1)
    origins, directions = get_rays(seen, xy)
    share = torch.linspace(0, 1, steps).to(seen.near)
    depths = seen.near[:, None] + (seen.far - seen.near)[:, None] * share
    points = origins[:, None] + depths[..., None, None] * directions[:, None]
    rows = []
    for own in points.flatten(1, 2):
        found, depth = project(by, own.expand(*by.shape, -1, -1))
        inside = ((found >= 0) & (found <= 1)).all(dim=-1)
        within = (depth >= by.near[:, None]) & (depth <= by.far[:, None])
        rows.append((inside & within).any(dim=1))
    return torch.stack(rows)


def _count(views: int) -> str:
    return "one input view" if views == 1 else f"at most {views} input views"


def _refuse(wrong: Bool[Tensor, "item"], name: str, what: str) -> None:
    """One sentence about the first item that is wrong, if any is."""
    if wrong.any():
        number = "" if len(wrong) == 1 else f" {int(wrong.int().argmax())}"
        raise UserError(f"the {name}{number} {what}.")
