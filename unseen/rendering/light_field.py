"""What a light field's derivatives say of depth.

All rays through a point of a matt surface have one colour. Move a ray sideways by a
and turn it by -a / t: it still passes through the point at distance t, and its colour
does not change. So the derivative by turning is t times the derivative by moving (the
slope of lines in epipolar-plane images; Sitzmann et al., "Light Field Networks",
NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

FLAT = 1e-3
"""Change of colour (in [-1, 1], per world unit of moving) below which nothing is
said of distance."""


def perpendicular(
    directions: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch 2 3"]:
    """Two unit vectors across each unit direction and across each other."""
    axis = torch.zeros_like(directions)
    smallest = directions.abs().argmin(dim=-1, keepdim=True)
    axis.scatter_(-1, smallest, 1.0)
    first = functional.normalize(torch.linalg.cross(directions, axis), dim=-1)
    return torch.stack([first, torch.linalg.cross(directions, first)], dim=-2)


def pencil_tangents(
    origins: Float[Tensor, "*batch ray 3"],
    directions: Float[Tensor, "*batch ray 3"],
    sideways: Float[Tensor, "*batch ray side 3"],
) -> tuple[Float[Tensor, "*batch side ray 6"], Float[Tensor, "*batch side ray 6"]]:
    """Derivatives of Pluecker coordinates (d, o x d).

    By moving the origin sideways, and by turning the unit direction sideways.
    """
    sideways = sideways.movedim(-2, -3)
    o, d = (x.unsqueeze(-3).expand_as(sideways) for x in (origins, directions))
    moved = torch.cat([torch.zeros_like(o), torch.linalg.cross(sideways, d)], dim=-1)
    turned = torch.cat([sideways, torch.linalg.cross(o, sideways)], dim=-1)
    return moved, turned


def light_field_distance(
    by_origin: Float[Tensor, "*batch side ray 3"],
    by_direction: Float[Tensor, "*batch side ray 3"],
    far: Float[Tensor, "*batch ray"],
) -> Float[Tensor, "*batch ray"]:
    """Distance from a ray's origin of the matt surface that it shows.

    `by_origin` and `by_direction` are the derivatives of the ray's colour by moving
    and by turning it in the same two sideways directions. The answer is the least
    squares solution over directions and channels, drawn towards `far` where colours
    change by less than about `FLAT`. It is exact for a light field that is exact and
    matt; that of a network is as good as its derivatives, good at textures and
    edges and poor elsewhere. The authors take random directions; ours are fixed, which
    makes the answer repeatable.
    """
    energy = by_origin.square().sum(dim=(-1, -3))
    product = (by_origin * by_direction).sum(dim=(-1, -3))
    return (product + FLAT**2 * far) / (energy + FLAT**2)


def render_where_needed(
    evaluate: Callable[[Tensor], Tensor],
    views: int,
    size: tuple[int, int],
    flat: float,
) -> Float[Tensor, "view height width 3"]:
    """Frames of which only the pixels that need it are evaluated.

    `evaluate` maps flat indices (pixel) into frames (view height width) to colours
    (pixel, 3). Every other pixel of every other row is evaluated first. Where these
    differ by at most `flat` in every channel, over a neighbourhood of cells, what
    lies between is interpolated; the rest is evaluated too. What is thinner than two
    pixels, in the middle of nothing, can be missed.
    """
    height, width = size
    index = torch.arange(views * height * width).reshape(views, height, width)
    if min(size) < 3:
        return evaluate(index.flatten()).reshape(views, height, width, 3)
    coarse = evaluate(index[:, ::2, ::2].flatten())
    coarse = coarse.reshape(views, (height + 1) // 2, (width + 1) // 2, 3)
    coarse = coarse.movedim(-1, 1)
    needed = _needed(coarse, size, flat)
    whole = coarse.new_zeros(views, 3, height, width)
    known = (height - 1) // 2 * 2 + 1, (width - 1) // 2 * 2 + 1
    whole[..., : known[0], : known[1]] = functional.interpolate(
        coarse, known, mode="bilinear", align_corners=True
    )
    frames = whole.movedim(1, -1).contiguous()
    chosen = index.to(needed.device)[needed]
    frames.view(-1, 3)[chosen] = evaluate(chosen)
    return frames


def _needed(
    coarse: Float[Tensor, "view 3 coarse_height coarse_width"],
    size: tuple[int, int],
    flat: float,
) -> Bool[Tensor, "view height width"]:
    """Pixels off the coarse grid, and next to cells whose corners differ."""
    height, width = size
    highest = functional.max_pool2d(coarse, 2, stride=1)
    lowest = -functional.max_pool2d(-coarse, 2, stride=1)
    rough = ((highest - lowest).amax(dim=1, keepdim=True) > flat).float()
    rough = functional.max_pool2d(rough, 3, stride=1, padding=1)[:, 0] > 0
    rows = torch.arange(height, device=coarse.device) // 2
    columns = torch.arange(width, device=coarse.device) // 2
    needed = rough[:, rows.clamp(max=rough.shape[1] - 1)]
    needed = needed[:, :, columns.clamp(max=rough.shape[2] - 1)]
    # There is no coarse pixel beyond the last row and column of an even size.
    needed[:, (height - 1) // 2 * 2 + 1 :] = True
    needed[:, :, (width - 1) // 2 * 2 + 1 :] = True
    needed[:, ::2, ::2] = False
    return needed
