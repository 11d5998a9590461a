"""Tiny HoloDiffusion and DiffRF, and views of coloured balls to try them on."""

from __future__ import annotations

import dataclasses

import torch

from unseen.data.cameras import sphere_cameras
from unseen.encoders.grid_fitting import GridFitConfig
from unseen.encoders.unprojection import UnprojectionConfig
from unseen.geometry.views import Example, Views
from unseen.methods.diffrf import DiffRF, DiffRFConfig
from unseen.methods.holodiffusion import HoloDiffusion, HoloDiffusionConfig
from unseen.networks.render_mlp import RenderMLPConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.unet3d import UNet3dConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.grid_space import GridSpace

SIZE = 12
NETWORK = UNet3dConfig(
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention=(False, False),
    num_groups=4,
)
SPACE = GridSpace(resolution=8, num_samples=16)
HOLO = HoloDiffusionConfig(
    UnprojectionConfig(
        ResNetConfig(width=8, blocks=(1, 1)), image_size=16, projection=4, width=16
    ),
    NETWORK,
    RenderMLPConfig(features=8, width=16, layers=2, skip=0),
    resolution=8,
    extent=2.0,
    image_size=SIZE,
    sampling=CoarseFineSampling("endpoints", 12, 6, 0),
    density_noise=0.0,
    rays=128,
    num_steps=4,
)
DIFFRF = DiffRFConfig(
    dataclasses.replace(NETWORK, zero_start=True),
    "noise",
    SPACE,
    SIZE,
    GridFitConfig(num_steps=25, rays=96, learning_rate=0.1),
    rays=64,
    num_steps=4,
    guiding_rays=64,
)


def holodiffusion(config: HoloDiffusionConfig = HOLO) -> HoloDiffusion:
    torch.manual_seed(0)
    return HoloDiffusion(config)


def diffrf(config: DiffRFConfig = DIFFRF) -> DiffRF:
    torch.manual_seed(0)
    return DiffRF(config)


def ball_grid(color: tuple[float, float, float], radius: float = 0.6) -> torch.Tensor:
    """A ball of one colour (logits in units of the space's range), as a grid."""
    axis = (torch.arange(8) + 0.5) / 4 - 1
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    inside = x**2 + y**2 + z**2 < radius**2
    colors = torch.tensor(color)[:, None, None, None].expand(3, 8, 8, 8)
    return torch.cat([torch.where(inside, 1.0, -1.0)[None], colors])


def ball_views(color: tuple[float, float, float], num_views: int = 5) -> Views:
    """Views (view,) of a ball on white."""
    angles = 6.28 * torch.arange(num_views) / num_views
    elevations = 0.3 * torch.ones(num_views)
    cameras = sphere_cameras(angles, elevations, torch.tensor(0.7))
    scene = SPACE.scene(ball_grid(color)[None])[0]
    return Views(scene.render(cameras, (SIZE, SIZE)).color, cameras)


COLORS = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0))


def example(num_context: int = 3) -> Example:
    """A red and a blue ball."""
    views = [ball_views(color) for color in COLORS]
    pairs = [Example(v[:num_context], v[num_context:]) for v in views]
    batch = Example.stack(pairs)
    return Example(batch.context, batch.target, torch.tensor([0, 1]))


def no_views(batch: int) -> Views:
    """A context (batch, 0)."""
    return example().context[:1, :0][torch.zeros(batch, dtype=torch.long)]
