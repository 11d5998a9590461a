"""Samples along rays by the original NeRF code's rule, which released weights need.

Samples include both ends of the ray, each stands for the interval up to the next one,
and importance samples are drawn between the samples' midpoints with the end samples
left out. `sampling` has the midpoint rule, which integrates more accurately and whose
intervals sum to the length of the ray; prefer it for anything new.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def endpoint_uniform(
    near: Float[Tensor, "*batch"], far: Float[Tensor, "*batch"], num_samples: int
) -> Float[Tensor, "*batch sample"]:
    """Equally spaced positions from `near` to `far`, both included."""
    fraction = torch.linspace(0, 1, num_samples, device=near.device, dtype=near.dtype)
    return near[..., None] * (1 - fraction) + far[..., None] * fraction


def endpoint_edges(
    positions: Float[Tensor, "*batch sample"],
) -> Float[Tensor, "*batch sample+1"]:
    """Each interval runs from a sample to the next; the last repeats its length."""
    last = 2 * positions[..., -1:] - positions[..., -2:-1]
    return torch.cat([positions, last], dim=-1)


def endless_edges(
    positions: Float[Tensor, "*batch sample"],
) -> Float[Tensor, "*batch sample+1"]:
    """Each interval runs from a sample to the next; the last has no end (1e10).

    Whatever density the last sample has, however little, is opaque.
    """
    return torch.cat([positions, positions[..., -1:] + 1e10], dim=-1)


def endpoint_importance(
    positions: Float[Tensor, "*batch sample"],
    weights: Float[Tensor, "*batch sample"],
    num_samples: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch fine"]:
    """Samples from the weights between the midpoints of sorted `positions`.

    The cumulative distribution is inverted at `num_samples` equally spaced numbers
    from 0 to 1, both included, or at uniformly random ones where a generator is
    given. No gradient flows into the weights.
    """
    shape = (*weights.shape[:-1], num_samples)
    if generator is None:
        u = torch.linspace(
            0, 1, num_samples, device=weights.device, dtype=weights.dtype
        ).expand(shape)
    else:
        u = torch.rand(shape, generator=generator, device=generator.device).to(weights)
    return endpoint_quantiles(positions, weights, u)


def endpoint_quantiles(
    positions: Float[Tensor, "*batch sample"],
    weights: Float[Tensor, "*batch sample"],
    quantiles: Float[Tensor, "*batch fine"],
) -> Float[Tensor, "*batch fine"]:
    """The given quantiles, in [0, 1], of the density of `endpoint_importance`."""
    edges = 0.5 * (positions[..., 1:] + positions[..., :-1])
    return edge_quantiles(edges, weights[..., 1:-1], quantiles)


def edge_quantiles(
    edges: Float[Tensor, "*batch edge"],
    weights: Float[Tensor, "*batch sample"],
    quantiles: Float[Tensor, "*batch fine"],
) -> Float[Tensor, "*batch fine"]:
    """Quantiles, in [0, 1], of the density that is constant between edges."""
    weights = weights.detach() + 1e-5
    cdf = (weights / weights.sum(dim=-1, keepdim=True)).cumsum(dim=-1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], dim=-1)
    u = quantiles.contiguous()

    above = torch.searchsorted(cdf, u, right=True)
    low = (above - 1).clamp(min=0)
    high = above.clamp(max=cdf.shape[-1] - 1)
    cdf_low, cdf_high = cdf.gather(-1, low), cdf.gather(-1, high)
    left, right = edges.gather(-1, low), edges.gather(-1, high)
    width = cdf_high - cdf_low
    # A bin of next to no mass is not divided by its mass.
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    return left + (u - cdf_low) / width * (right - left)
