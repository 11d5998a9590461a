"""What a light field's derivatives say of depth.

All rays through a point of a matt surface have one colour. Move a ray sideways by a
and turn it by -a / t: it still passes through the point at distance t, and its colour
does not change. So the derivative by turning is t times the derivative by moving (the
slope of lines in epipolar-plane images; Sitzmann et al., "Light Field Networks",
NeurIPS 2021, section 3.3).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
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
