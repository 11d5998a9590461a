"""Do views of a scene show one surface in one colour? Re-projection through depth.

Every pixel of one view is lifted to its surface by the depth that was rendered with it
and looked up in another view. Where that view's own depth says that it sees the same
surface, the colours are compared (as for photometric consistency in multi-view stereo).
A scene that is one matt object scores as high as interpolation allows; views that were
made one by one, or depths that are wrong, do not. No truth is needed.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from unseen.errors import UserError
from unseen.geometry.projection import project
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views

TOLERANCE = 0.02
"""How far a depth may be off that counts as the same surface, relative to it."""


@dataclasses.dataclass(frozen=True)
class Reprojection:
    """How well views explain each other.

    `psnr` is in dB, at most 100, over all pixels that were compared (NaN if none were),
    `compared` is their share among the pixels that show a surface.
    """

    psnr: float
    compared: float


def reprojection_consistency(
    views: Views, tolerance: float = TOLERANCE
) -> Reprojection:
    """Compare each view of (view,) with the next one, in both directions.

    `views` hold depths, 0 where there is no surface; where `masks` are there, pixels
    below one half show none (give a rendering's opacity, because its depth is a mix
    where it is not opaque).

    Raises:
        UserError: fewer than two views, or no depths.
    """
    if len(views) < 2:
        raise UserError(
            f"re-projection compares neighbouring views, {len(views)} has none."
        )
    error, compared, surface = 0.0, 0, 0
    for i in range(len(views) - 1):
        for first, second in ((i, i + 1), (i + 1, i)):
            warped, valid = warp(views[first], views[second], tolerance)
            difference = (warped - views.images[second]).square().mean(dim=0)
            error += float(difference[valid].double().sum())
            compared += int(valid.sum())
            surface += int(_surface(views[second]).sum())
    if compared == 0:
        return Reprojection(math.nan, 0.0)
    return Reprojection(
        -10 * math.log10(max(error / compared, 1e-10)), compared / surface
    )


def warp(
    first: Views, second: Views, tolerance: float = TOLERANCE
) -> tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]:
    """One view of shape () as the other's camera would see it.

    Colours of `first` are interpolated at the places of `second`'s surface points.
    Also says where they hold: where `first` shows a surface within `tolerance` (of the
    depth) of the point, rather than one before it, and the point is inside its image.

    Raises:
        UserError: a view has no depths.
    """
    if first.depths is None or second.depths is None:
        raise UserError(
            "re-projection needs the depths of both views: give a scene that renders "
            "depth."
        )
    origins, directions = image_rays(second.cameras, second.size)
    points = origins + second.depths.flatten()[:, None] * directions
    xy, depth = project(first.cameras, points)
    # 1 / depth is linear across the image of a plane, which makes interpolation exact.
    # Next to a background, whose 1 / depth is 0, it matches no surface.
    inverse = torch.where(_surface(first), 1 / first.depths.clamp(min=1e-9), 0.0)
    layers = torch.cat([first.images, inverse[None]])[None]
    found = functional.grid_sample(
        layers, 2 * xy[None, None] - 1, padding_mode="border", align_corners=False
    )[0, :, 0]
    same = (found[3] * depth - 1).abs() < tolerance
    # Between the outermost pixel centres, where there are neighbours to interpolate.
    margin = xy.new_tensor([0.5 / first.size[1], 0.5 / first.size[0]])
    inside = ((xy >= margin) & (xy <= 1 - margin)).all(dim=-1)
    valid = (same & inside & (depth > 0)).reshape(second.size) & _surface(second)
    return found[:3].unflatten(-1, second.size), valid


def _surface(view: Views) -> Bool[Tensor, "height width"]:
    """Pixels that show a surface."""
    assert view.depths is not None
    found = view.depths > 0
    return found if view.masks is None else found & (view.masks > 0.5)
