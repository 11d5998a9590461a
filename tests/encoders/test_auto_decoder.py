"""Fitting codes: finds known optima, entry by entry, and touches nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from unseen.encoders.auto_decoder import (
    CodeTable,
    FitConfig,
    fit_codes,
    mean_square_prior,
    norm_prior,
)
from unseen.errors import UserError
from unseen.geometry.ray_choice import draw_pixels

CONFIG = FitConfig(num_steps=400, learning_rate=0.05)


def targets(batch: int = 3, width: int = 5) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(7))


def quadratic(goal: Tensor):
    def loss(codes, generators) -> Tensor:
        return (codes["shape"] - goal).square().sum(dim=-1)

    return loss


def noisy(goal: Tensor):
    """A loss that looks at random entries of the goal, as rays are subsampled."""

    def loss(codes, generators) -> Tensor:
        chosen = torch.stack(
            [torch.randint(goal.shape[1], (2,), generator=g) for g in generators]
        )
        error = (codes["shape"] - goal).square().gather(1, chosen)
        return error.sum(dim=-1)

    return loss


def test_a_quadratic_ends_in_its_optimum() -> None:
    goal = targets()
    fitted = fit_codes(
        {"shape": torch.zeros_like(goal)}, quadratic(goal), CONFIG, [1, 2, 3]
    )
    torch.testing.assert_close(fitted.codes["shape"], goal, atol=1e-3, rtol=0)
    assert fitted.losses.shape == (400, 3)
    torch.testing.assert_close(fitted.losses[0], goal.square().sum(dim=-1))
    assert (fitted.steps == 400).all()
    assert not fitted.codes["shape"].requires_grad


def test_the_prior_pulls_the_optimum_to_zero() -> None:
    """|z - g|^2 + w mean(z^2) is least at g / (1 + w / width)."""
    goal = targets()
    fitted = fit_codes(
        {"shape": torch.zeros_like(goal)},
        quadratic(goal),
        CONFIG,
        [1, 2, 3],
        prior=lambda codes: 4.0 * mean_square_prior(codes["shape"]),
    )
    best = goal / (1 + 4.0 / goal.shape[1])
    torch.testing.assert_close(fitted.codes["shape"], best, atol=1e-3, rtol=0)
    torch.testing.assert_close(norm_prior(goal), goal.norm(dim=-1))


def test_several_tensors_with_their_own_rates() -> None:
    """Adam's first step has the length of its learning rate."""
    start = {"shape": torch.ones(2, 3), "pose": torch.ones(2, 4, 2)}

    def loss(codes, generators) -> Tensor:
        both = codes["shape"].square().sum(dim=-1)
        return both + codes["pose"].square().sum(dim=(1, 2))

    config = FitConfig(num_steps=1, learning_rate=0.1)
    fitted = fit_codes(start, loss, config, [0, 0], rates={"pose": 0.01})
    torch.testing.assert_close(fitted.codes["shape"], torch.full((2, 3), 0.9))
    torch.testing.assert_close(fitted.codes["pose"], torch.full((2, 4, 2), 0.999))
    assert (start["shape"] == 1).all(), "the start was overwritten"


@pytest.mark.parametrize("patience", [0, 5])
def test_entries_do_not_know_of_each_other(patience: int) -> None:
    goal = targets()
    config = dataclasses.replace(CONFIG, num_steps=60, patience=patience)
    start = {"shape": torch.zeros_like(goal)}
    together = fit_codes(start, noisy(goal), config, [5, 6, 7])
    for i in range(3):
        alone = fit_codes(
            {"shape": start["shape"][i : i + 1]},
            noisy(goal[i : i + 1]),
            config,
            [5 + i],
        )
        steps = int(together.steps[i])
        assert int(alone.steps) == steps
        torch.testing.assert_close(
            alone.codes["shape"][0], together.codes["shape"][i], atol=1e-6, rtol=0
        )
        torch.testing.assert_close(alone.losses[:steps, 0], together.losses[:steps, i])


def test_the_seed_decides() -> None:
    goal = targets()
    config = dataclasses.replace(CONFIG, num_steps=20)

    def fit(seeds) -> Tensor:
        start = {"shape": torch.zeros_like(goal)}
        return fit_codes(start, noisy(goal), config, seeds).codes["shape"]

    first, second = fit([1, 2, 3]), fit([1, 2, 4])
    assert torch.equal(first, fit([1, 2, 3]))
    assert torch.equal(first[:2], second[:2]) and not torch.equal(first[2], second[2])


def test_an_entry_stops_when_it_no_longer_improves() -> None:
    """Entry 0 starts in its optimum, entry 1 is far from it."""
    goal = torch.tensor([[1.0], [50.0]])
    config = FitConfig(num_steps=200, learning_rate=0.05, patience=10)
    calls = []
    fitted = fit_codes(
        {"shape": torch.tensor([[1.5], [0.0]])},
        lambda codes, generators: (
            torch.stack([torch.ones(()), (codes["shape"][1, 0] - goal[1, 0]) ** 2])
            + 0 * codes["shape"].sum()
        ),
        config,
        [0, 0],
        on_step=lambda done, total: calls.append((done, total)),
    )
    assert fitted.steps.tolist() == [10, 200]
    assert calls[-1] == (200, 200) and len(calls) == 200
    assert fitted.codes["shape"][1, 0] > 5

    constant = fit_codes(
        {"shape": torch.zeros(1, 1)},
        lambda codes, generators: 1 + 0 * codes["shape"].sum(dim=-1),
        config,
        [0],
        on_step=lambda done, total: calls.append((done, total)),
    )
    assert constant.steps.tolist() == [10] and constant.losses.shape == (11, 1)
    assert calls[-1] == (11, 11), "the last report says that the fit is over"


def test_small_improvements_do_not_count() -> None:
    """A loss that falls by 0.1 % a step goes on only if that is asked for."""
    falls = iter(1000 * 0.999**i for i in range(1000))

    def loss(codes, generators) -> Tensor:
        return next(falls) + 0 * codes["shape"].sum(dim=-1)

    config = FitConfig(num_steps=50, patience=5, min_improvement=0.01)
    start = {"shape": torch.zeros(1, 1)}
    assert fit_codes(start, loss, config, [0]).steps.item() == 5
    config = dataclasses.replace(config, min_improvement=0.0005)
    assert fit_codes(start, loss, config, [0]).steps.item() == 50


def test_an_entry_that_diverges_harms_no_other() -> None:
    goal = targets(2)

    def loss(codes, generators) -> Tensor:
        # The first entry's loss is the logarithm of a number that turns negative.
        first = torch.log(1 + codes["shape"][0, 0])
        return torch.stack([first, (codes["shape"][1] - goal[1]).square().sum()])

    config = dataclasses.replace(CONFIG, learning_rate=0.3)
    fitted = fit_codes({"shape": torch.zeros(2, 5)}, loss, config, [0, 0])
    assert fitted.codes["shape"].isfinite().all()
    assert fitted.steps[0] < 20 and fitted.steps[1] == 400
    assert 1 + fitted.codes["shape"][0, 0] > 0, "not the last codes that were finite"
    torch.testing.assert_close(fitted.codes["shape"][1], goal[1], atol=1e-2, rtol=0)


def test_weights_are_untouched_and_no_grad_does_not_matter() -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 4)
    before = {name: x.clone() for name, x in network.state_dict().items()}
    goal = torch.randn(2, 4)

    def loss(codes, generators) -> Tensor:
        return (network(codes["shape"]) - goal).square().sum(dim=-1)

    with torch.no_grad():
        fitted = fit_codes({"shape": torch.zeros(2, 5)}, loss, CONFIG, [0, 1])
        assert not torch.is_grad_enabled()
    assert (fitted.losses[-1] < 1e-3 * fitted.losses[0]).all()
    assert all(torch.equal(before[n], x) for n, x in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_adamw_shrinks_and_the_rate_is_halved() -> None:
    def flat(codes, generators) -> Tensor:
        return 0 * codes["shape"].sum(dim=-1)

    config = FitConfig(
        num_steps=4, learning_rate=0.1, optimizer="adamw", weight_decay=0.5
    )
    start = {"shape": torch.ones(1, 1)}
    shrunk = fit_codes(start, flat, config, [0]).codes["shape"]
    assert shrunk.item() == pytest.approx(0.95**4)

    def steep(codes, generators) -> Tensor:
        return codes["shape"].sum(dim=-1)

    config = FitConfig(num_steps=4, learning_rate=0.1, halve_every=2)
    moved = fit_codes(start, steep, config, [0]).codes["shape"]
    assert moved.item() == pytest.approx(1 - 0.1 - 0.1 - 0.05 - 0.05)


def test_pixels_are_distinct_and_drawn_per_entry() -> None:
    def draw(seeds) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return draw_pixels((4, 6), 2, 10, generators)

    pixels = draw([1, 2])
    assert pixels.shape == (2, 2, 10)
    assert all(len(set(p.tolist())) == 10 for p in pixels.flatten(0, 1))
    assert torch.equal(pixels[1:], draw([2]))
    everything = draw_pixels((4, 6), 2, 0, [torch.Generator()])
    assert torch.equal(everything[0, 1], torch.arange(24))


def test_the_table_of_codes() -> None:
    torch.manual_seed(0)
    table = CodeTable(4000, 8, std=0.01)
    assert table.weight.std().item() == pytest.approx(0.01, rel=0.05)
    objects = torch.tensor([3, 0, 3])
    assert torch.equal(table(objects), table.weight[objects])
    torch.testing.assert_close(table.mean(), table.weight.mean(dim=0))
    assert (CodeTable(0, 8, std=0.01).mean() == 0).all()
    with pytest.raises(UserError, match="do not say which object"):
        table(None)
    with pytest.raises(UserError, match="object 4000, but there are codes for 4000"):
        table(torch.tensor([4000]))
    with pytest.raises(UserError, match="seeds"):
        fit_codes({"a": torch.zeros(2, 1)}, quadratic(targets()), CONFIG, [1])
