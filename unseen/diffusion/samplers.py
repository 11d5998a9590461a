"""Samplers: from noise to x_0 through a denoiser `denoise(x_t, t) -> x_0`.

All of them take the denoiser, the state x_t at `times[0]`, the schedule and the
decreasing `times` (step + 1 entries), and return the state at `times[-1]`. From pure
noise the state is sigma(times[0]) times standard normal numbers, see `initial_state`.

The coefficients are computed in float64 on the CPU, so no step waits for a device.
The denoiser receives t as one entry per sample in the dtype of x_t (float32 for the
half types). Gradients are recorded unless the caller switches them off.

Where a sampler draws noise, either pass `generator`, or `noise`: a function from a
tensor to standard normal numbers of its shape (`PerSampleNoise` makes a sample
independent of the batch that it is in). `on_step(index, x_t, x_0)` is called after
every step with the state that entered it and the estimate that was made of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.guidance import Denoise
from unseen.diffusion.noise import Noise, PerSampleNoise, get_noise
from unseen.diffusion.schedule import Schedule
from unseen.diffusion.steps import Step, get_scales, get_steps, t_like
from unseen.diffusion.times import times_karras, times_log_snr, times_uniform

__all__ = [
    "Churn",
    "Denoise",
    "Noise",
    "PerSampleNoise",
    "ancestral",
    "ddim",
    "dpm_solver_pp_2m",
    "euler",
    "heun",
    "initial_state",
    "times_karras",
    "times_log_snr",
    "times_uniform",
]

OnStep = Callable[[int, Tensor, Tensor], None]


@final
@dataclasses.dataclass(frozen=True)
class Churn:
    """Noise that `euler` and `heun` put back before a step (EDM, Alg. 2).

    `amount` is S_churn, shared out over the steps; it acts where sigma / alpha lies
    in [`low`, `high`] (S_tmin, S_tmax); `scale` is S_noise.
    """

    amount: float = 0.0
    low: float = 0.0
    high: float = math.inf
    scale: float = 1.0


def initial_state(
    eps: Float[Tensor, "batch *rest"], schedule: Schedule, t_start: float = 1.0
) -> Float[Tensor, "batch *rest"]:
    """The state of pure noise at `t_start`: sigma(t_start) eps."""
    return eps * get_scales(schedule, [t_start])[0][1]


def ddim(
    denoise: Denoise,
    x_t: Float[Tensor, "batch *rest"],
    schedule: Schedule,
    times: Float[Tensor, "time"],
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch *rest"]:
    """DDIM (Song et al. 2021, Eq. 12 and 16), order 1.

    `eta` = 0 is deterministic, 1 is ancestral sampling.
    """
    draw = get_noise(generator, noise)
    for index, step in enumerate(get_steps(schedule, times)):
        x_0 = denoise(x_t, t_like(step.t, x_t))
        eps = (x_t - step.alpha * x_0) / step.sigma
        # Eq. 16 for any alpha and sigma; 1 - decay^2 = 1 - SNR / SNR_next.
        std = eta * step.sigma_next * math.sqrt(1 - step.decay**2)
        kept = math.sqrt(max(step.sigma_next**2 - std**2, 0.0))
        x_next = step.alpha_next * x_0 + kept * eps
        if std > 0:
            x_next = x_next + std * draw(x_t)
        if on_step is not None:
            on_step(index, x_t, x_0)
        x_t = x_next
    return x_t


def ancestral(
    denoise: Denoise,
    x_t: Float[Tensor, "batch *rest"],
    schedule: Schedule,
    times: Float[Tensor, "time"],
    *,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch *rest"]:
    """DDPM: draw from the posterior q(x_next | x_t, x_0) (Ho et al. 2020, Eq. 6-7).

    Variance: the posterior's own (the smaller of the paper's two), so that this is
    `ddim` with eta = 1. On `LogSNRSchedule` it is 3DiM's sampler.
    """
    draw = get_noise(generator, noise)
    for index, step in enumerate(get_steps(schedule, times)):
        x_0 = denoise(x_t, t_like(step.t, x_t))
        fresh = 1 - step.decay**2
        x_next = step.alpha_next * fresh * x_0
        x_next = x_next + step.decay * step.sigma_next / step.sigma * x_t
        std = step.sigma_next * math.sqrt(fresh)
        if std > 0:
            x_next = x_next + std * draw(x_t)
        if on_step is not None:
            on_step(index, x_t, x_0)
        x_t = x_next
    return x_t


def euler(
    denoise: Denoise,
    x_t: Float[Tensor, "batch *rest"],
    schedule: Schedule,
    times: Float[Tensor, "time"],
    *,
    churn: Churn | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch *rest"]:
    """Euler steps of the probability-flow ODE d(x/alpha) / d(sigma/alpha) = eps.

    Order 1. Without churn each step is a step of `ddim` with eta = 0.
    """
    draw = get_noise(generator, noise)
    steps = get_steps(schedule, times)
    for index, step in enumerate(steps):
        x_t, step = _add_churn(x_t, step, schedule, churn, len(steps), draw)
        x_0 = denoise(x_t, t_like(step.t, x_t))
        x_next = _first_order(x_t, x_0, step)
        if on_step is not None:
            on_step(index, x_t, x_0)
        x_t = x_next
    return x_t


def heun(
    denoise: Denoise,
    x_t: Float[Tensor, "batch *rest"],
    schedule: Schedule,
    times: Float[Tensor, "time"],
    *,
    interpolate: Literal["eps", "x_0"] = "eps",
    churn: Churn | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch *rest"]:
    """Heun steps of the probability-flow ODE (EDM, Alg. 1; with churn Alg. 2).

    Order 2; two evaluations a step, one in a step to sigma = 0. `interpolate` names
    the estimate that is linear within a step: "eps", in sigma / alpha, is EDM's
    trapezoid rule and wants a grid such as `times_karras`; "x_0", in log-SNR, is
    bounded, so it bears large steps too, such as the first of uniform times on the
    cosine and log-SNR schedules, where sigma / alpha falls from 20,000 to 30.
    """
    draw = get_noise(generator, noise)
    steps = get_steps(schedule, times)
    for index, step in enumerate(steps):
        x_t, step = _add_churn(x_t, step, schedule, churn, len(steps), draw)
        x_0 = denoise(x_t, t_like(step.t, x_t))
        x_next = _first_order(x_t, x_0, step)
        # To sigma = 0 (as in Alg. 1) and from alpha = 0 the gain is infinite: these
        # steps stay first order.
        if step.decay > 0:
            change = denoise(x_next, t_like(step.t_next, x_t)) - x_0
            weight = (1 / step.decay - 1) / 2
            if interpolate == "x_0":
                weight = 1 - (1 - step.decay) / step.gain
            x_next = x_next + step.alpha_next * weight * change
        if on_step is not None:
            on_step(index, x_t, x_0)
        x_t = x_next
    return x_t


def dpm_solver_pp_2m(
    denoise: Denoise,
    x_t: Float[Tensor, "batch *rest"],
    schedule: Schedule,
    times: Float[Tensor, "time"],
    *,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch *rest"]:
    """DPM-Solver++(2M) (Lu et al. 2022, Alg. 2): order 2, one evaluation a step.

    The first step, and a step to sigma = 0, are first order. The extrapolation from
    the step before is cut at twice that step's gain in log-SNR, which grids only
    exceed in a last step to almost no noise; there it would overshoot.
    """
    previous: tuple[Tensor, float] | None = None  # x_0 and h of the step before.
    for index, step in enumerate(get_steps(schedule, times)):
        x_0 = denoise(x_t, t_like(step.t, x_t))
        estimate = x_0
        if previous is not None and math.isfinite(step.gain):
            # Alg. 2: D = (1 + 1 / (2 r)) x_0 - 1 / (2 r) x_0', r = h' / h.
            reach = min(step.gain / (2 * previous[1]), 1.0)
            estimate = x_0 + reach * (x_0 - previous[0])
        x_next = _first_order(x_t, estimate, step)
        if on_step is not None:
            on_step(index, x_t, x_0)
        x_t, previous = x_next, (x_0, step.gain)
    return x_t


def _first_order(
    x_t: Float[Tensor, "batch *rest"], x_0: Float[Tensor, "batch *rest"], step: Step
) -> Float[Tensor, "batch *rest"]:
    """The exact solution for a constant x_0: alpha_next x_0 + sigma_next eps."""
    scaled = step.sigma_next / step.sigma * x_t
    return scaled + step.alpha_next * (1 - step.decay) * x_0


def _add_churn(
    x_t: Float[Tensor, "batch *rest"],
    step: Step,
    schedule: Schedule,
    churn: Churn | None,
    num_steps: int,
    draw: Noise,
) -> tuple[Float[Tensor, "batch *rest"], Step]:
    """Raise the noise level before a step (EDM, Alg. 2, lines 4-6)."""
    if churn is None or churn.amount == 0 or step.alpha == 0:
        return x_t, step
    ratio = step.sigma / step.alpha
    if not churn.low <= ratio <= churn.high:
        return x_t, step
    raised = ratio * (1 + min(churn.amount / num_steps, math.sqrt(2) - 1))
    log_snr = torch.tensor([-2 * math.log(raised)], dtype=torch.float64)
    t = schedule.t_from_log_snr(log_snr).item()
    # A schedule may end below the level that was asked for: add what it can hold.
    alpha, sigma = get_scales(schedule, [t])[0]
    added = churn.scale * math.sqrt(max((sigma / alpha) ** 2 - ratio**2, 0.0))
    x_t = alpha * (x_t / step.alpha + added * draw(x_t))
    return x_t, dataclasses.replace(step, t=t, alpha=alpha, sigma=sigma)
