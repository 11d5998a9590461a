"""Presets of the feed-forward systems: pixelNeRF, VisionNeRF, ENR."""

from __future__ import annotations

import dataclasses

from unseen.methods.enr import ENRConfig  # arrow: a list of presets
from unseen.methods.pixelnerf import PixelNeRFConfig  # arrow: a list of presets
from unseen.methods.visionnerf import VisionNeRFConfig  # arrow: a list of presets
from unseen.networks.fused_features import FusedFeaturesConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.vision_transformer import VisionTransformerConfig
from unseen.networks.voxel_resnet import VoxelNetworkConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.training.preset import MINUTES, PLAIN_ADAM, Preset

_PIXELNERF_TRAINING = dataclasses.replace(PLAIN_ADAM, steps=400_000, batch_size=4)
_SMALL_TRAINING = dataclasses.replace(
    MINUTES, steps=4_000, batch_size=4, learning_rate=5e-4, sample_every=1000
)
_SMALL_VOXELS = VoxelNetworkConfig(
    channels_2d=(16, 16, 32, 48, 48),
    strides_2d=(1, 1, 2, 2, 1),
    unfold=(96, 256),
    channels_3d=(16, 16, 32, 32, 16),
    strides_3d=(1, 1, 2, 1, -2),
    fold=(128, 48),
)

# No metric stands beside a preset whose training has not been run to its end here.
FEED_FORWARD_PRESETS: dict[str, Preset] = {
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
        dataclasses.replace(
            PLAIN_ADAM, steps=500_000, batch_size=8, warmup_steps=10_000
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
    "enr-chairs": Preset(
        ENRConfig(),
        # 100 epochs of 25 pairs of views, of some 4,600 objects (of one's own data:
        # `--steps`).
        dataclasses.replace(
            PLAIN_ADAM, steps=1_440_000, batch_size=8, learning_rate=2e-4
        ),
        num_target=1,
        description="Equivariant Neural Rendering as published, at 128x128.",
    ),
    "enr-small": Preset(
        ENRConfig(64, _SMALL_VOXELS),
        MINUTES,
        num_target=1,
        description="Equivariant Neural Rendering at 64x64, for a CPU.",
    ),
}
