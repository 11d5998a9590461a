"""The time-modulated residual MLP."""

from __future__ import annotations

import torch
from torch.nn import functional

from tests.networks.test_dit import randomize
from unseen.networks.resnet_fc import ModulatedBlock, ResnetFCConfig, TimeResnetFC

SMALL = ResnetFCConfig(width=10, features=6, out_features=2, time_width=8)


def inputs(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    local = torch.randn(2, 3, 5, 3, generator=generator)
    return local, torch.randn(2, 3, 5, 6, generator=generator)


def test_block_formula(generator: torch.Generator) -> None:
    block = randomize(ModulatedBlock(4), generator)
    x = torch.randn(3, 4, generator=generator)
    film = torch.randn(3, 8, generator=generator)
    hidden = functional.relu(x) @ block.fc_0.weight.mT + block.fc_0.bias
    hidden = functional.relu(hidden * (1 + film[:, :4]) + film[:, 4:])
    expected = x + hidden @ block.fc_1.weight.mT + block.fc_1.bias
    torch.testing.assert_close(block(x, film), expected)
    torch.testing.assert_close(ModulatedBlock(4)(x, film), x)


def test_views_are_averaged(generator: torch.Generator) -> None:
    network = randomize(TimeResnetFC(SMALL), generator)
    local, features = inputs(generator)
    steps, joint = torch.tensor([[0.0, 0.0, 40.0]] * 2), torch.full((2,), 40.0)
    out = network(local, features, steps, joint)
    assert out.shape == (2, 5, 6)
    order = [2, 0, 1]
    permuted = network(local[:, order], features[:, order], steps[:, order], joint)
    torch.testing.assert_close(permuted, out, rtol=1e-4, atol=1e-5)
    # Views with the same to say count once, as a mean does not grow.
    twice = network(
        local.repeat(1, 2, 1, 1), features.repeat(1, 2, 1, 1), steps.repeat(1, 2), joint
    )
    torch.testing.assert_close(twice, out, rtol=1e-4, atol=1e-5)


def test_each_step_reaches_its_blocks(generator: torch.Generator) -> None:
    """A view's step changes that view's embedding only; the joint step the rest."""
    network = randomize(TimeResnetFC(SMALL), generator)
    local, features = inputs(generator)
    projected = network.feature_in(features)
    clean = network.embed(local, projected, network.film(torch.zeros(2, 3)))
    steps = torch.tensor([[0.0, 0.0, 40.0]] * 2)
    mixed = network.embed(local, projected, network.film(steps))
    torch.testing.assert_close(mixed[:, :2], clean[:, :2])
    assert (mixed[:, 2] - clean[:, 2]).abs().max() > 1e-3
    early = network.decode(clean.mean(dim=1), network.film(torch.zeros(2)))
    late = network.decode(clean.mean(dim=1), network.film(torch.full((2,), 40.0)))
    assert (early - late).abs().max() > 1e-3


def test_projecting_the_map_commutes_with_interpolation(
    generator: torch.Generator,
) -> None:
    """Project then look up, against look up then project, forward and backward."""
    network = randomize(TimeResnetFC(SMALL), generator)
    maps = torch.randn(2, 6, 4, 5, generator=generator, requires_grad=True)
    grid = 2 * torch.rand(2, 7, 1, 2, generator=generator) - 1
    cotangent = torch.randn(2, 10, 7, 1, generator=generator)
    results = []
    for project_first in (True, False):
        x = network.project_features(maps) if project_first else maps
        x = functional.grid_sample(x, grid, align_corners=False)
        if not project_first:
            x = network.feature_in(x.movedim(1, -1)).movedim(-1, 1)
        gradients = torch.autograd.grad(
            (x * cotangent).sum(), [maps, network.feature_in.weight]
        )
        results.append((x.detach(), *gradients))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
