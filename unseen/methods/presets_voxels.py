"""Presets of the diffusion models of volumes: HoloDiffusion, DiffRF."""

from __future__ import annotations

import dataclasses

from unseen.encoders.grid_fitting import GridFitConfig
from unseen.encoders.unprojection import UnprojectionConfig
from unseen.methods.diffrf import DiffRFConfig  # arrow: a list of presets
from unseen.methods.holodiffusion import (  # arrow: a list of presets
    HoloDiffusionConfig,
)
from unseen.networks.render_mlp import RenderMLPConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.unet3d import UNet3dConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.grid_space import GridSpace
from unseen.training.config import TrainConfig
from unseen.training.preset import MINUTES, Preset

# No metric stands beside a preset whose training has not been run to its end here.
VOXEL_PRESETS: dict[str, Preset] = {
    # One volume per GPU and step; 1000 epochs of 8000 batches, the rate divided by ten
    # after half of them, which is one constant rate here.
    "holodiffusion": Preset(
        HoloDiffusionConfig(),
        TrainConfig(
            steps=8_000_000,
            batch_size=1,
            learning_rate=4e-5,
            warmup_steps=0,
            betas=(0.9, 0.999),
            clip_norm=0.0,
            ema_decay=0.0,
        ),
        num_context=30,
        num_target=3,
        description="HoloDiffusion as published, objects of CO3D at 512x512.",
    ),
    "holodiffusion-small": Preset(
        HoloDiffusionConfig(
            UnprojectionConfig(
                ResNetConfig(width=16, blocks=(1, 1, 1), first_pool=False),
                image_size=64,
                projection=8,
                width=48,
            ),
            UNet3dConfig(
                channels=48,
                multipliers=(1, 2),
                num_blocks=1,
                attention=(False, True),
                num_groups=8,
                patch=2,
            ),
            RenderMLPConfig(features=32, width=64, layers=3, skip=0),
            extent=2.0,
            image_size=64,
            sampling=CoarseFineSampling("endpoints", 24, 12, 0),
            density_noise=0.1,
            rays=256,
            num_steps=50,
        ),
        dataclasses.replace(MINUTES, batch_size=4, ema_decay=0.99),
        num_context=6,
        num_target=2,
        description="A thin HoloDiffusion at 64x64, for two processor cores.",
    ),
    "diffrf": Preset(
        DiffRFConfig(),
        TrainConfig(
            steps=1_000_000,
            batch_size=32,
            learning_rate=1e-4,
            warmup_steps=1000,
            sample_every=50_000,
        ),
        num_target=3,
        description="DiffRF at 32^3, as far as the paper's settings are known to us.",
    ),
    "diffrf-small": Preset(
        DiffRFConfig(
            UNet3dConfig(
                channels=48,
                multipliers=(1, 2),
                num_blocks=1,
                attention=(False, False),
                num_groups=8,
                patch=4,
                zero_start=True,
            ),
            "grid",
            GridSpace(num_samples=48),
            image_size=64,
            fit=GridFitConfig(num_steps=200, rays=384, smoothness=0.2),
            rays=128,
            num_steps=100,
            guiding_rays=512,
        ),
        dataclasses.replace(MINUTES, learning_rate=5e-4, sample_every=1000),
        num_target=2,
        description="A thin DiffRF at 32^3 and 64x64, for two processor cores.",
    ),
}
