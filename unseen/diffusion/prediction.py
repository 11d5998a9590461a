"""Conversions between what networks predict, and loss weightings.

x_t = alpha x_0 + sigma eps and v = alpha eps - sigma x_0 (Salimans & Ho 2022). The
scales must broadcast against x_t (see `schedules.unsqueeze_like`). Nothing assumes
alpha^2 + sigma^2 = 1. Where a scale that must be divided by vanishes, the answer is
not determined by the arguments; the results stay finite.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# The smallest divisor: far below any scale that a schedule uses between its ends.
_SMALLEST = 1e-8


def x0_from_eps(
    x_t: Float[Tensor, "*shape"],
    eps: Float[Tensor, "*shape"],
    alpha: Float[Tensor, "*#shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """(x_t - sigma eps) / alpha; undetermined at alpha = 0."""
    return (x_t - sigma * eps) / alpha.clamp(min=_SMALLEST)


def x0_from_v(
    x_t: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    alpha: Float[Tensor, "*#shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """(alpha x_t - sigma v) / (alpha^2 + sigma^2); determined everywhere."""
    return (alpha * x_t - sigma * v) / (alpha**2 + sigma**2)


def eps_from_x0(
    x_t: Float[Tensor, "*shape"],
    x_0: Float[Tensor, "*shape"],
    alpha: Float[Tensor, "*#shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """(x_t - alpha x_0) / sigma; undetermined at sigma = 0."""
    return (x_t - alpha * x_0) / sigma.clamp(min=_SMALLEST)


def eps_from_v(
    x_t: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    alpha: Float[Tensor, "*#shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """(sigma x_t + alpha v) / (alpha^2 + sigma^2); determined everywhere."""
    return (sigma * x_t + alpha * v) / (alpha**2 + sigma**2)


def v_from_x0(
    x_t: Float[Tensor, "*shape"],
    x_0: Float[Tensor, "*shape"],
    alpha: Float[Tensor, "*#shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """alpha eps - sigma x_0, eps implied by x_t and x_0; undetermined at sigma = 0."""
    return alpha * eps_from_x0(x_t, x_0, alpha, sigma) - sigma * x_0


def v_from_eps(
    x_t: Float[Tensor, "*shape"],
    eps: Float[Tensor, "*shape"],
    alpha: Float[Tensor, "*#shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """alpha eps - sigma x_0, x_0 implied by x_t and eps; undetermined at alpha = 0."""
    return alpha * eps - sigma * x0_from_eps(x_t, eps, alpha, sigma)


def uniform_weight(log_snr: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """1: the plain x_0 loss."""
    return torch.ones_like(log_snr)


def min_snr_weight(
    log_snr: Float[Tensor, "*batch"], gamma: float = 5.0
) -> Float[Tensor, "*batch"]:
    """min(SNR, gamma), for an x_0 loss (Hang et al. 2023, Min-SNR-gamma)."""
    return log_snr.exp().clamp(max=gamma)


def truncated_snr_weight(
    log_snr: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """max(SNR, 1), for an x_0 loss (Salimans & Ho 2022, section 4)."""
    return log_snr.exp().clamp(min=1.0)


def edm_weight(
    log_snr: Float[Tensor, "*batch"], sigma_data: float = 0.5
) -> Float[Tensor, "*batch"]:
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 with sigma^2 = 1 / SNR.

    For an x_0 loss (Karras et al. 2022, table 1); it equals SNR + 1 / sigma_data^2.
    """
    return log_snr.exp() + 1 / sigma_data**2


def edm_scales(
    sigma: Float[Tensor, "*batch"], sigma_data: float = 0.5
) -> tuple[
    Float[Tensor, "*batch"],
    Float[Tensor, "*batch"],
    Float[Tensor, "*batch"],
    Float[Tensor, "*batch"],
]:
    """c_skip, c_out, c_in and c_noise of a preconditioned network F, with alpha = 1.

    x_0 = c_skip x_t + c_out F(c_in x_t, c_noise): F sees and predicts numbers of unit
    variance (Karras et al. 2022, Eq. 7 and table 1).
    """
    total = (sigma.square() + sigma_data**2).sqrt()
    return (
        (sigma_data / total).square(),
        sigma * sigma_data / total,
        1 / total,
        sigma.log() / 4,
    )
