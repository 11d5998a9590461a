"""The U-Net of SparseFusion: its attention against a slow twin, and its inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unseen.networks.feature_unet import FeatureUNet, FeatureUNetConfig
from unseen.networks.feature_unet_blocks import Attention, ContextAttention

CONFIG = FeatureUNetConfig(8, (1, 2), 1, (False, True), 2, 4, 4, 2, 4)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_attention_equals_its_plain_twin() -> None:
    """Forward and backward, head by head; keys and values have one head or several."""
    torch.manual_seed(0)
    for layer, several in (
        (Attention(6, 3, 4, context=5), False),
        (ContextAttention(6, 3, 4, context=5), True),
    ):
        x, context = draw(2, 7, 6).requires_grad_(), draw(2, 3, 5, seed=1)
        found = layer(x, context)
        normed = layer.norm(x)
        queries = layer.query(normed).split(4, dim=-1)
        heads = []
        for i, query in enumerate(queries):
            if several:
                pair = layer.key_value(context).chunk(2, dim=-1)
                key, value = (part.split(4, dim=-1)[i] for part in pair)
            else:
                assert isinstance(layer, Attention) and layer.context is not None
                own, given = layer.key_value(normed), layer.context(context)
                key, value = torch.cat([given, own], dim=1).chunk(2, dim=-1)
            key, value = (
                torch.cat([layer.null[j].expand(2, 1, -1), part], dim=1)
                for j, part in enumerate((key, value))
            )
            scores = query @ key.transpose(1, 2) / math.sqrt(4)
            heads.append(scores.softmax(dim=-1) @ value)
        expected = layer.out_norm(layer.out(torch.cat(heads, dim=-1)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        cotangent = draw(*found.shape, seed=2)
        (first,) = torch.autograd.grad(found, x, cotangent, retain_graph=True)
        (second,) = torch.autograd.grad(expected, x, cotangent)
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_it_starts_by_saying_nothing_and_reads_all_of_its_inputs() -> None:
    torch.manual_seed(0)
    network = FeatureUNet(CONFIG, latent=3, features=5)
    x_t, log_snr, features = (
        draw(2, 3, 8, 8),
        torch.tensor([1.0, -2.0]),
        draw(2, 5, 8, 8),
    )
    assert not network(x_t, log_snr, features).any()
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    found = network(x_t, log_snr, features)
    for other in (
        network(x_t + 0.1, log_snr, features),
        network(x_t, log_snr + 0.1, features),
        network(x_t, log_snr, features + 0.1),
    ):
        assert not torch.allclose(found, other, atol=1e-4)
    # An entry does not see the others of its batch.
    alone = network(x_t[1:], log_snr[1:], features[1:])
    torch.testing.assert_close(alone[0], found[1], rtol=1e-4, atol=1e-5)
