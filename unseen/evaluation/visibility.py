"""Which pixels of a novel view show what the input view saw."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from unseen.geometry.projection import project
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views


def seen_pixels(
    given: Views, novel: Views, tolerance: float = 0.03
) -> Bool[Tensor, "view height width"]:
    """Pixels of `novel` (view,) whose surface `given` (1,) sees; needs exact depths.

    A surface point counts as seen if the nearest pixel of the given view, or one of
    the eight around it, shows a surface within `tolerance` (of the depth range) of
    the point's depth there. Pixels without a surface are not seen.
    """
    if given.depths is None or novel.depths is None:
        raise ValueError("visibility needs the depths of the given and novel views")
    size = novel.size
    origins, directions = image_rays(novel.cameras, size)
    points = origins + novel.depths.flatten(-2)[..., None] * directions
    xy, depth = project(given.cameras, points.reshape(1, -1, 3))
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
    return (seen & inside).reshape(-1, *size) & (novel.depths > 0)


def unseen_pixels(
    given: Views, novel: Views, tolerance: float = 0.03
) -> Bool[Tensor, "view height width"]:
    """Pixels of `novel` that show a surface which `given` does not see."""
    assert novel.depths is not None
    return (novel.depths > 0) & ~seen_pixels(given, novel, tolerance)
