"""Which pixels of a novel view show what the input view saw."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.geometry.projection import project
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views


def seen_points(
    given: Views, points: Float[Tensor, "point 3"], tolerance: float = 0.03
) -> Bool[Tensor, "point"]:
    """World points on the surface that `given` (1,) sees; needs its exact depths.

    A point counts as seen if the nearest pixel of the given view, or one of the eight
    around it, shows a surface within `tolerance` (of the depth range) of the point's
    depth there.
    """
    if given.depths is None:
        raise ValueError("visibility needs the depths of the given view")
    xy, depth = project(given.cameras, points[None])
    height, width = given.size
    column = (xy[0, :, 0] * width).floor().long()
    row = (xy[0, :, 1] * height).floor().long()
    margin = tolerance * float(given.cameras.far[0] - given.cameras.near[0])
    seen = torch.zeros(len(column), dtype=torch.bool, device=column.device)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            x, y = (column + dx).clamp(0, width - 1), (row + dy).clamp(0, height - 1)
            shown = given.depths[0, y, x]
            seen |= (shown > 0) & ((shown - depth[0]).abs() < margin)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return seen & inside


def seen_pixels(
    given: Views, novel: Views, tolerance: float = 0.03
) -> Bool[Tensor, "view height width"]:
    """Pixels of `novel` (view,) whose surface `given` (1,) sees (see `seen_points`).

    Needs exact depths of both. Pixels without a surface are not seen.
    """
    if novel.depths is None:
        raise ValueError("visibility needs the depths of the novel views")
    origins, directions = image_rays(novel.cameras, novel.size)
    points = origins + novel.depths.flatten(-2)[..., None] * directions
    seen = seen_points(given, points.reshape(-1, 3), tolerance)
    return seen.reshape(-1, *novel.size) & (novel.depths > 0)


def unseen_pixels(
    given: Views, novel: Views, tolerance: float = 0.03
) -> Bool[Tensor, "view height width"]:
    """Pixels of `novel` that show a surface which `given` does not see."""
    assert novel.depths is not None
    return (novel.depths > 0) & ~seen_pixels(given, novel, tolerance)
