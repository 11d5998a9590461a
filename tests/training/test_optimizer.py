"""Learning rates and parameter groups."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.training.tiny_method import TinyMethod
from unseen.training.config import TrainConfig
from unseen.training.optimizer import learning_rate, make_optimizer


def _rates(**settings) -> list[float]:
    config = TrainConfig(steps=100, learning_rate=1.0, warmup_steps=10, **settings)
    return [learning_rate(config, step) for step in range(100)]


def test_warmup_is_linear_and_never_zero() -> None:
    rates = _rates()
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert set(rates[10:]) == {1.0}


def test_cosine_ends_at_zero() -> None:
    rates = _rates(decay="cosine")
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_no_warmup() -> None:
    assert learning_rate(TrainConfig(learning_rate=2.0, warmup_steps=0), 0) == 2.0


def test_only_matrices_decay() -> None:
    method = TinyMethod()
    optimizer = make_optimizer(method, TrainConfig(weight_decay=0.1))
    decays = {
        parameter: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decays) == len(list(method.parameters()))
    for parameter, decay in decays.items():
        assert decay == (0.1 if parameter.ndim >= 2 else 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"warmup_steps": -1},
        {"ema_decay": 1.0},
        {"ema_warmup": 0.5},
        {"betas": (0.9, 1.0)},
        {"learning_rate": math.nan},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        TrainConfig(**settings)
