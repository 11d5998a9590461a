"""Inpainting with a denoiser that was not trained for it (RePaint).

Lugmayr et al. 2022, "RePaint: Inpainting using Denoising Diffusion Probabilistic
Models", CVPR, algorithm 1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.diffusion.guidance import Denoise
from unseen.diffusion.noise import Noise
from unseen.diffusion.samplers import OnStep
from unseen.diffusion.schedule import Schedule
from unseen.diffusion.steps import get_steps, t_like


def repaint(
    denoise: Denoise,
    x_t: Float[Tensor, "batch *rest"],
    known: Float[Tensor, "batch *rest"],
    hidden: Bool[Tensor, "batch *rest"],
    schedule: Schedule,
    times: Float[Tensor, "time"],
    *,
    noise: Noise,
    repeats: int = 1,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch *rest"]:
    """Ancestral sampling of what is `hidden`; the rest stays `known`.

    After each step, the part of x_0 that is known is noised anew to the level that was
    reached. Each step is made `repeats` times, with noise up to its beginning added in
    between, which lets both parts agree (RePaint's resampling with jumps of one step).
    `on_step` counts every evaluation.
    """
    index = 0
    for step in get_steps(schedule, times):
        # No noise is added to what is clean: the last step is made once.
        last = step.sigma_next == 0
        for repeat in range(1 if last else repeats):
            if repeat > 0:
                # q(x_t | x_next).
                ratio = step.alpha / step.alpha_next
                kept = (ratio * step.sigma_next) ** 2
                added = math.sqrt(max(step.sigma**2 - kept, 0.0))
                x_t = ratio * x_next + added * noise(x_t)
            x_0 = denoise(x_t, t_like(step.t, x_t))
            fresh = 1 - step.decay**2
            x_next = step.alpha_next * fresh * x_0
            x_next = x_next + step.decay * step.sigma_next / step.sigma * x_t
            seen = step.alpha_next * known
            if not last:
                x_next = x_next + step.sigma_next * math.sqrt(fresh) * noise(x_t)
                seen = seen + step.sigma_next * noise(x_t)
            x_next = torch.where(hidden, x_next, seen)
            if on_step is not None:
                on_step(index, x_t, x_0)
            index += 1
        x_t = x_next
    return x_t
