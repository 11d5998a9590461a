"""The coefficients of a sampler's steps, in float64."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.schedule import Schedule


@final
@dataclasses.dataclass(frozen=True)
class Step:
    """One step from t to t_next. alpha_next is never 0, nor is sigma."""

    t: float
    alpha: float
    sigma: float
    t_next: float
    alpha_next: float
    sigma_next: float

    @property
    def decay(self) -> float:
        """exp(-gain)."""
        return (self.sigma_next / self.sigma) * (self.alpha / self.alpha_next)

    @property
    def gain(self) -> float:
        """h, by which log(alpha / sigma) grows; infinite at an end without noise."""
        return -math.log(self.decay) if self.decay > 0 else math.inf


def get_steps(schedule: Schedule, times: Float[Tensor, "time"]) -> list[Step]:
    """The steps between neighbouring `times`, which must fall (ValueError)."""
    values: list[float] = times.tolist()
    falling = all(a > b for a, b in itertools.pairwise(values))
    if len(values) < 2 or not falling or values[-1] < 0:
        raise ValueError("times must be at least two noise levels that fall to >= 0.")
    scales = get_scales(schedule, values)
    return [
        Step(t, *scale, t_next, *scale_next)
        for (t, t_next), (scale, scale_next) in zip(
            itertools.pairwise(values), itertools.pairwise(scales), strict=True
        )
    ]


def get_scales(schedule: Schedule, times: Sequence[float]) -> list[tuple[float, float]]:
    """alpha and sigma in float64."""
    alpha, sigma = schedule.alpha_sigma(torch.tensor(times, dtype=torch.float64))
    return list(zip(alpha.tolist(), sigma.tolist(), strict=True))


def t_like(t: float, x_t: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch"]:
    """t for every sample, in the dtype of x_t (float32 for the half types)."""
    dtype = x_t.dtype if x_t.dtype == torch.float64 else torch.float32
    return torch.full((len(x_t),), t, dtype=dtype, device=x_t.device)
