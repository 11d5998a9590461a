"""The fast scene model: where colours start from, and whom a scene trusts."""

from __future__ import annotations

import dataclasses
import math

import torch

from unseen.data.cameras import object_camera
from unseen.encoders.frustum import FrustumConfig, FrustumContext, FrustumSceneModel
from unseen.geometry.views import Views
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.frustum_volume import (
    BIAS,
    COLOR,
    CONFIDENCE,
    DENSITY,
    GAIN,
    transmittance,
)

CONFIG = FrustumConfig(
    unet=UNet2dConfig(channels=(8, 8, 8), num_blocks=1, embedding=16), num_slices=2
)


def noisy_colors(t: float) -> torch.Tensor:
    """Colours of a noisy view's voxels where the network adds nothing."""
    torch.manual_seed(0)
    model = FrustumSceneModel(CONFIG)
    torch.nn.init.zeros_(model.joint_head.weight)
    features = torch.zeros(1, CONFIG.head_channels, 4, 4)
    images = torch.full((1, 1, 3, 4, 4), 0.8)
    volumes = model._volumes(model.joint_head, features, images, torch.tensor([t]))
    return 2 * volumes[..., COLOR].sigmoid() - 1


def test_a_clean_pixel_is_kept_and_a_noisy_one_by_its_signal() -> None:
    torch.testing.assert_close(noisy_colors(0.0).mean(), torch.tensor(0.8))
    # At t = 1/2 alpha and sigma are equal: a d^2 / (a^2 d^2 + a^2) of x_t is kept.
    a, d = 0.5**0.5, CONFIG.detail
    kept = a * d**2 / (a**2 * d**2 + a**2)
    torch.testing.assert_close(noisy_colors(0.5).mean(), torch.tensor(0.8 * kept))


def test_light_falls_off_in_a_slab_as_it_should() -> None:
    cameras = object_camera(40.0, 20.0)
    volumes = torch.zeros(1, 2, 3, 5, 5)
    volumes[..., 2:4, DENSITY] = 4.0
    volumes[..., [0, 1, 4], DENSITY] = -100.0
    density = GAIN * math.log1p(math.exp(4.0 + BIAS))
    spacing = float(cameras.far - cameras.near) / 5
    through = math.exp(-density * spacing)
    # The slab's first slice is still lit, and so is all in front of it.
    expected = torch.tensor([1, 1, 1, through, through**2])
    torch.testing.assert_close(
        transmittance(volumes, cameras),
        expected.expand(1, 2, 3, 5),
        atol=1e-5,
        rtol=1e-4,
    )


def test_trust_is_for_what_the_context_sees_and_for_sampling() -> None:
    views = Views(
        torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        object_camera(40.0, 20.0)[None],
    )

    def encode(trust: float, training: bool) -> FrustumContext:
        torch.manual_seed(0)
        model = FrustumSceneModel(dataclasses.replace(CONFIG, trust=trust))
        with torch.no_grad():
            return model.train(training).encode_context(views)

    plain, trusted = encode(0.0, False), encode(2.0, False)
    assert torch.equal(encode(2.0, True).joint, plain.joint)
    assert torch.equal(trusted.deterministic, plain.deterministic)
    added = trusted.joint - plain.joint
    torch.testing.assert_close(
        added[..., CONFIDENCE], 2 * transmittance(plain.deterministic, views.cameras)
    )
    added[..., CONFIDENCE] = 0
    assert not added.any()
