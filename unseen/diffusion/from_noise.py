"""Samples from pure noise, each from a seed of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.guidance import Denoise
from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.samplers import ancestral
from unseen.diffusion.schedule import Schedule
from unseen.diffusion.times import times_uniform


def sample_from_noise(
    denoise: Denoise,
    shape: Sequence[int],
    seeds: Sequence[int],
    schedule: Schedule,
    num_steps: int,
    device: torch.device | str = "cpu",
    on_estimate: Callable[[int, int, Tensor], None] | None = None,
) -> Float[Tensor, "batch *shape"]:
    """One sample of `shape` per seed, by ancestral sampling in equal steps of t.

    All random numbers of entry i come from `seeds[i]`. `on_estimate` gets the steps
    done, the steps to do, and the estimates of x_0 (batch, *shape) of the last one.
    """
    draw = PerSampleNoise([torch.Generator().manual_seed(seed) for seed in seeds])

    def report(index: int, x_t: Tensor, x_0: Tensor) -> None:
        if on_estimate is not None:
            on_estimate(index + 1, num_steps, x_0)

    return ancestral(
        denoise,
        # At t = 1 next to nothing is left of the signal: the state is noise.
        draw(torch.zeros(len(seeds), *shape, device=device)),
        schedule,
        times_uniform(num_steps),
        noise=draw,
        on_step=report,
    )
