"""The image encoder of VisionNeRF: a vision transformer and a shallow CNN, fused.

Lin et al. (2023), "Vision Transformer for NeRF-Based View Synthesis from a Single Input
Image". Tokens of four blocks are laid out as maps of four sizes, as in DPT (Ranftl et
al., 2021), and fused; the CNN keeps what is fine and local.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.vision_transformer import (
    VisionTransformer,
    VisionTransformerConfig,
)

Statistics = Literal["image", "batch"]


@dataclasses.dataclass(frozen=True)
class FusedFeaturesConfig:
    """The default has the sizes of the released weights."""

    transformer: VisionTransformerConfig = dataclasses.field(
        default_factory=VisionTransformerConfig
    )
    taps: tuple[int, int, int, int] = (2, 5, 8, 11)
    """Blocks of the transformer whose tokens are read, from 0."""
    levels: tuple[int, int, int, int] = (96, 192, 384, 768)
    """Channels of the maps at 4, 2, 1 and 1/2 times the size of the token grid."""
    fusion: int = 512
    """Channels of each level, and of the layer that fuses them."""
    stem: int = 64
    """Channels of the first layer of the CNN."""
    features: int = 512
    """Channels of the result: one half from the transformer, one from the CNN."""
    statistics: Statistics = "image"
    """What the CNN's normalisation averages over while training: every image by itself,
    or the batch, as the authors do. In evaluation it is always every image by itself,
    which is what the authors' code does for one image."""


class CurrentNorm(nn.Module):
    """Batch normalisation that knows no running statistics, in evaluation neither."""

    def __init__(self, channels: int, statistics: Statistics) -> None:
        super().__init__()
        self.statistics: Statistics = statistics
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        if self.training and self.statistics == "batch":
            return functional.batch_norm(
                x, None, None, self.weight, self.bias, training=True
            )
        return functional.instance_norm(x, weight=self.weight, bias=self.bias)


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    # The border of an image continues by reflection.
    return nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False, padding_mode="reflect")


class ReflectBlock(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, statistics: Statistics) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs)
        self.bn1 = CurrentNorm(outputs, statistics)
        self.conv2 = _conv3x3(outputs, outputs)
        self.bn2 = CurrentNorm(outputs, statistics)
        self.downsample: nn.Sequential | None = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False),
                CurrentNorm(outputs, statistics),
            )

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch outputs height width"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class Reassemble(nn.Module):
    """Tokens to a map: every token reads the class token, then the grid is resized."""

    def __init__(self, width: int, channels: int, resize: nn.Module) -> None:
        super().__init__()
        self.readout = nn.Linear(2 * width, width)
        self.project = nn.Conv2d(width, channels, 1)
        self.resize = resize

    def forward(
        self, tokens: Float[Tensor, "batch token channel"], size: tuple[int, int]
    ) -> Float[Tensor, "batch level level_height level_width"]:
        """`size` is that of the token grid."""
        patches = tokens[:, 1:]
        both = torch.cat([patches, tokens[:, :1].expand_as(patches)], dim=-1)
        x = functional.gelu(self.readout(both))
        return self.resize(self.project(x.transpose(1, 2).unflatten(-1, size)))


class FusedFeatures(nn.Module):
    """Images in [-1, 1] to one map of features at half their size."""

    def __init__(self, config: FusedFeaturesConfig) -> None:
        super().__init__()
        self.config = c = config
        self.transformer = VisionTransformer(c.transformer)
        first, second, _, fourth = c.levels
        resizes = [
            nn.ConvTranspose2d(first, first, 4, 4),
            nn.ConvTranspose2d(second, second, 2, 2),
            nn.Identity(),
            nn.Conv2d(fourth, fourth, 3, 2, 1),
        ]
        self.reassemble = nn.ModuleList(
            Reassemble(c.transformer.width, channels, resize)
            for channels, resize in zip(c.levels, resizes, strict=True)
        )
        self.unify = nn.ModuleList(
            nn.Conv2d(channels, c.fusion, 3, 1, 1, bias=False) for channels in c.levels
        )
        half = c.features // 2
        self.fuse = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(4 * c.fusion, c.fusion, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(c.fusion, half, 3, 1, 1),
        )
        self.skip = nn.Sequential(
            nn.Conv2d(3, c.stem, 7, 2, 3, bias=False, padding_mode="reflect"),
            CurrentNorm(c.stem, c.statistics),
            nn.ReLU(),
            ReflectBlock(c.stem, half, c.statistics),
            ReflectBlock(half, half, c.statistics),
            ReflectBlock(half, half, c.statistics),
        )

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch feature map_height map_width"]:
        """The images' sides are multiples of the transformer's patch."""
        local = self.skip(images)
        patch = self.config.transformer.patch
        grid = (images.shape[-2] // patch, images.shape[-1] // patch)
        levels = []
        tokens = self.transformer(images, self.config.taps)
        for found, reassemble, unify in zip(
            tokens, self.reassemble, self.unify, strict=True
        ):
            level = unify(reassemble(found, grid))
            levels.append(
                functional.interpolate(
                    level, local.shape[-2:], mode="bilinear", align_corners=True
                )
            )
        return torch.cat([self.fuse(torch.cat(levels, dim=1)), local], dim=1)
