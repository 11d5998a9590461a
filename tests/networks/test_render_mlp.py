"""HoloDiffusion's render network. Parity with the authors' is in tests/parity."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from unseen.networks.render_mlp import RenderMLP, RenderMLPConfig

THIN = RenderMLPConfig(features=3, width=8, layers=3, skip=1)


def made(config: RenderMLPConfig) -> RenderMLP:
    torch.manual_seed(0)
    return RenderMLP(config)


def test_only_colour_depends_on_the_direction(generator) -> None:
    features = torch.randn(5, 3, generator=generator)
    directions = functional.normalize(torch.randn(2, 5, 3, generator=generator), dim=-1)
    network = made(THIN)
    (density, color), (same, other) = (network(features, d) for d in directions)
    assert torch.equal(density, same) and not torch.allclose(color, other)
    assert (color > 0).all() and (color < 1).all()


def test_where_the_activation_is(generator) -> None:
    features = torch.randn(50, 3, generator=generator)
    ahead = torch.zeros(50, 3)

    def curvature(activation: str, invert) -> torch.Tensor:
        network = made(dataclasses.replace(THIN, activation=activation))
        f = [invert(network(s * features, ahead)[0]) for s in (-1.0, 0.0, 1.0)]
        return (f[2] - 2 * f[1] + f[0]).abs().max()

    def undo_leaky(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x < 0, 5 * x, x)

    # After the last layer alone: below it, the network is affine.
    assert curvature("last", undo_leaky) < 1e-5
    assert curvature("hidden", lambda x: x) > 0.1


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match="one of 0 to 2, not 3"):
        dataclasses.replace(THIN, skip=3)
