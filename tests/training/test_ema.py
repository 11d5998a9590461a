"""The moving average against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unseen.training.ema import ExponentialAverage


def _module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 2, dtype=torch.float64)


def _weights(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2, 3, generator=generator, dtype=torch.float64)


def test_constant_decay_is_a_geometric_sum() -> None:
    module = _module()
    initial = module.weight.detach().clone()
    average = ExponentialAverage(module, decay=0.9, warmup=1.0)
    for step in range(20):
        module.weight.data.copy_(_weights(step))
        average.update()
    expected = 0.9**20 * initial
    for step in range(20):
        expected += 0.1 * 0.9 ** (19 - step) * _weights(step)
    torch.testing.assert_close(average.tensors()["weight"], expected)


def test_warmup_forgets_the_initial_weights() -> None:
    # With decay n / (n + w - 1) the initial weights keep the factor
    # prod n / (n + w - 1) = 1 / binomial(N + w - 1, N).
    module = _module()
    module.weight.data.fill_(1.0)
    average = ExponentialAverage(module, decay=0.9999, warmup=3.0)
    module.weight.data.fill_(0.0)
    for _ in range(10):
        average.update()
    expected = torch.full((2, 3), 1 / (12 * 11 / 2), dtype=torch.float64)
    torch.testing.assert_close(average.tensors()["weight"], expected)


def test_decay_never_exceeds_its_bound() -> None:
    average = ExponentialAverage(_module(), decay=0.99, warmup=10.0)
    assert average.decay_at(1) == pytest.approx(0.1)
    assert average.decay_at(10_000) == 0.99


def test_swap_restores_the_weights_even_after_an_error() -> None:
    module = _module()
    average = ExponentialAverage(module, decay=0.5, warmup=1.0)
    averaged = average.tensors()["weight"].clone()
    module.weight.data.fill_(7.0)
    with pytest.raises(ZeroDivisionError), average.swapped_in():
        assert torch.equal(module.weight, averaged)
        _ = 1 / 0
    assert (module.weight == 7).all()
    assert torch.equal(average.tensors()["weight"], averaged)


def test_frozen_parameters_are_left_out() -> None:
    module = _module()
    module.weight.requires_grad_(False)
    assert set(ExponentialAverage(module, 0.9, 1.0).tensors()) == {"bias"}
