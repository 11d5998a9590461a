"""The U-Net of triplanes (its values: tests/parity/test_renderdiffusion.py)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.networks.triplane_unet import (
    ChannelNorm,
    LinearAttention,
    TriplaneUNet,
    TriplaneUNetConfig,
)

SMALL = TriplaneUNetConfig(
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention=(False, True),
    plane_channels=4,
    heads=2,
    head_size=4,
    num_groups=4,
)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_planes_have_the_size_of_images(patch: int) -> None:
    network = TriplaneUNet(dataclasses.replace(SMALL, patch=patch), 3)
    images = torch.randn(2, 3, 16, 24)
    planes = network(images, torch.tensor([0.0, 500.0]))
    assert planes.shape == (2, 3, 4, 16, 24)
    (planes * torch.randn_like(planes)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_time_matters_and_entries_do_not_meet() -> None:
    network, images = TriplaneUNet(SMALL, 3), torch.randn(2, 3, 8, 8)
    both = network(images, torch.tensor([10.0, 900.0]))
    alone = network(images[1:], torch.tensor([900.0]))
    torch.testing.assert_close(both[1:], alone)
    other = network(images[1:], torch.tensor([10.0]))
    assert (other - alone).abs().max() > 1e-3


def test_levels_and_attention_belong_together() -> None:
    with pytest.raises(ValueError, match="one entry of attention"):
        TriplaneUNetConfig(multipliers=(1, 2))


def test_attention_is_what_it_says() -> None:
    """Pixel by pixel: out_j = sum_i (q_j . k_i) v_i, keys normalised over pixels."""
    attention = LinearAttention(6, heads=2, head_size=3)
    x = torch.randn(1, 6, 2, 4)
    qkv = attention.qkv(attention.norm(x))[0].flatten(1)
    expected = torch.zeros(6, 8)
    for head in range(2):
        q, k, v = (qkv[6 * i + 3 * head : 6 * i + 3 * head + 3] for i in range(3))
        q, k = q.softmax(dim=0) / 3**0.5, k.softmax(dim=1)
        for j in range(8):
            for i in range(8):
                expected[3 * head : 3 * head + 3, j] += (q[:, j] @ k[:, i]) * v[:, i]
    inner = attention.out(expected.reshape(1, 6, 2, 4) / 8)
    torch.testing.assert_close(
        attention(x), x + attention.out_norm(inner), atol=1e-4, rtol=1e-4
    )


def test_channel_norm() -> None:
    norm = ChannelNorm(5)
    x = 3 + 2 * torch.randn(2, 5, 3, 3)
    expected = torch.nn.functional.layer_norm(x.movedim(1, -1), (5,)).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected)
