"""GeNVS's encoder: its size, its layout, and how it starts."""

from __future__ import annotations

import torch

from unseen.networks.frustum_encoder import FrustumEncoder, FrustumEncoderConfig

SMALL = FrustumEncoderConfig(8, (1, 1, 1, 1), 16, 8, (1, 2), 1, features=4, slices=6)


def test_volumes_keep_the_size_of_the_image() -> None:
    torch.manual_seed(0)
    encoder = FrustumEncoder(SMALL)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    volumes = encoder(images)
    assert volumes.shape == (2, 32, 48, 6, 4) and volumes.is_contiguous()
    # One image does not see the other.
    torch.testing.assert_close(encoder(images[1:]), volumes[1:])
    volumes.square().mean().backward()
    for name, parameter in encoder.named_parameters():
        # Blocks start as their shortcuts: their first layers have to wait a step.
        first = name.startswith("layer") and name.endswith("conv1.weight")
        assert parameter.grad is not None, name
        assert (float(parameter.grad.abs().max()) > 0) != first, name


@torch.no_grad()
def test_features_neither_explode_nor_die_without_normalisation() -> None:
    torch.manual_seed(0)
    deep = FrustumEncoderConfig(8, (3, 4, 6, 3), 16, 8, (1, 2), 3, features=4, slices=6)
    volumes = FrustumEncoder(deep)(torch.rand(1, 3, 32, 32) * 2 - 1)
    assert 0.01 < float(volumes.std()) < 30


@torch.no_grad()
def test_positive_volumes() -> None:
    torch.manual_seed(0)
    config = FrustumEncoderConfig(
        8, (1, 1, 1, 1), 16, 8, (1,), 1, features=4, slices=6, positive=True
    )
    volumes = FrustumEncoder(config)(torch.rand(1, 3, 16, 16))
    assert float(volumes.amin()) == 0 and float(volumes.amax()) > 0
