"""A small image encoder: strided convolutions and a mean."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class ConvEncoderConfig:
    """Settings of the encoder."""

    channels: tuple[int, ...] = (32, 64, 128)
    """After each convolution; each halves the resolution."""
    embedding: int = 64
    """Channels of the embedding of an image."""
    groups: int = 8
    """Of group normalisation."""


class ConvEncoder(nn.Module):
    """Images to one embedding each."""

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for channels in config.channels:
            layers += [
                nn.Conv2d(width, channels, 3, stride=2, padding=1),
                nn.GroupNorm(config.groups, channels),
                nn.SiLU(),
            ]
            width = channels
        self.layers = nn.Sequential(*layers)
        self.projection = nn.Linear(width, config.embedding)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embedding"]:
        """The embedding of images in [-1, 1]."""
        return self.projection(self.layers(images).mean(dim=(2, 3)))
