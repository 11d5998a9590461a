"""Coded fields by front-to-back marching: the fast way to a picture of one object."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.networks.coded_mlp import FoldedMLP
from unseen.scenes.coded_sampling import CodedSampling, Samples
from unseen.scenes.occupancy import Occupancy, cell_centers

RESOLUTION = 64
"""Cells along each axis of the grid that finds empty space."""
LEAST_OPACITY = 1e-4
"""What a cell takes away from light if it is not empty: thin fog that fills the whole
grid may be overlooked, up to a hundredth."""
SLAB = 16
"""Samples of each ray that are evaluated before rays are looked at again."""
LEAST_WEIGHT = 1e-4
"""Samples that weigh less in their ray get no colour, and rays that let less light
through are at their end."""


def find_matter(
    network: FoldedMLP, sampling: CodedSampling, extent: float
) -> Occupancy:
    """Where an object that fits into +-`extent` has density, and around it."""
    corner = network.direction_in.new_full((3,), sampling.margin * extent)
    box = torch.stack([-corner, corner])
    points = cell_centers(box, RESOLUTION)
    parts = points.flatten(0, 2).split(sampling.max_points)
    density = torch.cat([network.density(part)[0] for part in parts])
    density = density.reshape(points.shape[:-1])
    return Occupancy.of_densities(density, box, LEAST_OPACITY)


def march(
    network: FoldedMLP,
    occupancy: Occupancy | None,
    sampling: CodedSampling,
    samples: Samples,
) -> tuple[Float[Tensor, "ray 3"], Float[Tensor, "ray sample"]]:
    """Composited colours (on nothing) of rays, and the weights of their samples.

    Rays end where next to no light passes, and only samples that are seen get a colour.
    With an `occupancy`, samples in empty cells are skipped.
    """
    points = samples.points()
    kept = sampling.matter(occupancy, points)
    numbers = torch.arange(len(points), device=points.device)[:, None]
    color = points.new_zeros(len(points), 3)
    weights = points.new_zeros(kept.shape)
    clear = points.new_ones(len(points))
    with sampling.autocast(points.device):
        views = network.view(samples.unit_directions())
        for start in range(0, kept.shape[1], SLAB):
            slab = slice(start, start + SLAB)
            asked = kept[:, slab] & (clear > LEAST_WEIGHT)[:, None]
            density = points.new_zeros(asked.shape)
            density[asked], hidden = network.density(points[:, slab][asked])
            share = samples.weights(density, slab)
            weights[:, slab] = clear[:, None] * share
            clear = clear * (1 - share.sum(dim=-1)).clamp(min=0)
            seen = weights[:, slab] > LEAST_WEIGHT
            ray = numbers.expand_as(seen)[seen]
            found = network.color(hidden[seen[asked]], views[ray])
            color.index_add_(0, ray, weights[:, slab][seen][:, None] * found)
    return color, weights
