"""Points on surfaces: of triangle meshes, and of what depth maps show."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views

CELLS = 64
"""Cells along the longest side of what depth maps show, of which each counts once."""


def mesh_points(
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    count: int,
    generator: torch.Generator,
) -> Float[Tensor, "{count} 3"]:
    """Points that are uniform in area on a mesh."""
    corners = vertices[faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = torch.linalg.cross(first, second).norm(dim=-1).double()
    chosen = areas.multinomial(count, replacement=True, generator=generator)
    # Two uniform numbers, folded along the diagonal, are uniform in a triangle.
    u, v = torch.rand(2, count, 1, generator=generator)
    outside = u + v > 1
    u, v = torch.where(outside, 1 - u, u), torch.where(outside, 1 - v, v)
    return corners[chosen, 0] + u * first[chosen] + v * second[chosen]


def depth_points(
    views: Views, count: int, generator: torch.Generator
) -> Float[Tensor, "{count} 3"]:
    """Points of the surfaces that depth maps of views (view,) show.

    Cells of a grid count once, however often and from however near they were seen; of
    them, points are drawn at random, some twice where there are too few.

    Raises:
        UserError: the views have no depths, or see no surface.
    """
    if views.depths is None:
        raise UserError(
            "there are no depth maps, which show where surfaces are: render the data "
            "without --no-depth."
        )
    origins, directions = image_rays(views.cameras, views.size)
    depths = views.depths.flatten(1)
    seen = depths > 0
    points = (origins + depths[..., None] * directions)[seen]
    if len(points) == 0:
        raise UserError("the depth maps show no surface: render the object again.")
    low, high = points.amin(dim=0), points.amax(dim=0)
    cell = float((high - low).max().clamp(min=1e-9)) / CELLS
    index = ((points - low) / cell).floor().long()
    _, members = torch.unique(index, dim=0, return_inverse=True)
    number = int(members.max()) + 1
    sums = points.new_zeros(number, 3).index_add_(0, members, points)
    middle = sums / torch.bincount(members, minlength=number)[:, None]
    order = torch.randperm(number, generator=generator)
    return middle[order.repeat(count // number + 1)[:count]]
