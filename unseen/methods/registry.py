"""All methods and all presets by name. A new method is one line in each."""

from __future__ import annotations

import dataclasses
from typing import Any

from unseen.encoders.frustum import FrustumConfig
from unseen.encoders.light_field import LightFieldConfig
from unseen.encoders.motion import MotionConfig
from unseen.encoders.pixel_aligned import PixelAlignedConfig
from unseen.encoders.pixel_gaussians import PixelGaussiansConfig
from unseen.errors import UserError
from unseen.methods.codenerf import CodeNeRF, CodeNeRFConfig
from unseen.methods.dfm import DFM, DFMConfig, SampleConfig
from unseen.methods.diffrf import DiffRF, DiffRFConfig
from unseen.methods.enr import ENR, ENRConfig
from unseen.methods.genvs import GENVS_PRESETS, GeNVS, GeNVSConfig
from unseen.methods.holodiffusion import HoloDiffusion, HoloDiffusionConfig
from unseen.methods.lfn import LFN, LFNConfig
from unseen.methods.method import Method
from unseen.methods.mvdream import MVDream, MVDreamConfig
from unseen.methods.pixelnerf import PixelNeRF, PixelNeRFConfig
from unseen.methods.presets_auto_decoder import AUTO_DECODER_PRESETS
from unseen.methods.presets_feed_forward import FEED_FORWARD_PRESETS
from unseen.methods.presets_latent import LATENT_PRESETS
from unseen.methods.presets_voxels import VOXEL_PRESETS
from unseen.methods.renderdiffusion import (
    RENDERDIFFUSION_PRESETS,
    RenderDiffusion,
    RenderDiffusionConfig,
)
from unseen.methods.sparsefusion import (
    SPARSEFUSION_PRESETS,
    SparseFusion,
    SparseFusionConfig,
)
from unseen.methods.srn import SRN, SRNConfig
from unseen.methods.threedim import THREEDIM_PRESETS, ThreeDiM, ThreeDiMConfig
from unseen.methods.visionnerf import VisionNeRF, VisionNeRFConfig
from unseen.methods.zero123 import Zero123, Zero123Config
from unseen.networks.unet2d import UNet2dConfig
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset

METHODS: dict[str, tuple[type[Method], type]] = {
    "DFM": (DFM, DFMConfig),
    "SRN": (SRN, SRNConfig),
    "LFN": (LFN, LFNConfig),
    "ENR": (ENR, ENRConfig),
    "CodeNeRF": (CodeNeRF, CodeNeRFConfig),
    "PixelNeRF": (PixelNeRF, PixelNeRFConfig),
    "VisionNeRF": (VisionNeRF, VisionNeRFConfig),
    "ThreeDiM": (ThreeDiM, ThreeDiMConfig),
    "RenderDiffusion": (RenderDiffusion, RenderDiffusionConfig),
    "GeNVS": (GeNVS, GeNVSConfig),
    "Zero123": (Zero123, Zero123Config),
    "HoloDiffusion": (HoloDiffusion, HoloDiffusionConfig),
    "DiffRF": (DiffRF, DiffRFConfig),
    "SparseFusion": (SparseFusion, SparseFusionConfig),
    "MVDream": (MVDream, MVDreamConfig),
}

_SMALL_UNET = UNet2dConfig(channels=(48, 96, 192), num_blocks=1)
_SMALL_FRUSTUM = FrustumConfig(unet=_SMALL_UNET)

# Reference settings of RealEstate10K, except for LPIPS (weight 1 on the patches),
# which needs VGG weights; and the importance-sampling network is trained.
_PAPER = DFMConfig(
    scene=PixelAlignedConfig(),
    context_weights=(1.0,),
    target_pixels=24 * 24,
    other_pixels=24 * 24,
    pattern="patch",
    deterministic_weight=0.0,
    supervise_context=False,
    opacity_weight=0.0,
    distortion_weight=0.005,
    smoothness_weight=0.002,
    sampling=SampleConfig(
        num_steps=50, guidance=2.0, temperature=0.85, threshold=0.95, azimuths=()
    ),
)

_PAPER_TRAINING = TrainConfig(
    steps=7_000_000,
    learning_rate=2e-5,
    warmup_steps=1000,
    decay="cosine",
    betas=(0.9, 0.99),
    ema_decay=0.9995,
)

_OBJECTS_TRAINING = TrainConfig(
    steps=1_350,
    batch_size=8,
    learning_rate=6e-4,
    warmup_steps=20,
    decay="cosine",
    ema_decay=0.995,
    checkpoint_every=150,
    sample_every=450,
    num_workers=0,
)

PRESETS: dict[str, Preset] = {
    "objects-32": Preset(
        DFMConfig(_SMALL_FRUSTUM, image_size=32, other_pixels=256),
        TrainConfig(
            steps=6_000,
            batch_size=8,
            learning_rate=8e-4,
            warmup_steps=100,
            ema_decay=0.998,
            checkpoint_every=250,
            sample_every=500,
            num_workers=0,
        ),
        num_context=2,
        num_target=2,
        description="Objects at 32x32: the cheap first stage of objects-64.",
    ),
    "objects-64": Preset(
        DFMConfig(_SMALL_FRUSTUM, target_pixels=768, other_pixels=256),
        _OBJECTS_TRAINING,
        num_context=2,
        num_target=2,
        description="One image of an object of any kind to 3D scenes at 64x64.",
    ),
    # Held-out, after 118,000 examples: input 30.1 dB, best of 8 samples 18.8 dB on
    # novel views (deterministic 19.3 dB); see docs/models/vehicles-64.md.
    "vehicles-64": Preset(
        DFMConfig(
            dataclasses.replace(_SMALL_FRUSTUM, detail=0.4, trust=2.0),
            snr_range=(1.0, 10.0),
            target_pixels=768,
            other_pixels=256,
            sampling=SampleConfig(num_steps=6, guidance=1.0, eta=1.0),
        ),
        _OBJECTS_TRAINING,
        num_context=2,
        num_target=2,
        description="One image of a truck or car to 3D scenes at 64x64.",
    ),
    "dfm-light-field-small": Preset(
        DFMConfig(
            LightFieldConfig(_SMALL_UNET),
            snr_range=(1.0, 10.0),
            target_pixels=768,
            other_pixels=256,
            opacity_weight=0.0,
            sampling=SampleConfig(num_steps=30, guidance=1.0, eta=1.0),
        ),
        _OBJECTS_TRAINING,
        num_context=2,
        num_target=2,
        description="DFM whose scenes are light fields: one evaluation per ray.",
    ),
    "dfm-gaussians-small": Preset(
        DFMConfig(
            PixelGaussiansConfig(_SMALL_UNET, detail=0.4),
            snr_range=(1.0, 10.0),
            target_pixels=4096,
            other_pixels=4096,
            sampling=SampleConfig(num_steps=30, guidance=1.0, eta=1.0),
        ),
        _OBJECTS_TRAINING,
        num_context=2,
        num_target=2,
        description="DFM whose scenes are 3D Gaussians, which are rasterised.",
    ),
    "dfm-motion-small": Preset(
        DFMConfig(
            MotionConfig(_SMALL_UNET),
            context_weights=(1.0,),
            target_pixels=4096,
            deterministic_weight=0.0,
            supervise_context=False,
            opacity_weight=0.0,
            sampling=SampleConfig(num_steps=30, guidance=1.0, eta=1.0, azimuths=(0.0,)),
        ),
        _OBJECTS_TRAINING,
        num_context=1,
        num_target=1,
        description="DFM whose scenes are motions of a picture, made up in training.",
    ),
    "dfm-re10k-64": Preset(
        dataclasses.replace(_PAPER, image_size=64),
        dataclasses.replace(_PAPER_TRAINING, batch_size=3),
        description="DFM as published, RealEstate10K at 64x64 (755 M weights).",
    ),
    "dfm-re10k-128": Preset(
        dataclasses.replace(_PAPER, image_size=128),
        dataclasses.replace(_PAPER_TRAINING, batch_size=2),
        description="DFM as published, RealEstate10K at 128x128; starts from 64x64.",
    ),
    **AUTO_DECODER_PRESETS,
    **FEED_FORWARD_PRESETS,
    **THREEDIM_PRESETS,
    **RENDERDIFFUSION_PRESETS,
    **GENVS_PRESETS,
    **VOXEL_PRESETS,
    **SPARSEFUSION_PRESETS,
    **LATENT_PRESETS,
}


def method_name(config: Any) -> str:
    """The name of the method that a configuration belongs to.

    Raises:
        UserError: it is no method's configuration.
    """
    for name, (_, config_class) in METHODS.items():
        if type(config) is config_class:
            return name
    raise UserError(
        f"{type(config).__name__} is not the configuration of a method: use one of "
        f"{', '.join(entry.__name__ for _, entry in METHODS.values())}."
    )


def build_method(config: Any) -> Method:
    """A method with random weights from torch's global generator."""
    method_class, _ = METHODS[method_name(config)]
    return method_class(config)  # type: ignore[call-arg]
