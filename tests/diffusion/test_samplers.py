"""What samplers promise besides accuracy (see test_convergence)."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from tests.diffusion.mixture import Mixture
from unseen.diffusion import samplers
from unseen.diffusion.samplers import (
    Churn,
    PerSampleNoise,
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


def noise_at(times: torch.Tensor, schedule: Schedule, number: int) -> torch.Tensor:
    quantiles = torch.linspace(0.02, 0.98, number, dtype=torch.float64)
    x = torch.special.ndtri(quantiles)[:, None]
    return initial_state(x, schedule, times[0].item())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_ancestral_is_ddim_with_eta_1(schedule: Schedule) -> None:
    denoise = Mixture().denoiser(schedule)
    x_t = noise_at(torch.ones(1), schedule, 9)
    results = [
        sample(
            denoise,
            x_t,
            schedule,
            times_uniform(20),
            generator=torch.Generator().manual_seed(3),
        )
        for sample in [
            samplers.ancestral,
            functools.partial(samplers.ddim, eta=1.0),
        ]
    ]
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_euler_without_churn_is_ddim(schedule: Schedule) -> None:
    denoise = Mixture().denoiser(schedule)
    x_t = noise_at(torch.ones(1), schedule, 9)
    times = times_uniform(20)
    euler = samplers.euler(denoise, x_t, schedule, times)
    torch.testing.assert_close(euler, samplers.ddim(denoise, x_t, schedule, times))


def test_schedules_that_differ_by_a_scale_sample_the_same() -> None:
    """Only sigma / alpha matters: the samplers commute with rescaling x_t."""
    cosine, edm = CosineSchedule(), EDMSchedule()
    times = times_log_snr(20, cosine, t_start=0.97)
    same = edm.t_from_log_snr(cosine.log_snr(times))
    x_t = noise_at(times, cosine, 9)
    scaled = x_t / cosine.alpha(times[0])
    for sampler, _ in DETERMINISTIC.values():
        first = sampler(Mixture().denoiser(cosine), x_t, cosine, times)
        second = sampler(Mixture().denoiser(edm), scaled, edm, same)
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("sample", [samplers.euler, samplers.heun])
def test_churn_keeps_the_distribution(
    sample, schedule: Schedule, generator: torch.Generator
) -> None:
    mixture = Mixture()
    eps = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    levels = []
    inner = mixture.denoiser(schedule)

    def denoise(x_t, t):
        levels.append(t[0].item())
        return inner(x_t, t)

    times = times_uniform(60)
    x_0 = sample(
        denoise,
        initial_state(eps, schedule),
        schedule,
        times,
        churn=Churn(amount=20.0, low=0.05, high=50.0),
        generator=generator,
    )
    ranks = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    distance = (mixture.cdf(x_0[:, 0].sort().values) - ranks).abs().max()
    assert distance < 1.95 / math.sqrt(4000) + 0.02
    # Somewhere the denoiser saw a level that is not on the grid.
    assert min((torch.tensor(levels)[:, None] - times).abs().amin(1).max(), 1) > 1e-4


def test_churn_adds_the_noise_that_it_says() -> None:
    schedule = EDMSchedule()
    times = schedule.t_from_log_snr(torch.tensor([2.0, 1.0]).double().log() * -2)
    seen = []

    def denoise(x_t, t):
        seen.append((x_t, schedule.sigma(t)))
        return torch.zeros_like(x_t)

    x_t = torch.full((2, 3), 5.0, dtype=torch.float64)
    for churn in [Churn(amount=0.25, scale=1.5), Churn(amount=0.25, high=1.9)]:
        samplers.euler(
            denoise, x_t, schedule, times, churn=churn, noise=torch.ones_like
        )
    raised = 5 + 1.5 * math.sqrt((2 * 1.25) ** 2 - 2**2)
    torch.testing.assert_close(seen[0][0], torch.full_like(x_t, raised))
    torch.testing.assert_close(seen[0][1], torch.full((2,), 2.5).double())
    torch.testing.assert_close(seen[1][0], x_t)


@pytest.mark.parametrize("schedule", [CosineSchedule(), LogSNRSchedule()], ids=name)
def test_few_uniform_steps_beat_ddim(schedule: Schedule) -> None:
    """At equal cost, second order pays on the grid that people use."""
    denoise = Mixture().denoiser(schedule)
    x_t = noise_at(torch.ones(1), schedule, 99)
    reference = samplers.dpm_solver_pp_2m(denoise, x_t, schedule, times_uniform(200))

    def error(sample, steps: int) -> float:
        x_0 = sample(denoise, x_t, schedule, times_uniform(steps))
        return (x_0 - reference).square().mean().sqrt().item()

    ddim = error(samplers.ddim, 20)
    assert error(samplers.dpm_solver_pp_2m, 20) < 0.6 * ddim
    assert error(HEUN_X0, 10) < 1.1 * ddim


@pytest.mark.parametrize("sampler", [*DETERMINISTIC, "ancestral"])
def test_every_step_is_reported(sampler: str) -> None:
    schedule = FlowSchedule()
    sample = getattr(samplers, sampler.removesuffix("_x0"))
    kwargs = {"noise": torch.zeros_like} if sampler == "ancestral" else {}
    seen = []
    x_t = torch.ones(2, 3)
    result = sample(
        lambda x_t, t: 0.5 * x_t,
        x_t,
        schedule,
        times_uniform(4),
        on_step=lambda *event: seen.append(event),
        **kwargs,
    )
    assert [index for index, _, _ in seen] == [0, 1, 2, 3]
    assert seen[0][1] is x_t
    torch.testing.assert_close(seen[2][2], 0.5 * seen[2][1])
    # The step to data returns the estimate.
    torch.testing.assert_close(result, seen[-1][2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_states_keep_their_dtype_and_t_is_never_half(dtype: torch.dtype) -> None:
    def denoise(x_t, t):
        assert x_t.dtype == dtype
        assert t.shape == (2,)
        assert t.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
        return 0.5 * x_t

    generator = torch.Generator().manual_seed(0)
    x_t = torch.ones(2, 3, dtype=dtype)
    for sample, kwargs in [
        (samplers.ddim, {"eta": 0.5, "generator": generator}),
        (samplers.ancestral, {"generator": generator}),
        (samplers.heun, {"churn": Churn(2.0), "generator": generator}),
        (samplers.dpm_solver_pp_2m, {}),
    ]:
        result = sample(denoise, x_t, CosineSchedule(), times_uniform(3), **kwargs)
        assert result.dtype == dtype


def test_gradients_flow_through_a_sampler() -> None:
    gain = torch.tensor(0.5, requires_grad=True)
    x_0 = samplers.ddim(
        lambda x_t, t: gain * x_t,
        torch.ones(1, 2),
        CosineSchedule(),
        times_uniform(4),
    )
    x_0.sum().backward()
    assert gain.grad is not None
    assert gain.grad.abs() > 0


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "euler", "heun"])
def test_a_sample_does_not_depend_on_its_batch(sampler: str) -> None:
    schedule = CosineSchedule()
    kwargs = {
        "ddim": {"eta": 0.7},
        "ancestral": {},
        "euler": {"churn": Churn(5.0)},
        "heun": {"churn": Churn(5.0)},
    }[sampler]

    def sample(number: int) -> torch.Tensor:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(number)]
        noise = PerSampleNoise(seeds)
        x_t = initial_state(noise(torch.empty(number, 2, 3)), schedule)
        return getattr(samplers, sampler)(
            lambda x_t, t: torch.tanh(x_t),
            x_t,
            schedule,
            times_uniform(6),
            noise=noise,
            **kwargs,
        )

    eight, four = sample(8), sample(4)
    assert torch.equal(eight[:4], four)
    assert len({tuple(x.flatten().tolist()) for x in eight}) == 8


def test_noise_is_explicit() -> None:
    x_t, times = torch.ones(2, 3), times_uniform(3)
    generator = torch.Generator()
    args = (lambda x_t, t: x_t, x_t, CosineSchedule(), times)
    with pytest.raises(ValueError, match="needs a generator"):
        samplers.ancestral(*args)
    with pytest.raises(ValueError, match="not both"):
        samplers.ancestral(*args, generator=generator, noise=torch.randn_like)
    with pytest.raises(ValueError, match="as many generators"):
        samplers.ancestral(*args, noise=PerSampleNoise([generator]))
    samplers.ddim(*args)  # Draws nothing.


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5], [0.1, 0.9], [0.5, -0.1]])
def test_bad_times_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="times must"):
        samplers.ddim(
            lambda x_t, t: x_t, torch.ones(1, 1), FlowSchedule(), torch.tensor(times)
        )
