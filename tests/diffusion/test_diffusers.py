"""Schedules and samplers against diffusers, where it has the same thing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unseen.diffusion import prediction, samplers
from unseen.diffusion.guidance import dynamic_threshold
from unseen.diffusion.samplers import times_karras, times_uniform
from unseen.diffusion.schedules import (
    CosineSchedule,
    EDMSchedule,
    LinearSchedule,
    ScaledLinearSchedule,
    SteppedSchedule,
    unsqueeze_like,
)

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

STEPS = 20
SCHEDULES = {
    "squaredcos_cap_v2": CosineSchedule(),
    "linear": LinearSchedule(),
    "scaled_linear": ScaledLinearSchedule(beta_start=1e-4, beta_end=0.02),
}
FORMS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def network(x_t: Tensor, step: Tensor | float) -> Tensor:
    """A stand-in that depends on everything, wave by wave and step by step."""
    return torch.sin(1.3 * x_t + 0.004 * torch.as_tensor(step)) * 0.9


def denoiser(schedule: SteppedSchedule, form: str):
    """Our view of a network that predicts `form` at integer steps."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        step = schedule.step_of_t(t).round()
        output = network(x_t, unsqueeze_like(step, x_t))
        if form == "sample":
            return output
        alpha, sigma = (unsqueeze_like(s, x_t) for s in schedule.alpha_sigma(t))
        convert = getattr(prediction, f"x0_from_{FORMS[form]}")
        return convert(x_t, output, alpha, sigma)

    return denoise


def noise(generator: torch.Generator) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=generator)


@pytest.mark.parametrize("beta", SCHEDULES)
def test_tables(beta: str) -> None:
    theirs = diffusers.DDIMScheduler(beta_schedule=beta).alphas_cumprod
    ours = SCHEDULES[beta].discrete_alphas_cumprod().float()
    torch.testing.assert_close(ours, theirs, rtol=5e-4, atol=1e-6)


# Not eps with the cosine schedule: there x_0 is divided by alpha = 5e-5, and
# rounding decides.
@pytest.mark.parametrize(
    ("beta", "form"),
    [
        (beta, form)
        for beta in SCHEDULES
        for form in FORMS
        if (beta, form) != ("squaredcos_cap_v2", "epsilon")
    ],
)
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim(beta: str, form: str, eta: float, generator: torch.Generator) -> None:
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=beta,
        prediction_type=form,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(STEPS)
    start = noise(generator)
    draws = iter([noise(generator) for _ in range(STEPS)])
    ours = samplers.ddim(
        denoiser(SCHEDULES[beta], form),
        start,
        SCHEDULES[beta],
        times_uniform(STEPS),
        eta=eta,
        noise=lambda _: next(draws),
    )
    generator.manual_seed(0)
    x_t = noise(generator)
    for step in scheduler.timesteps:
        output = network(x_t, step)
        draw = noise(generator) if eta > 0 else None
        x_t = scheduler.step(output, step, x_t, eta=eta, variance_noise=draw)
        x_t = x_t.prev_sample
    torch.testing.assert_close(ours, x_t, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", ["sample", "v_prediction"])
@pytest.mark.parametrize("beta", SCHEDULES)
def test_ddpm(beta: str, form: str, generator: torch.Generator) -> None:
    scheduler = diffusers.DDPMScheduler(
        beta_schedule=beta,
        prediction_type=form,
        clip_sample=False,
        variance_type="fixed_small",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(STEPS)
    start = noise(generator)
    ours = samplers.ancestral(
        denoiser(SCHEDULES[beta], form),
        start,
        SCHEDULES[beta],
        times_uniform(STEPS),
        generator=generator,
    )
    generator.manual_seed(0)
    x_t = noise(generator)
    for step in scheduler.timesteps:
        output = network(x_t, step)
        x_t = scheduler.step(output, step, x_t, generator=generator).prev_sample
    torch.testing.assert_close(ours, x_t, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("beta", SCHEDULES)
def test_dpm_solver_pp_2m(beta: str, generator: torch.Generator) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_schedule=beta,
        prediction_type="sample",
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(STEPS)
    start = noise(generator)
    ours = samplers.dpm_solver_pp_2m(
        denoiser(SCHEDULES[beta], "sample"),
        start,
        SCHEDULES[beta],
        times_uniform(STEPS),
    )
    x_t = start
    for step in scheduler.timesteps:
        x_t = scheduler.step(network(x_t, step), step, x_t).prev_sample
    torch.testing.assert_close(ours, x_t, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["Euler", "Heun"])
@pytest.mark.parametrize("beta", ["linear", "scaled_linear"])
def test_euler_and_heun(kind: str, beta: str, generator: torch.Generator) -> None:
    """diffusers runs these two on x_t / alpha."""
    schedule = SCHEDULES[beta]
    betas = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": beta}
    scheduler = getattr(diffusers, f"{kind}DiscreteScheduler")(
        **betas, prediction_type="epsilon", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(STEPS)
    start = noise(generator)
    ours = getattr(samplers, kind.lower())(
        denoiser(schedule, "epsilon"), start, schedule, times_uniform(STEPS)
    )
    x_t = start / schedule.alpha(torch.ones(()))
    for step in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x_t, step), step)
        x_t = scheduler.step(output, step, x_t).prev_sample
    torch.testing.assert_close(ours, x_t, rtol=1e-3, atol=1e-3)


def test_edm_euler(generator: torch.Generator) -> None:
    schedule = EDMSchedule()
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(STEPS)
    times = times_karras(STEPS, schedule)
    torch.testing.assert_close(schedule.sigma(times).float(), scheduler.sigmas)
    start = 80 * noise(generator)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        sigma = unsqueeze_like(schedule.sigma(t), x_t)
        return torch.tanh(x_t / (1 + sigma))

    x_t = start
    for step, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scheduler.scale_model_input(x_t, step)
        x_0 = torch.tanh(x_t / (1 + sigma))
        x_t = scheduler.step(x_0, step, x_t, pred_original_sample=x_0).prev_sample
    ours = samplers.euler(denoise, start, schedule, times)
    torch.testing.assert_close(ours, x_t, rtol=1e-3, atol=1e-3)


def test_dynamic_threshold(generator: torch.Generator) -> None:
    scheduler = diffusers.DDIMScheduler(
        thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1e9
    )
    x_0 = torch.tensor([0.2, 1.0, 5.0])[:, None, None, None] * torch.randn(
        3, 3, 8, 8, generator=generator
    )
    theirs = scheduler._threshold_sample(x_0)
    torch.testing.assert_close(dynamic_threshold(x_0, percentile=0.95), theirs)
