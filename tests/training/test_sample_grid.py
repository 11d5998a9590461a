"""Sample grids of methods that sample, and of methods that fit."""

from __future__ import annotations

import torch

from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from tests.training.tiny_method import TinyMethod, tiny_example
from unseen.training.sample_grid import sample_grid


def blocks(width: int, views: list[int]) -> int:
    """Pixels of a row of blocks of so many views each."""
    return sum(count * width + 2 for count in views)


def test_one_row_per_scene_and_two_samples() -> None:
    grid = sample_grid(TinyMethod(), tiny_example(0, batch=3), seed=0)
    assert grid.shape == (3, 3 * 10, blocks(8, [1, 2, 2, 2]))


def test_a_method_that_fits_codes_may_take_gradients() -> None:
    torch.manual_seed(0)
    method = SkyDecoder(SkyConfig(num_objects=3)).train()
    example = tiny_example(0, batch=2)
    before = {name: x.clone() for name, x in method.state_dict().items()}
    grid = sample_grid(method, example, seed=0)
    # Deterministic: one sample says all.
    assert grid.shape == (3, 2 * 10, blocks(8, [1, 2, 2]))
    assert not grid.requires_grad and torch.is_grad_enabled() and method.training
    assert all(p.grad is None and p.requires_grad for p in method.parameters())
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name])
    # It did fit: without a step the mean code's sky is shown, which is another one.
    unfitted = method.decode(method.codes.weight.mean(dim=0).expand(2, -1))
    shown = unfitted.render(example.target.cameras, (8, 8)).color
    assert (grid[:, :8, -18:-10] - shown[0, 0]).abs().max() > 0.01
