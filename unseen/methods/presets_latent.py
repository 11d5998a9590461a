"""Presets of the systems of latent diffusion: Zero-1-to-3, MVDream."""

from __future__ import annotations

import dataclasses

from unseen.methods.mvdream import (  # arrow: a list of presets
    MVDreamConfig,
    MVDreamSampling,
)
from unseen.methods.zero123 import (  # arrow: a list of presets
    Zero123Config,
    Zero123Sampling,
)
from unseen.networks.conv_encoder import ConvEncoderConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig
from unseen.networks.text import WordConfig
from unseen.training.config import TrainConfig
from unseen.training.preset import MINUTES, Preset

# 192 images on each of 8 cards, AdamW at 1e-4 with a warm-up of 100 steps; the authors'
# projection learns ten times as fast. The decay of the average, which there is, and all
# else are torch's or our defaults.
_ZERO123_TRAINING = TrainConfig(
    steps=105_000,
    batch_size=1536,
    learning_rate=1e-4,
    warmup_steps=100,
    weight_decay=0.01,
    betas=(0.9, 0.999),
    clip_norm=0.0,
)

# 1024 times 4 views a step. How fast it learned we do not know: that is our choice.
_MVDREAM_TRAINING = TrainConfig(
    steps=50_000,
    batch_size=1024,
    learning_rate=1e-4,
    warmup_steps=1000,
    betas=(0.9, 0.999),
    clip_norm=0.0,
)

_SMALL_UNET = LatentUNetConfig(
    channels=(48, 96),
    attention=(True, True),
    blocks=1,
    context=64,
    heads=(2, 4),
    groups=8,
)
_SMALL_AUTOENCODER = AutoencoderConfig((16, 32, 32), 1, groups=8, scale=1.0)
_SMALL_TRAINING = dataclasses.replace(MINUTES, steps=10_000, ema_decay=0.999)

# No metric stands beside a preset whose training has not been run to its end here.
LATENT_PRESETS: dict[str, Preset] = {
    "zero123": Preset(
        Zero123Config(),
        _ZERO123_TRAINING,
        num_target=1,
        description="Zero-1-to-3 as published, 256x256 (1.25 B); start with --init.",
    ),
    "zero123-small": Preset(
        Zero123Config(
            dataclasses.replace(_SMALL_UNET, in_channels=8),
            _SMALL_AUTOENCODER,
            ConvEncoderConfig(),
            image_size=64,
            from_scratch=True,
            sampling=Zero123Sampling(num_steps=25, guidance=2.0),
        ),
        _SMALL_TRAINING,
        num_target=1,
        description="A thin Zero-1-to-3 at 64x64 with an autoencoder of its own.",
    ),
    "mvdream": Preset(
        MVDreamConfig(),
        _MVDREAM_TRAINING,
        num_context=1,
        num_target=3,
        description="MVDream as published, 4 views of 256x256; start with --init.",
    ),
    "mvdream-small": Preset(
        MVDreamConfig(
            _SMALL_UNET,
            _SMALL_AUTOENCODER,
            WordConfig(),
            image_size=64,
            suffix="",
            from_scratch=True,
            sampling=MVDreamSampling(num_steps=25, guidance=2.0),
        ),
        dataclasses.replace(_SMALL_TRAINING, batch_size=4),
        num_context=1,
        num_target=3,
        description="A thin MVDream at 64x64 of what categories are called.",
    ),
}
