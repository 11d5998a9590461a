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
