"""Samplers are functions of `denoise(x_t, t) -> x_0`, whatever is diffused.

Here the data are a mixture of three Gaussians in the plane, whose best denoiser is
known in closed form: what remains is the error of the sampler.
"""

import torch

from unseen.diffusion.samplers import ddim, dpm_solver_pp_2m, initial_state
from unseen.diffusion.schedules import CosineSchedule
from unseen.diffusion.times import times_log_snr

MEANS = torch.tensor([[-1.0, -0.6], [1.0, -0.6], [0.0, 1.2]], dtype=torch.float64)
STD = 0.15

schedule = CosineSchedule()


def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The posterior mean E[x_0 | x_t], by Bayes' rule."""
    alpha, sigma = (scale[:, None, None] for scale in schedule.alpha_sigma(t))
    variance = (alpha * STD).square() + sigma.square()
    offset = x_t[:, None] - alpha * MEANS
    weights = (-0.5 * offset.square() / variance).sum(-1).softmax(-1)[..., None]
    means = MEANS + alpha * STD**2 / variance * offset
    return (weights * means).sum(dim=1)


generator = torch.Generator().manual_seed(0)
noise = torch.randn(2000, 2, generator=generator, dtype=torch.float64)
start = initial_state(noise, schedule)


def sample(sampler, steps: int) -> torch.Tensor:
    return sampler(denoise, start, schedule, times_log_snr(steps, schedule))


exact = sample(dpm_solver_pp_2m, 400)
nearest = (exact[:, None] - MEANS).norm(dim=-1).argmin(dim=1)
print("samples per mode:", torch.bincount(nearest).tolist())

print("steps    error of DDIM    error of DPM-Solver++ (second order)")
for steps in (10, 20, 40, 80):
    first = (sample(ddim, steps) - exact).norm(dim=-1).mean()
    second = (sample(dpm_solver_pp_2m, steps) - exact).norm(dim=-1).mean()
    print(f"{steps:5d} {first:16.5f} {second:16.5f}")
