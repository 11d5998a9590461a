"""The code-conditioned field: its encoding, what sees which code, and its fold."""

from __future__ import annotations

import torch
from torch.nn import functional

from tests.coded_objects import NETWORK, lively
from unseen.networks.coded_mlp import CodedMLP, CodedMLPConfig
from unseen.networks.embeddings import blocked_encoding


def make() -> CodedMLP:
    torch.manual_seed(0)
    return lively(CodedMLP(NETWORK), torch.ones(1, 8))


def test_encoding_has_all_sines_then_all_cosines_without_pi() -> None:
    x = torch.tensor([0.3, -0.2, 0.9])
    waves = [torch.sin(x), torch.sin(2 * x), torch.sin(4 * x)]
    waves += [torch.cos(x), torch.cos(2 * x), torch.cos(4 * x)]
    assert torch.equal(blocked_encoding(x, 3), torch.cat([x, *waves]))


def test_sizes_of_the_published_network() -> None:
    network = CodedMLP(CodedMLPConfig())
    assert sum(p.numel() for p in network.parameters()) == 714_756


def test_density_sees_the_shape_only(generator: torch.Generator) -> None:
    network = make()
    points = torch.randn(1, 5, 3, generator=generator)
    directions = functional.normalize(torch.randn(1, 5, 3, generator=generator), dim=-1)
    codes = torch.randn(4, 1, 8, generator=generator)
    density, color = network(points, directions, codes[0], codes[1])
    other_density, other_color = network(points, directions, codes[0], codes[2])
    assert torch.equal(density, other_density)
    assert not torch.allclose(color, other_color)
    density_of_other, _ = network(points, directions, codes[3], codes[1])
    assert not torch.allclose(density, density_of_other)
    turned_density, turned_color = network(points, -directions, codes[0], codes[1])
    assert torch.equal(density, turned_density)
    assert not torch.allclose(color, turned_color)
    # Softplus, and no sigmoid.
    assert (density > 0).all() and (color.min() < 0 or color.max() > 1)


@torch.no_grad()
def test_folding_changes_nothing(generator: torch.Generator) -> None:
    network = make()
    points = torch.randn(1, 50, 3, generator=generator)
    directions = functional.normalize(
        torch.randn(1, 50, 3, generator=generator), dim=-1
    )
    codes = torch.randn(2, 1, 8, generator=generator)
    density, color = network(points, directions, codes[0], codes[1])
    folded = network.fold(codes[0, 0], codes[1, 0])
    found, hidden = folded.density(points[0])
    torch.testing.assert_close(found, density[0], rtol=1e-4, atol=1e-5)
    found = folded.color(hidden, folded.view(directions[0]))
    torch.testing.assert_close(found, color[0], rtol=1e-4, atol=1e-5)
