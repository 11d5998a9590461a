"""Warping through depth, on a textured plane whose images are known everywhere."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import make_object
from unseen.errors import UserError
from unseen.evaluation.reprojection import reprojection_consistency, warp
from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views

SIZE = (48, 56)


def texture(points: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
    """A smooth colour of every place on the ground."""
    x, y = points[:, 0], points[:, 1]
    waves = [torch.sin(2 * x), torch.cos(1.5 * y), torch.sin(x + y)]
    return 0.5 + 0.4 * torch.stack(waves, dim=-1)


def cameras() -> Cameras:
    """Two that look down on the origin from different sides."""
    centers = torch.tensor([[1.5, 0.2, 2.5], [0.4, -1.4, 2.2]])
    intrinsics = intrinsics_from_fov(torch.full((2,), 0.7))
    return Cameras(
        look_at(centers, torch.zeros(2, 3)),
        intrinsics,
        torch.ones(2),
        torch.ones(2) * 9,
    )


def plane_views(posed: Cameras, wall: bool = False) -> Views:
    """The ground z = 0; `wall` hides a part of it by a black screen above it."""
    origins, directions = image_rays(posed, SIZE)
    depths = -origins[..., 2] / directions[..., 2]
    points = origins + depths[..., None] * directions
    colors = torch.stack([texture(p) for p in points])
    if wall:
        closer = (0.4 - origins[..., 2]) / directions[..., 2]
        at = origins + closer[..., None] * directions
        hit = (at[..., :2].abs() < 0.2).all(dim=-1)
        depths = torch.where(hit, closer, depths)
        colors = torch.where(hit[..., None], 0.0, colors)
    images = colors.transpose(-1, -2).unflatten(-1, SIZE)
    return Views(images, posed, depths=depths.unflatten(-1, SIZE))


def test_a_plane_is_warped_exactly() -> None:
    views = plane_views(cameras())
    warped, valid = warp(views[0], views[1])
    assert valid.float().mean() > 0.5
    # What is left is bilinear interpolation, of second order in the pixel.
    error = (warped - views.images[1]).abs()[:, valid]
    assert error.max() < 2e-3
    found = reprojection_consistency(views)
    assert found.psnr > 55 and 0.5 < found.compared <= 1


def test_hidden_points_are_not_compared() -> None:
    views = plane_views(cameras(), wall=True)
    warped, valid = warp(views[0], views[1])
    # The screen hides other ground from each view: without the check it would be seen
    # as black ground.
    everywhere = warp(views[0], views[1], tolerance=math.inf)[1]
    error = (warped - views.images[1]).abs().amax(dim=0)
    assert error[everywhere].max() > 0.3
    ground = valid & (views.images[1].amax(dim=0) > 0)
    # At the screen's edge black may weigh as little as the tolerance lets pass.
    assert error[ground].max() < 0.1
    assert error[ground].quantile(0.98) < 2e-3
    assert 0 < (everywhere & ~valid).float().mean() < 0.3


def test_wrong_colours_and_wrong_depths_are_found() -> None:
    views = plane_views(cameras())
    images = views.images.clone()
    images[1] = (images[1] + 0.1).clamp(0, 1)
    other = reprojection_consistency(dataclasses.replace(views, images=images))
    assert abs(other.psnr - 20) < 0.5  # an error of 0.1
    assert views.depths is not None
    deeper = views.depths * torch.tensor([1.0, 1.1]).reshape(2, 1, 1)
    assert (
        reprojection_consistency(dataclasses.replace(views, depths=deeper)).compared
        < 0.2
    )
    masked = dataclasses.replace(views, masks=torch.zeros(2, *SIZE))
    none = reprojection_consistency(masked)
    assert math.isnan(none.psnr) and none.compared == 0


def test_renders_of_one_object_explain_each_other() -> None:
    azimuths = torch.deg2rad(torch.tensor([0.0, 10.0]))
    posed = sphere_cameras(azimuths, torch.full((2,), 0.4), torch.tensor(0.7))
    views = make_object("house", 3).render(posed, 64)
    true = reprojection_consistency(views)
    other = make_object("house", 4).render(posed, 64)
    mixed = Views(
        torch.stack([views.images[0], other.images[1]]),
        posed,
        views.masks,
        views.depths,
    )
    assert true.psnr > 20 and true.compared > 0.5
    assert reprojection_consistency(mixed).psnr < true.psnr - 6


def test_what_it_needs() -> None:
    views = plane_views(cameras())
    with pytest.raises(UserError, match="neighbouring views"):
        reprojection_consistency(views[:1])
    with pytest.raises(UserError, match="depths of both"):
        warp(Views(views.images, views.cameras)[0], views[1])
