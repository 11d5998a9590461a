"""Grids of noise levels."""

from __future__ import annotations

import pytest
import torch

from unseen.diffusion.samplers import (
    times_karras,
    times_log_snr,
    times_uniform,
)
from unseen.diffusion.schedules import (
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    LinearSchedule,
    LogSNRSchedule,
    Schedule,
)
from unseen.diffusion.times import times_leading
from unseen.errors import UserError

SCHEDULES = [CosineSchedule(), LogSNRSchedule(), EDMSchedule(), FlowSchedule()]


def name(value: object) -> str:
    return type(value).__name__


def test_karras_grid_is_edms() -> None:
    times = times_karras(18, EDMSchedule())
    i = torch.arange(18, dtype=torch.float64)
    ends = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = (ends[0] + i / 17 * (ends[1] - ends[0])) ** 7
    sigma = EDMSchedule().sigma(times)
    torch.testing.assert_close(sigma[:-1], expected)
    assert sigma[-1] == 0


@pytest.mark.parametrize("schedule", [*SCHEDULES[:3], LinearSchedule()], ids=name)
@pytest.mark.parametrize("grid", [times_karras, times_log_snr])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_grids_fall_from_start_to_data(grid, steps: int, schedule: Schedule) -> None:
    times = grid(steps, schedule, t_start=0.98)
    assert times.shape == (steps + 1,)
    assert times[0].item() == pytest.approx(0.98)
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    if grid is times_log_snr and steps == 40:
        gains = schedule.log_snr(times[:-1]).diff()
        torch.testing.assert_close(gains, gains[:1].expand_as(gains))


def test_grids_refuse_what_they_cannot_span() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        times_uniform(0)
    with pytest.raises(ValueError, match="end < start"):
        times_uniform(3, t_start=0.2, t_end=0.5)
    with pytest.raises(ValueError, match="infinite"):
        times_log_snr(3, FlowSchedule())


@pytest.mark.parametrize("steps", [1, 3, 7, 27, 50, 76, 333, 600, 1000])
@pytest.mark.parametrize("drop", [False, True])
def test_the_table_of_latent_diffusion(steps: int, drop: bool) -> None:
    """Strides of 1000 // steps from step 1 on, within the table, and then step 0."""
    if drop and steps == 1:
        with pytest.raises(UserError, match="takes 2 to 1000 steps, not 1"):
            times_leading(steps, drop_noisiest=True)
        return
    times = times_leading(steps, drop_noisiest=drop)
    visited = (1000 * times).round().long() - 1
    stride = 1000 // steps
    expected = list(range(1, 1000, stride))
    if drop:
        expected = expected[:-1]
    assert visited.tolist() == [*reversed(expected), 0]
    assert times[0] <= 1 and (times.diff() < 0).all()


def test_more_steps_than_the_table_has() -> None:
    with pytest.raises(UserError, match="takes 1 to 1000 steps, not 1001"):
        times_leading(1001)
