"""Guidance of a denoiser: how estimates are combined, energies, what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Denoise = Callable[
    [Float[Tensor, "batch *rest"], Float[Tensor, "batch"]],
    Float[Tensor, "batch *rest"],
]


Origin = Literal["unconditional", "conditional"]
"""Where a guidance scale counts from. Scale 1 from the unconditional estimate is the
conditional one, as is scale 0 from the conditional estimate."""


def classifier_free(
    conditional: Float[Tensor, "*shape"],
    unconditional: Float[Tensor, "*shape"],
    scale: float,
    origin: Origin = "unconditional",
) -> Float[Tensor, "*shape"]:
    """u + scale (c - u) (Ho & Salimans 2022): 1 is the conditional estimate.

    Counted from the conditional estimate it is c + scale (c - u), the paper's own form:
    the same with a scale that is larger by 1. At one x_t and t, x_0, eps and v depend
    linearly on each other, so this combines any of the three alike.
    """
    start = unconditional if origin == "unconditional" else conditional
    return start + scale * (conditional - unconditional)


def perpendicular_negative(
    conditional: Float[Tensor, "batch *rest"],
    unconditional: Float[Tensor, "batch *rest"],
    negatives: Float[Tensor, "negative batch *rest"],
    weights: Float[Tensor, "negative batch"],
    scale: float,
) -> Float[Tensor, "batch *rest"]:
    """Guidance away from negative conditions (Armandpour et al. 2023, Perp-Neg).

    u + scale (p + sum_i w_i n_i), with p = c - u and n_i the part of (negative i - u)
    that is perpendicular to p within each sample, so that a negative condition never
    works against what it shares with the positive one. `weights` are at most 0.
    """
    wanted = conditional - unconditional
    along = wanted.flatten(1)
    length = along.square().sum(dim=1).clamp(min=1e-12)
    total = wanted
    for negative, weight in zip(negatives, weights, strict=True):
        away = negative - unconditional
        share = (away.flatten(1) * along).sum(dim=1) / length
        share, weight = (
            x.reshape(-1, *[1] * (wanted.ndim - 1)) for x in (share, weight)
        )
        total = total + weight * (away - share * wanted)
    return unconditional + scale * total


def rescaled(
    guided: Float[Tensor, "batch *rest"],
    conditional: Float[Tensor, "batch *rest"],
    amount: float,
    group: int = 1,
) -> Float[Tensor, "batch *rest"]:
    """Guided estimates of x_0 brought back to the spread of conditional ones.

    Strong guidance raises the contrast (Lin et al. 2024, section 3.4). `amount` mixes
    what was guided (0) and what was rescaled (1). The standard deviations are taken
    over `group` samples at a time, as MVDream does over the views of an object.
    """
    size = (-1, group, *guided.shape[1:])
    axes = tuple(range(1, guided.ndim + 1))
    wanted = conditional.reshape(size).std(dim=axes, keepdim=True)
    found = guided.reshape(size).std(dim=axes, keepdim=True).clamp(min=1e-8)
    factor = amount * wanted / found + (1 - amount)
    return (guided.reshape(size) * factor).reshape(guided.shape)


def guided_denoise(denoise_both: Denoise, scale: float) -> Denoise:
    """A guided denoiser that evaluates both branches as one batch.

    `denoise_both` receives x_t and t twice over (2 * batch entries): it must treat
    the first half as conditional and the second half as unconditional.
    """

    def denoise(
        x_t: Float[Tensor, "batch *rest"], t: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch *rest"]:
        both = denoise_both(torch.cat([x_t, x_t]), torch.cat([t, t]))
        conditional, unconditional = both.chunk(2)
        return classifier_free(conditional, unconditional, scale)

    return denoise


def keep_known(
    denoise: Denoise,
    known: Float[Tensor, "*#shape"],
    kept: Bool[Tensor, "*#shape"],
) -> Denoise:
    """A denoiser whose estimate of what is `kept` is what is known of it.

    An ancestral sampler then draws these entries from the posterior of the forward
    process given its end, so that they are as noisy as all others, and arrive.
    """

    def completed(
        x_t: Float[Tensor, "batch *rest"], t: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch *rest"]:
        return torch.where(kept, known, denoise(x_t, t))

    return completed


def guided_noise(
    predict_noise: Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]],
    energy: Callable[
        [Float[Tensor, "*shape"], Float[Tensor, "*shape"]], Float[Tensor, "batch"]
    ],
    x_t: Float[Tensor, "*shape"],
    sigma: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """eps + sigma grad E: guidance by the gradient of an energy -log p(y | x_t).

    (Dhariwal & Nichol 2021, algorithm 2.) `energy` takes x_t and the unguided noise,
    through which the gradient flows back; gradients are on whatever the caller's mode.
    """
    with torch.enable_grad():
        state = x_t.detach().requires_grad_()
        eps = predict_noise(state)
        (gradient,) = torch.autograd.grad(energy(state, eps).sum(), state)
    return eps.detach() + sigma * gradient


def dynamic_threshold(
    x_0: Float[Tensor, "batch *rest"], percentile: float = 0.95
) -> Float[Tensor, "batch *rest"]:
    """Bring an estimate back to [-1, 1] (Imagen, Saharia et al. 2022, section 2.3).

    s is the given quantile (0 .. 1) of |x_0| within each sample, at least 1; the
    result is x_0 clamped to [-s, s] and divided by s.
    """
    if not 0 <= percentile <= 1:
        raise ValueError(f"percentile must lie in [0, 1], it is {percentile}.")
    # Sample by sample, since `quantile` refuses more than 2^24 elements at once.
    size = [
        torch.quantile(sample.detach().abs().float().flatten(), percentile)
        for sample in x_0
    ]
    limit = torch.stack(size).clamp(min=1).to(x_0.dtype)
    limit = limit.reshape(-1, *[1] * (x_0.ndim - 1))
    return torch.maximum(torch.minimum(x_0, limit), -limit) / limit
