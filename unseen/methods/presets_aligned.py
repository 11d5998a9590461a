"""The presets of pixelNeRF and VisionNeRF."""

from __future__ import annotations

import dataclasses

from unseen.methods.pixelnerf import PixelNeRFConfig  # arrow: a list of presets
from unseen.methods.visionnerf import VisionNeRFConfig  # arrow: a list of presets
from unseen.networks.fused_features import FusedFeaturesConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.vision_transformer import VisionTransformerConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset

# The authors train with Adam at a constant rate, without averaging of the weights.
_PIXELNERF_TRAINING = TrainConfig(
    steps=400_000,
    batch_size=4,
    learning_rate=1e-4,
    warmup_steps=0,
    betas=(0.9, 0.999),
    clip_norm=0.0,
    ema_decay=0.0,
)

_SMALL_TRAINING = TrainConfig(
    steps=4_000,
    batch_size=4,
    learning_rate=5e-4,
    warmup_steps=50,
    decay="cosine",
    ema_decay=0.99,
    checkpoint_every=250,
    sample_every=1000,
    num_workers=0,
)

# No metric stands beside a preset whose training has not been run to its end here.
ALIGNED_PRESETS: dict[str, Preset] = {
    "pixelnerf-srn": Preset(
        PixelNeRFConfig(),
        _PIXELNERF_TRAINING,
        num_target=49,
        description="pixelNeRF as published, ShapeNet cars or chairs at 128x128.",
    ),
    "pixelnerf-nmr": Preset(
        PixelNeRFConfig(encoder=ResNetConfig(first_pool=False), image_size=64),
        dataclasses.replace(_PIXELNERF_TRAINING, steps=800_000),
        num_target=23,
        description="pixelNeRF as published, 13 ShapeNet categories at 64x64.",
    ),
    "pixelnerf-small": Preset(
        PixelNeRFConfig(
            encoder=ResNetConfig(width=16, blocks=(1, 1, 1), first_pool=False),
            width=64,
            blocks=3,
            view_blocks=2,
            image_size=64,
            sampling=CoarseFineSampling(num_coarse=32, num_fine=12, num_depth=4),
            rays=128,
            box_share=0.5,
        ),
        _SMALL_TRAINING,
        num_target=6,
        description="A thin pixelNeRF at 64x64, for two processor cores.",
    ),
    # The authors' rates are 1e-4 for the field and 1e-5 for the encoder, and a tenth
    # of that for the last tenth of the steps; here there is one constant rate.
    "visionnerf-srn": Preset(
        VisionNeRFConfig(encoder=FusedFeaturesConfig(statistics="batch")),
        TrainConfig(
            steps=500_000,
            batch_size=8,
            learning_rate=1e-4,
            warmup_steps=10_000,
            betas=(0.9, 0.999),
            clip_norm=0.0,
            ema_decay=0.0,
        ),
        num_target=1,
        description="VisionNeRF as published, ShapeNet cars or chairs at 128x128.",
    ),
    "visionnerf-small": Preset(
        VisionNeRFConfig(
            encoder=FusedFeaturesConfig(
                VisionTransformerConfig(
                    image_size=64, patch=8, width=96, depth=4, heads=4
                ),
                taps=(0, 1, 2, 3),
                levels=(24, 32, 48, 64),
                fusion=48,
                stem=16,
                features=64,
            ),
            width=64,
            blocks=3,
            image_size=64,
            sampling=CoarseFineSampling("endpoints", 32, 16, 0),
            rays=128,
            box_share=0.5,
        ),
        _SMALL_TRAINING,
        num_target=4,
        description="A thin VisionNeRF at 64x64, for two processor cores.",
    ),
}
