"""The fast scene model: how far colours start from a noisy view's own pixels."""

from __future__ import annotations

import dataclasses

import torch

from unseen.encoders.frustum import FrustumConfig, FrustumSceneModel
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.frustum_volume import COLOR

CONFIG = FrustumConfig(
    unet=UNet2dConfig(channels=(8, 8, 8), num_blocks=1, embedding=16), num_slices=2
)


def noisy_colors(config: FrustumConfig, training: bool, t: float) -> torch.Tensor:
    """Colours of a noisy view's voxels where the network adds nothing."""
    torch.manual_seed(0)
    model = FrustumSceneModel(config).train(training)
    torch.nn.init.zeros_(model.joint_head.weight)
    features = torch.zeros(1, config.head_channels, 4, 4)
    images = torch.full((1, 1, 3, 4, 4), 0.8)
    volumes = model._volumes(model.joint_head, features, images, torch.tensor([t]))
    return 2 * volumes[..., COLOR].sigmoid() - 1


def test_a_clean_pixel_is_kept_and_a_noisy_one_by_its_signal() -> None:
    torch.testing.assert_close(
        noisy_colors(CONFIG, True, 0.0).mean(), torch.tensor(0.8)
    )
    # At t = 1/2 alpha and sigma are equal: a d^2 / (a^2 d^2 + a^2) of x_t is kept.
    a, d = 0.5**0.5, CONFIG.detail
    kept = a * d**2 / (a**2 * d**2 + a**2)
    torch.testing.assert_close(
        noisy_colors(CONFIG, True, 0.5).mean(), torch.tensor(0.8 * kept)
    )


def test_sampling_may_keep_less_than_training() -> None:
    less = dataclasses.replace(CONFIG, sample_detail=0.1)
    assert torch.equal(noisy_colors(less, True, 0.5), noisy_colors(CONFIG, True, 0.5))
    sampled = noisy_colors(less, False, 0.5)
    assert sampled.mean() < 0.5 * noisy_colors(CONFIG, False, 0.5).mean()
    # A clean pixel is one whatever is taken of noisy ones.
    torch.testing.assert_close(
        noisy_colors(less, False, 0.0), noisy_colors(CONFIG, False, 0.0)
    )
