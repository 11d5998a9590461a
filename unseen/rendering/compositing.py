"""Emission and absorption along rays: densities to weights to pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def composite_weights(
    densities: Float[Tensor, "*batch sample"],
    intervals: Float[Tensor, "*#batch sample"],
) -> Float[Tensor, "*batch sample"]:
    """Share of each sample in its ray: w_i = T_i (1 - exp(-sigma_i delta_i)).

    Densities are per unit of length (>= 0), `intervals` the lengths they hold for.
    The sum over samples is the ray's opacity. NeRF, equation 3 (Mildenhall et al.,
    2020).
    """
    # T_i = exp(-sum_{j<i} tau_j): several times faster than the running product of
    # 1 - alpha. The sum is shifted rather than reduced by tau_i, which would cancel
    # where tau_i is large.
    thickness = densities * intervals
    before = F.pad(thickness[..., :-1].cumsum(dim=-1), (1, 0))
    return -torch.exp(-before) * torch.expm1(-thickness)


def composite(
    weights: Float[Tensor, "*batch sample"],
    values: Float[Tensor, "*batch sample channel"],
) -> Float[Tensor, "*batch channel"]:
    """Weighted sum of the samples' values (premultiplied by the opacity)."""
    # Faster than a batched matrix product, most of all in the backward pass.
    return (weights[..., None] * values).sum(dim=-2)


def over_background(
    color: Float[Tensor, "*batch channel"],
    opacity: Float[Tensor, "*batch"],
    background: Float[Tensor, "*#batch channel"],
) -> Float[Tensor, "*batch channel"]:
    """Lay a premultiplied colour over a background, which may be one for all rays."""
    return color + (1 - opacity[..., None]) * background
