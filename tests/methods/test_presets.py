"""A contract that every preset keeps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from unseen.checkpoints.model_folder import load_model, save_model
from unseen.data.cameras import object_cameras
from unseen.encoders.pixel_aligned import PixelAlignedConfig
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.codenerf import CodeNeRFConfig
from unseen.methods.dfm import DFMConfig
from unseen.methods.diffrf import DiffRFConfig
from unseen.methods.enr import ENRConfig
from unseen.methods.genvs import GeNVSConfig
from unseen.methods.holodiffusion import HoloDiffusionConfig
from unseen.methods.lfn import LFNConfig
from unseen.methods.method import TrainingScenes
from unseen.methods.mvdream import MVDreamConfig
from unseen.methods.pixelnerf import PixelNeRFConfig
from unseen.methods.registry import PRESETS, build_method
from unseen.methods.renderdiffusion import RenderDiffusionConfig
from unseen.methods.sparsefusion import SparseFusionConfig
from unseen.methods.srn import SRNConfig
from unseen.methods.threedim import ThreeDiMConfig
from unseen.methods.visionnerf import VisionNeRFConfig
from unseen.methods.zero123 import Zero123Config
from unseen.networks.clip import ClipImageConfig, ClipTextConfig
from unseen.networks.coded_mlp import CodedMLPConfig
from unseen.networks.conv_encoder import ConvEncoderConfig
from unseen.networks.image_latents import SmallLatentsConfig
from unseen.networks.text import WordConfig
from unseen.networks.voxel_resnet import VoxelNetworkConfig


def affordable(config: Any) -> Any:
    """The same settings with thinner layers, fewer blocks, steps and pixels."""
    if isinstance(config, ENRConfig):
        network = VoxelNetworkConfig(
            (8, 8, 8), (1, 2, 2), (8, 16), (4, 8, 4), (1, 2, -2), (16, 8)
        )
        return dataclasses.replace(config, image_size=16, network=network)
    if isinstance(config, CodeNeRFConfig):
        return dataclasses.replace(
            config,
            num_objects=3,
            image_size=16,
            network=CodedMLPConfig(16, 8, 2, 1, 3, 2),
            sampling=dataclasses.replace(config.sampling, num_samples=8),
            rays=32,
            fit=dataclasses.replace(config.fit, num_steps=2, rays=32),
        )
    if isinstance(config, SRNConfig | LFNConfig):
        return affordable_auto_decoder(config)
    if isinstance(config, PixelNeRFConfig | VisionNeRFConfig):
        return affordable_aligned(config)
    if isinstance(config, ThreeDiMConfig):
        network = dataclasses.replace(
            config.network, channels=8, num_blocks=1, embedding=8, num_groups=4, heads=2
        )
        sampling = dataclasses.replace(config.sampling, num_steps=2)
        return dataclasses.replace(
            config, network=network, image_size=16, sampling=sampling
        )
    if isinstance(config, RenderDiffusionConfig):
        return affordable_triplane(config)
    if isinstance(config, GeNVSConfig):
        return affordable_genvs(config)
    if isinstance(config, Zero123Config | MVDreamConfig):
        return affordable_latent(config)
    if isinstance(config, HoloDiffusionConfig):
        return affordable_holodiffusion(config)
    if isinstance(config, DiffRFConfig):
        return affordable_diffrf(config)
    if isinstance(config, SparseFusionConfig):
        return affordable_sparsefusion(config)
    assert isinstance(config, DFMConfig)
    sampling = dataclasses.replace(config.sampling, num_steps=2)
    config = dataclasses.replace(config, sampling=sampling, image_size=16)
    if not isinstance(config.scene, PixelAlignedConfig):
        return config
    scene = config.scene
    dit = dataclasses.replace(
        scene.encoder.dit, depth=1, width=32, heads=2, out_channels=16
    )
    return dataclasses.replace(
        config,
        scene=dataclasses.replace(
            scene,
            encoder=dataclasses.replace(scene.encoder, dit=dit),
            field=dataclasses.replace(
                scene.field, width=32, features=16, time_width=32
            ),
            sampling=dataclasses.replace(
                scene.sampling, num_uniform=8, num_importance=8
            ),
            num_condition_samples=8,
        ),
        target_pixels=64,
        other_pixels=64,
    )


def affordable_genvs(config: GeNVSConfig) -> GeNVSConfig:
    """A thin encoder and denoiser, few slices, samples and steps."""
    return dataclasses.replace(
        config,
        image_size=16,
        encoder=dataclasses.replace(
            config.encoder, width=4, decoder=8, fine=4, features=4, slices=4
        ),
        rendering=dataclasses.replace(config.rendering, num_samples=4),
        denoiser=dataclasses.replace(
            config.denoiser, channels=8, num_blocks=1, embedding=8
        ),
        sampling=dataclasses.replace(config.sampling, num_steps=2),
    )


def affordable_latent(
    config: Zero123Config | MVDreamConfig,
) -> Zero123Config | MVDreamConfig:
    """Thin networks, small images, few steps."""
    unet = dataclasses.replace(
        config.unet,
        channels=(8, 16),
        attention=(True, False),
        blocks=1,
        context=16,
        heads=(1, 2),
        groups=4,
    )
    autoencoder = dataclasses.replace(
        config.autoencoder, channels=(8, 8), blocks=1, groups=4
    )
    sampling: Any = dataclasses.replace(config.sampling, num_steps=3)
    config = dataclasses.replace(
        config,
        unet=unet,
        autoencoder=autoencoder,
        image_size=16,
        sampling=sampling,
    )
    encoder: Any
    if isinstance(config, MVDreamConfig):
        encoder = WordConfig(16, 4, 16)
        if isinstance(config.text_encoder, ClipTextConfig):
            encoder = ClipTextConfig(520, 8, 16, 1, 2, 16)
        return dataclasses.replace(config, text_encoder=encoder)
    encoder = ConvEncoderConfig((8,), 16, groups=4)
    if isinstance(config.image_encoder, ClipImageConfig):
        encoder = ClipImageConfig(8, 4, 16, 1, 2, 16, 16)
    return dataclasses.replace(config, image_encoder=encoder)


def affordable_sparsefusion(config: SparseFusionConfig) -> SparseFusionConfig:
    """Thin networks, few depths and steps; latents that halve the image once."""
    encoder = dataclasses.replace(config.epipolar.encoder, width=8, blocks=(1, 1, 1))
    epipolar = dataclasses.replace(
        config.epipolar, encoder=encoder, width=8, num_layers=1, num_depths=4
    )
    network = dataclasses.replace(
        config.network,
        channels=8,
        multipliers=(1, 2),
        attention=(False, True),
        num_blocks=1,
        heads=2,
        head_size=4,
        num_groups=4,
    )
    latents: Any
    if isinstance(config.latents, SmallLatentsConfig):
        latents = dataclasses.replace(config.latents, width=8, halvings=1)
    else:
        latents = dataclasses.replace(
            config.latents, channels=(8, 8), blocks=1, groups=4
        )
    return dataclasses.replace(
        config,
        epipolar=epipolar,
        network=network,
        latents=latents,
        image_size=16,
        sampling=dataclasses.replace(config.sampling, num_steps=2),
    )


def affordable_aligned(
    config: PixelNeRFConfig | VisionNeRFConfig,
) -> PixelNeRFConfig | VisionNeRFConfig:
    """Thin image encoders and fields, few samples and rays."""
    sampling = dataclasses.replace(config.sampling, num_coarse=8, num_fine=4)
    config = dataclasses.replace(config, width=16, sampling=sampling, rays=32)
    encoder: Any
    if isinstance(config, PixelNeRFConfig):
        encoder = dataclasses.replace(config.encoder, width=8, blocks=(1, 1, 1))
        return dataclasses.replace(config, encoder=encoder, image_size=32)
    transformer = dataclasses.replace(
        config.encoder.transformer, image_size=32, patch=8, width=16, depth=4, heads=2
    )
    encoder = dataclasses.replace(
        config.encoder,
        transformer=transformer,
        taps=(0, 1, 2, 3),
        levels=(8, 8, 8, 8),
        fusion=8,
        stem=8,
        features=16,
    )
    return dataclasses.replace(config, encoder=encoder, image_size=32)


def affordable_triplane(config: RenderDiffusionConfig) -> RenderDiffusionConfig:
    """A thin U-Net, few samples along rays, few steps."""
    network = dataclasses.replace(
        config.network, channels=8, plane_channels=8, heads=2, head_size=4, num_groups=4
    )
    return dataclasses.replace(
        config,
        network=network,
        decoder=dataclasses.replace(config.decoder, features=8, width=8),
        rays=dataclasses.replace(config.rays, num_uniform=8, num_importance=4),
        image_size=16,
        sampling=dataclasses.replace(config.sampling, num_steps=4, noise_level=0.5),
    )


def affordable_auto_decoder(config: SRNConfig | LFNConfig) -> SRNConfig | LFNConfig:
    """Thin predicted networks, few steps of fitting, and codes for two objects."""
    inner = [16] * (len(config.hyper.sizes) - 2)
    last = config.hyper.sizes[-1] if config.hyper.plain_last else 16
    sizes = (config.hyper.sizes[0], *inner, last)
    hyper = dataclasses.replace(config.hyper, code_width=8, width=16, sizes=sizes)
    fit = dataclasses.replace(config.fit, num_steps=2, rays=64)
    config = dataclasses.replace(
        config, image_size=16, num_objects=2, hyper=hyper, fit=fit
    )
    if isinstance(config, LFNConfig):
        return config
    marcher = dataclasses.replace(config.marcher, features=16)
    return dataclasses.replace(config, marcher=marcher)


def affordable_holodiffusion(config: HoloDiffusionConfig) -> HoloDiffusionConfig:
    """Thin networks, few samples, rays and steps."""
    trunk = dataclasses.replace(config.encoder.trunk, width=8, blocks=(1, 1))
    encoder = dataclasses.replace(
        config.encoder, trunk=trunk, image_size=32, projection=4, width=8
    )
    network = dataclasses.replace(
        config.network, channels=8, num_blocks=1, num_groups=4, heads=2
    )
    decoder = dataclasses.replace(config.decoder, features=4, width=16)
    sampling = dataclasses.replace(config.sampling, num_coarse=8, num_fine=4)
    return dataclasses.replace(
        config,
        encoder=encoder,
        network=network,
        decoder=decoder,
        image_size=16,
        sampling=sampling,
        rays=32,
        num_steps=2,
    )


def affordable_diffrf(config: DiffRFConfig) -> DiffRFConfig:
    """A thin network, a coarse grid, few steps of fitting and sampling."""
    network = dataclasses.replace(
        config.network, channels=8, num_blocks=1, num_groups=4, heads=2
    )
    return dataclasses.replace(
        config,
        network=network,
        grid=dataclasses.replace(config.grid, resolution=8, num_samples=8),
        fit=dataclasses.replace(config.fit, num_steps=2, rays=32),
        image_size=16,
        rays=32,
        num_steps=2,
        guiding_rays=32,
    )


def views_of_a_scene(views: int, size: int) -> Views:
    generator = torch.Generator().manual_seed(0)
    cameras = Cameras.stack([object_cameras(views, generator)])
    return Views(torch.rand(1, views, 3, size, size, generator=generator), cameras)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_trains_samples_and_survives_its_folder(name: str, tmp_path) -> None:
    preset = PRESETS[name]
    config = affordable(preset.method)
    views = views_of_a_scene(preset.num_context + preset.num_target, config.image_size)
    context, target = views[:, : preset.num_context], views[:, preset.num_context :]
    example = Example(context, target, torch.tensor([1]))
    torch.manual_seed(0)
    method = build_method(config)
    scenes = TrainingScenes(("first", "second"), lambda number: views[0])
    method.prepare(scenes, tmp_path / "prepared")

    losses = method.train().loss(example, torch.Generator().manual_seed(0))
    losses.total.backward()
    assert torch.isfinite(losses.total) and losses.total.shape == ()
    assert all(torch.isfinite(term) for term in losses.terms.values())
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(g).all() for g in grads)

    def sample(method) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return method.sample(example.context, views.cameras[:, -2:], generator).images

    images = sample(method.eval())
    assert images.shape == (1, 2, 3, config.image_size, config.image_size)
    assert (images >= -1e-4).all() and (images <= 1 + 1e-4).all()
    save_model(method, tmp_path / "model", {})
    assert torch.equal(sample(load_model(tmp_path / "model")), images)
