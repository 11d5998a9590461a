"""Convergence of samplers to a mixture whose denoiser is exact."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

from tests.diffusion.mixture import Mixture
from unseen.diffusion import samplers
from unseen.diffusion.samplers import (
    initial_state,
    times_log_snr,
    times_uniform,
)
from unseen.diffusion.schedules import (
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    LogSNRSchedule,
    Schedule,
)

SCHEDULES = [CosineSchedule(), LogSNRSchedule(), EDMSchedule(), FlowSchedule()]
HEUN_X0 = functools.partial(samplers.heun, interpolate="x_0")
DETERMINISTIC = {
    "ddim": (samplers.ddim, 1),
    "euler": (samplers.euler, 1),
    "heun": (samplers.heun, 2),
    "heun_x0": (HEUN_X0, 2),
    "dpm_solver_pp_2m": (samplers.dpm_solver_pp_2m, 2),
}


def name(value: object) -> str:
    return type(value).__name__


def smooth_times(steps: int, schedule: Schedule) -> torch.Tensor:
    """A smooth grid from SNR 0.01 to 400, without the ends."""
    log_snr = torch.linspace(math.log(0.01), math.log(400), steps + 1).double()
    return schedule.t_from_log_snr(log_snr)


def noise_at(times: torch.Tensor, schedule: Schedule, number: int) -> torch.Tensor:
    quantiles = torch.linspace(0.02, 0.98, number, dtype=torch.float64)
    x = torch.special.ndtri(quantiles)[:, None]
    return initial_state(x, schedule, times[0].item())


@pytest.mark.parametrize("sampler", DETERMINISTIC)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_order_of_convergence(schedule: Schedule, sampler: str) -> None:
    """The slope of log error against log step is the order."""
    sample, order = DETERMINISTIC[sampler]
    mixture = Mixture()
    ends = schedule.alpha_sigma(smooth_times(1, schedule))
    (alpha, alpha_end), (sigma, sigma_end) = (scale.tolist() for scale in ends)
    ranks = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    x_t = mixture.quantiles(ranks, alpha, sigma)[:, None]
    expected = mixture.quantiles(ranks, alpha_end, sigma_end)[:, None]
    steps = [24, 48, 96]
    errors = []
    for number in steps:
        times = smooth_times(number, schedule)
        x = sample(mixture.denoiser(schedule), x_t, schedule, times)
        errors.append((x - expected).square().mean().sqrt().item())
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.25), errors


@pytest.mark.parametrize("sampler", DETERMINISTIC)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_noise_becomes_data(schedule: Schedule, sampler: str) -> None:
    """From pure noise to data, ends included: ranks arrive as they left."""
    sample, order = DETERMINISTIC[sampler]
    mixture = Mixture()
    x_t = noise_at(torch.ones(1), schedule, 25)
    if isinstance(schedule, FlowSchedule):
        times = times_uniform(60)
    else:
        times = times_log_snr(60, schedule)
    x_0 = sample(mixture.denoiser(schedule), x_t, schedule, times)
    ranks = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    error = (mixture.cdf(x_0[:, 0]) - ranks).abs().max()
    assert error < (0.04 if order == 1 else 0.015)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_stochastic_samples_have_the_data_distribution(
    schedule: Schedule, eta: float, generator: torch.Generator
) -> None:
    mixture = Mixture()
    eps = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    x_0 = samplers.ddim(
        mixture.denoiser(schedule),
        initial_state(eps, schedule),
        schedule,
        times_uniform(80),
        eta=eta,
        generator=generator,
    )
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) holds by chance in 999 of 1,000 cases; the
    # rest is the error of 80 first-order steps.
    ranks = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    distance = (mixture.cdf(x_0[:, 0].sort().values) - ranks).abs().max()
    assert distance < 1.95 / math.sqrt(4000) + 0.025


def test_partial_noise_returns_to_the_data(generator: torch.Generator) -> None:
    """Starting in the middle needs a state of that level, and ends in the data."""
    schedule, mixture = CosineSchedule(), Mixture()
    x_t = mixture.noised(schedule, 0.6, 4000, generator)
    times = times_uniform(60, t_start=0.6)
    x_0 = samplers.dpm_solver_pp_2m(mixture.denoiser(schedule), x_t, schedule, times)
    ranks = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    distance = (mixture.cdf(x_0[:, 0].sort().values) - ranks).abs().max()
    assert distance < 1.95 / math.sqrt(4000) + 0.005
