"""Where to sample along rays.

Positions are in whatever unit `near` and `far` are in: depth or distance. Without a
generator everything is deterministic; with one it is stratified.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def sample_uniform(
    near: Float[Tensor, "*batch"],
    far: Float[Tensor, "*batch"],
    num_samples: int,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "*batch sample"], Float[Tensor, "*batch sample"]]:
    """One sample in each of `num_samples` equal bins between `near` and `far`.

    Returns positions and intervals. Positions are the bins' midpoints, or uniform in
    their bin where a generator is given. The intervals partition [near, far]: the
    edge between two samples is half-way between them, so they always sum to far -
    near.
    """
    shape = (*near.shape, num_samples)
    positions = _stratified(shape, near.device, near.dtype, generator)
    positions = near[..., None] + (far - near)[..., None] * positions
    return positions, edges_between(positions, near, far).diff(dim=-1)


def _stratified(
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    generator: torch.Generator | None,
) -> Float[Tensor, "*batch sample"]:
    """One number in each of `shape[-1]` equal parts of [0, 1], in order."""
    bins = torch.arange(shape[-1], device=device, dtype=dtype)
    if generator is None:
        offset = torch.full(shape, 0.5, device=device, dtype=dtype)
    else:
        offset = torch.rand(
            shape, generator=generator, device=generator.device, dtype=dtype
        ).to(device)
    return (bins + offset) / shape[-1]


def edges_between(
    positions: Float[Tensor, "*batch sample"],
    near: Float[Tensor, "*batch"],
    far: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch sample+1"]:
    """Edges of the intervals that sorted samples stand for.

    They are half-way between neighbours; the first is `near` and the last is `far`.
    """
    middle = 0.5 * (positions[..., 1:] + positions[..., :-1])
    return torch.cat([near[..., None], middle, far[..., None]], dim=-1)


def sample_importance(
    edges: Float[Tensor, "*batch edge"],
    weights: Float[Tensor, "*batch sample"],
    num_samples: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch fine"]:
    """Sorted samples from the density that is constant between edges.

    Inverts its cumulative distribution (NeRF, section 5.2) at the midpoints of
    `num_samples` equal parts of [0, 1], or at one random place in each where a
    generator is given. A ray whose weights are all zero is sampled uniformly. No
    gradient flows into the weights.
    """
    weights = weights.detach() + 1e-8
    cdf = torch.cumsum(weights, dim=-1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf / cdf[..., -1:]], dim=-1)
    u = _stratified(
        (*weights.shape[:-1], num_samples), weights.device, weights.dtype, generator
    )

    # The bin with cdf[bin] <= u < cdf[bin + 1].
    bins = torch.searchsorted(cdf, u, right=True) - 1
    bins = bins.clamp(0, weights.shape[-1] - 1)
    low, high = cdf.gather(-1, bins), cdf.gather(-1, bins + 1)
    left, right = edges.gather(-1, bins), edges.gather(-1, bins + 1)
    fraction = ((u - low) / (high - low)).nan_to_num(0.5).clamp(0, 1)
    return left + fraction * (right - left)


def merge_samples(
    first: Float[Tensor, "*batch coarse"],
    second: Float[Tensor, "*batch fine"],
    near: Float[Tensor, "*batch"],
    far: Float[Tensor, "*batch"],
) -> tuple[Float[Tensor, "*batch sample"], Float[Tensor, "*batch sample"]]:
    """Sorted union of two sets of samples, and the intervals they stand for."""
    positions = torch.cat([first, second], dim=-1).sort(dim=-1).values
    return positions, edges_between(positions, near, far).diff(dim=-1)
