"""Schedules against their definitions, their inverses and their tables."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unseen.diffusion.schedules import (
    CosineSchedule,
    DiscreteSchedule,
    EDMSchedule,
    FlowSchedule,
    LinearSchedule,
    LogSNRSchedule,
    ScaledLinearSchedule,
    Schedule,
    unsqueeze_like,
)

PRESERVING = [
    CosineSchedule(),
    LinearSchedule(),
    ScaledLinearSchedule(),
    LogSNRSchedule(),
    DiscreteSchedule((0.9, 0.5, 0.2, 0.01)),
]
ALL = [*PRESERVING, EDMSchedule(), FlowSchedule()]


def name(value: object) -> str:
    return type(value).__name__


def grid(number: int = 2001, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(0, 1, number, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", PRESERVING, ids=name)
def test_variance_is_preserved(schedule: Schedule, dtype: torch.dtype) -> None:
    alpha, sigma = schedule.alpha_sigma(grid(dtype=dtype))
    assert alpha.dtype == sigma.dtype == dtype
    tolerance = 3e-7 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(
        alpha**2 + sigma**2, torch.ones_like(alpha), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("schedule", ALL, ids=name)
def test_noise_grows_monotonically_from_data(schedule: Schedule) -> None:
    alpha, sigma = schedule.alpha_sigma(grid())
    assert (alpha.diff() <= 0).all()
    assert (sigma.diff() > 0).sum() >= 1999  # The cosine's clipped end is flat.
    assert (sigma.diff() >= 0).all()
    assert 1 - alpha[0] < 1e-8
    assert sigma[0] < 5e-5
    assert (schedule.log_snr(grid())[1:-1].diff() < 0).all()


@pytest.mark.parametrize("schedule", ALL, ids=name)
def test_single_precision_keeps_both_ends(schedule: Schedule) -> None:
    """Neither scale loses its relative precision where it is small."""
    t = torch.tensor([1e-6, 1e-4, 1e-2, 0.5, 0.99, 0.9995])
    single = torch.stack(schedule.alpha_sigma(t))
    double = torch.stack(schedule.alpha_sigma(t.double()))
    # Half a unit of t = 0.9995 is 3e-8, 6e-5 of what it lacks to 1: the flow's alpha
    # cannot be better, and it is exact here because 1 - t is.
    torch.testing.assert_close(single, double.float(), rtol=2e-5, atol=0)


@pytest.mark.parametrize("schedule", ALL, ids=name)
@settings(deadline=None, max_examples=50)
@given(t=st.floats(1e-4, 0.9999))
def test_log_snr_has_an_inverse(schedule: Schedule, t: float) -> None:
    level = torch.tensor([t], dtype=torch.float64)
    log_snr = schedule.log_snr(level)
    torch.testing.assert_close(
        schedule.t_from_log_snr(log_snr), level, rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("schedule", ALL, ids=name)
def test_closed_inverse_agrees_with_bisection(schedule: Schedule) -> None:
    log_snr = torch.linspace(-8, 12, 41, dtype=torch.float64)
    closed = schedule.t_from_log_snr(log_snr)
    bisected = Schedule.t_from_log_snr(schedule, log_snr)
    torch.testing.assert_close(closed, bisected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("schedule", PRESERVING, ids=name)
def test_log_snr_out_of_range_gives_the_ends(schedule: Schedule) -> None:
    log_snr = torch.tensor([math.inf, 80.0, -80.0])
    t = schedule.t_from_log_snr(log_snr)
    assert t[0] == 0
    assert t[1] < 1e-9
    assert t[2] > 1 - 5e-5


def test_cosine_table_is_nichol_and_dhariwals() -> None:
    """Their algorithm, written out in Python floats."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    product, table = 1.0, []
    for i in range(1000):
        product *= 1 - min(1 - bar((i + 1) / 1000) / bar(i / 1000), 0.999)
        table.append(product)
    expected = torch.tensor(table, dtype=torch.float64)
    actual = CosineSchedule().discrete_alphas_cumprod(num_steps=1000)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)
    assert actual[-1] / actual[-2] == pytest.approx(0.001)


@pytest.mark.parametrize(
    "schedule", [CosineSchedule(), LinearSchedule(), ScaledLinearSchedule()], ids=name
)
def test_continuous_form_meets_the_table_at_every_step(schedule) -> None:
    t = schedule.t_of_step(torch.arange(1000)).double()
    exact = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(t, exact, rtol=0, atol=3e-8)
    table = schedule.discrete_alphas_cumprod()
    torch.testing.assert_close(schedule.alpha(exact) ** 2, table, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        schedule.sigma(exact) ** 2, 1 - table, rtol=1e-9, atol=1e-13
    )


def test_linear_tables_have_their_betas() -> None:
    def betas(table: torch.Tensor) -> torch.Tensor:
        return 1 - torch.cat([table[:1], table[1:] / table[:-1]])

    linear = betas(LinearSchedule().discrete_alphas_cumprod())
    assert linear[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert linear.diff().max().item() == pytest.approx(linear.diff().min().item())
    scaled = betas(ScaledLinearSchedule().discrete_alphas_cumprod())
    assert scaled[[0, -1]].tolist() == pytest.approx([0.00085, 0.012])
    roots = scaled.sqrt().diff()
    assert roots.max().item() == pytest.approx(roots.min().item())


def test_steps_and_times_convert_both_ways() -> None:
    schedule = DiscreteSchedule.from_tensor(torch.tensor([0.9, 0.5, 0.2, 0.1]))
    assert schedule.num_steps == 4
    steps = torch.arange(-1, 4)
    t = schedule.t_of_step(steps)
    assert t.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert schedule.step_of_t(t).tolist() == [0, 0, 1, 2, 3]
    table = [1, 0.9, 0.5, 0.2, 0.1]
    assert (schedule.alpha(t) ** 2).tolist() == pytest.approx(table)
    # Half way between two steps: half of the noise in log alpha.
    between = schedule.alpha(torch.tensor([0.375])) ** 2
    assert between.item() == pytest.approx(math.sqrt(0.9 * 0.5))


@pytest.mark.parametrize("table", [(0.5, 0.9), (1.0, 0.5), (0.5, 0.0), (0.5, 0.5)])
def test_a_bad_table_is_refused(table: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="decrease strictly"):
        DiscreteSchedule(table)


def test_log_snr_schedule_is_3dims() -> None:
    schedule = LogSNRSchedule()
    t = grid(101)
    b = math.atan(math.exp(-10))
    a = math.atan(math.exp(10)) - b
    expected = -2 * torch.log(torch.tan(a * t + b))
    torch.testing.assert_close(schedule.log_snr(t), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(schedule.alpha(t) ** 2, torch.sigmoid(expected))
    assert schedule.log_snr(t)[[0, -1]].tolist() == pytest.approx([20, -20])


def test_edm_schedule_is_karras_grid_with_a_tail_to_zero() -> None:
    schedule = EDMSchedule()
    t = torch.tensor([0, 5e-4, 1e-3, 0.5005, 1], dtype=torch.float64)
    middle = ((0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7
    expected = [0, 0.001, 0.002, middle, 80]
    assert schedule.sigma(t).tolist() == pytest.approx(expected)
    beyond = schedule.t_from_log_snr(torch.tensor([-2 * math.log(100.0)]).double())
    assert beyond > 1
    assert schedule.sigma(beyond).item() == pytest.approx(100)


def test_add_noise_takes_one_level_per_leading_entry(generator) -> None:
    schedule = CosineSchedule()
    x_0 = torch.randn(2, 3, 4, 5, generator=generator)
    eps = torch.randn(2, 3, 4, 5, generator=generator)
    for shape in [(2,), (2, 3)]:
        t = torch.rand(shape, generator=generator)
        x_t = schedule.add_noise(x_0, eps, t)
        for index in [(0, 1), (1, 2)]:
            level = t[index[: t.ndim]]
            expected = schedule.alpha(level) * x_0[index]
            expected = expected + schedule.sigma(level) * eps[index]
            torch.testing.assert_close(x_t[index], expected)
    with pytest.raises(ValueError, match="not a prefix"):
        unsqueeze_like(torch.zeros(3), x_0)


def test_add_noise_keeps_the_half_types() -> None:
    x_0 = torch.ones(2, 3, dtype=torch.bfloat16)
    x_t = CosineSchedule().add_noise(x_0, x_0, torch.tensor([0.5, 0.7]))
    assert x_t.dtype == torch.bfloat16
