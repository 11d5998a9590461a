"""Grids of noise levels for samplers: decreasing, float64, on the CPU.

A grid of `steps` steps has `steps` + 1 times.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.schedule import Schedule
from unseen.errors import UserError


def times_uniform(
    steps: int, t_start: float = 1.0, t_end: float = 0.0
) -> Float[Tensor, "time"]:
    """`steps` equal steps of t.

    On a table of N integer steps this is N, N - N / steps .. 0 (as t = (i + 1) / N),
    DFM's and the DDIM paper's table when `steps` divides N.
    """
    _check(steps, t_start, t_end)
    return torch.linspace(t_start, t_end, steps + 1, dtype=torch.float64)


def times_leading(
    steps: int, num_steps: int = 1000, drop_noisiest: bool = False
) -> Float[Tensor, "time"]:
    """The times of latent diffusion's DDIM: a table of `num_steps` in equal strides.

    With the stride c = num_steps // steps the integer steps are 1, c + 1, 2 c + 1 ..,
    visited from the last one down, and then step 0, where the sampler stops: what is
    left of the noise there is not removed. Where c does not divide `num_steps`, there
    are more steps than were asked for. Zero-1-to-3's sampler skips the noisiest.

    Raises:
        UserError: the table has fewer steps, or none would be left.
    """
    low = 2 if drop_noisiest else 1
    if not low <= steps <= num_steps:
        raise UserError(
            f"this sampler takes {low} to {num_steps} steps, not {steps}: its table "
            f"has {num_steps}."
        )
    # The last one must not lie beyond the table, as it does for a stride of 1 or 3.
    table = torch.arange(0, num_steps - 1, num_steps // steps, dtype=torch.float64)
    if drop_noisiest:
        table = table[:-1]
    return (torch.cat([table.flip(0) + 1, torch.zeros(1)]) + 1) / num_steps


def times_log_snr(
    steps: int, schedule: Schedule, t_start: float = 1.0, t_last: float = 1e-3
) -> Float[Tensor, "time"]:
    """`steps` times uniform in log-SNR from `t_start` to `t_last`, then 0."""
    _check(steps, t_start, t_last)
    ends = schedule.log_snr(torch.tensor([t_start, t_last], dtype=torch.float64))
    _check_finite(ends)
    return _grid(schedule, ends, torch.lerp(ends[0], ends[1], _shares(steps)))


def times_karras(
    steps: int,
    schedule: Schedule,
    t_start: float = 1.0,
    t_last: float = 1e-3,
    rho: float = 7.0,
) -> Float[Tensor, "time"]:
    """Karras et al. 2022, Eq. 5: (sigma / alpha)^(1 / rho) uniform, then 0.

    `steps` times from `t_start` to `t_last`, then 0. On `EDMSchedule` the defaults
    are the paper's grid, from sigma_max to sigma_min and 0.
    """
    _check(steps, t_start, t_last)
    ends = schedule.log_snr(torch.tensor([t_start, t_last], dtype=torch.float64))
    _check_finite(ends)
    # (sigma / alpha)^(1 / rho) = exp(-log_snr / (2 rho)).
    roots = torch.exp(-ends / (2 * rho))
    root = torch.lerp(roots[0], roots[1], _shares(steps))
    return _grid(schedule, ends, -2 * rho * root.log())


def _shares(steps: int) -> Float[Tensor, "step"]:
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def _grid(
    schedule: Schedule, ends: Float[Tensor, "2"], log_snr: Float[Tensor, "step"]
) -> Float[Tensor, "time"]:
    # Rounding must not leave the range that the ends span.
    log_snr = log_snr.clamp(ends[0], ends[1])
    times = schedule.t_from_log_snr(log_snr)
    return torch.cat([times, torch.zeros_like(times[:1])])


def _check(steps: int, t_start: float, t_end: float) -> None:
    if steps < 1:
        raise ValueError(f"A sampler needs at least 1 step, not {steps}.")
    if not 0 <= t_end < t_start <= 1:
        raise ValueError(f"Need 0 <= end < start <= 1, not {t_start} to {t_end}.")


def _check_finite(ends: Float[Tensor, "2"]) -> None:
    if not ends.isfinite().all():
        raise ValueError(
            "The log-SNR is infinite at an end of the grid: start or end strictly "
            "inside of (0, 1)."
        )
