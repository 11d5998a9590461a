"""Small pixelNeRF and VisionNeRF methods and scenes with something in them."""

from __future__ import annotations

import dataclasses

import torch

from unseen.data.cameras import sphere_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.pixelnerf import PixelNeRF, PixelNeRFConfig
from unseen.methods.visionnerf import VisionNeRF, VisionNeRFConfig
from unseen.networks.aligned_mlp import AlignedMLP
from unseen.networks.fused_features import FusedFeaturesConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.networks.vision_transformer import VisionTransformerConfig
from unseen.rendering.coarse_fine import CoarseFineSampling

SIZE = 16

PIXELNERF = PixelNeRFConfig(
    encoder=ResNetConfig(width=4, blocks=(1, 1, 1), first_pool=False),
    width=16,
    blocks=3,
    view_blocks=2,
    image_size=SIZE,
    sampling=CoarseFineSampling(num_coarse=8, num_fine=4, num_depth=2),
    rays=32,
)
VISIONNERF = VisionNeRFConfig(
    encoder=FusedFeaturesConfig(
        VisionTransformerConfig(SIZE, patch=4, width=16, depth=4, heads=2),
        taps=(0, 1, 2, 3),
        levels=(4, 4, 8, 8),
        fusion=8,
        stem=4,
        features=16,
    ),
    width=16,
    blocks=3,
    image_size=SIZE,
    # The highest of all ten frequencies would enlarge rounding errors a thousandfold.
    reading=dataclasses.replace(VisionNeRFConfig().reading, octaves=4),
    sampling=CoarseFineSampling("endpoints", 8, 6, 0),
    rays=32,
)


def waken(network: AlignedMLP, generator: torch.Generator) -> None:
    """Give a fresh network blocks that do something, and some density everywhere."""
    with torch.no_grad():
        for block in network.blocks:
            weight = block.fc_1.weight
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        network.out.weight.mul_(2)
        network.out.bias[3] += 0.5


def pixelnerf(**changes) -> PixelNeRF:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = PixelNeRF(dataclasses.replace(PIXELNERF, **changes))
    return _awake(method)


def visionnerf(**changes) -> VisionNeRF:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = VisionNeRF(dataclasses.replace(VISIONNERF, **changes))
    return _awake(method)


def _awake(method):
    generator = torch.Generator().manual_seed(1)
    for network in (method.coarse, method.fine):
        waken(network, generator)
    return method.eval()


def cameras(num_views: int, offset: float = 0.0) -> Cameras:
    """Cameras (view) around the unit sphere."""
    azimuths = offset + 1.1 * torch.arange(num_views)
    elevations = 0.3 + 0.1 * torch.arange(num_views)
    return sphere_cameras(azimuths, elevations, torch.tensor(0.7))


def views(batch: int, num_views: int, size: int = SIZE) -> Views:
    """Images of noise (batch, view), smooth enough to be interpolated."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(batch * num_views, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear")
    batched = Cameras.stack([cameras(num_views, 0.5 * i) for i in range(batch)])
    return Views(images.unflatten(0, (batch, num_views)), batched)
