"""DDPM++: sizes, what it starts as, and what each part listens to."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.networks.ddpm_plus_plus import (
    Attention,
    DDPMPlusPlus,
    DDPMPlusPlusConfig,
)

SMALL = DDPMPlusPlusConfig(8, (1, 2), 1, (False, True), 8)


def make(config: DDPMPlusPlusConfig = SMALL) -> DDPMPlusPlus:
    torch.manual_seed(0)
    return DDPMPlusPlus(config, 5, 3)


def test_the_published_size() -> None:
    """EDM's network of CIFAR-10: three resolutions, 56 million weights."""
    config = DDPMPlusPlusConfig(
        multipliers=(2, 2, 2), attention=(False, True, False), embedding=512
    )
    with torch.device("meta"):
        network = DDPMPlusPlus(config, 3, 3)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert 55e6 < count < 57e6


@torch.no_grad()
def test_it_starts_as_nearly_nothing() -> None:
    x = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(make()(x, torch.zeros(2)).abs().max()) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
def test_every_part_is_heard(residual: bool) -> None:
    network = make(dataclasses.replace(SMALL, input_residual=residual))
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    x = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0.1, 0.5])
    plain = network(x, level)
    assert plain.shape == (2, 3, 8, 8)
    for name, parameter in network.named_parameters():
        kept = parameter.clone()
        parameter.zero_()
        assert not torch.equal(network(x, level), plain), name
        parameter.copy_(kept)
    assert not torch.allclose(network(x, level.flip(0)), plain, atol=1e-4)
    # An entry does not see the others.
    torch.testing.assert_close(network(x[1:], level[1:]), plain[1:])


@torch.no_grad()
def test_attention_is_a_softmax_over_all_pixels() -> None:
    torch.manual_seed(0)
    layer = Attention(8)
    layer.out.weight.normal_()
    x = torch.randn(1, 8, 3, 2)
    found = layer(x)[0].flatten(1)
    q, k, v = layer.qkv(layer.norm(x))[0].flatten(1).chunk(3)
    expected = torch.zeros(8, 6)
    for pixel in range(6):
        scores = torch.tensor([float(q[:, pixel] @ k[:, other]) for other in range(6)])
        share = (scores / 8**0.5).softmax(dim=0)
        mixed = sum(share[other] * v[:, other] for other in range(6))
        out = layer.out.weight[:, :, 0, 0] @ mixed
        expected[:, pixel] = (x[0].flatten(1)[:, pixel] + out) / 2**0.5
    torch.testing.assert_close(found, expected)
