"""HoloDiffusion's render network: the feature of a point to density and colour."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import harmonic_embedding


@dataclasses.dataclass(frozen=True)
class RenderMLPConfig:
    """The defaults are the sizes of HoloDiffusion's settings."""

    features: int = 64
    """Channels of the features."""

    width: int = 256
    """Width of the hidden layers."""

    layers: int = 4
    """Layers up to the density."""

    skip: int = 2
    """The layer that reads the feature once more; 0 is none."""

    direction_octaves: int = 4
    """Frequencies of the encoding of the direction of view."""

    activation: Literal["hidden", "last"] = "hidden"
    """Where leaky ReLU (slope 0.2) is: after all but the last layer ("hidden"), or
    ("last") after the last layer alone, that of the density and that of the colour. The
    authors' code does the latter, with which the density is a linear function of the
    feature but for that activation."""

    def __post_init__(self) -> None:
        if self.layers < 1 or not 0 <= self.skip < self.layers:
            raise ValueError(
                f"the layer that reads the feature again must be one of 0 to "
                f"{self.layers - 1}, not {self.skip}"
            )


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


class RenderMLP(nn.Module):
    """Density from the feature; colour from what made it and the direction of view."""

    def __init__(self, config: RenderMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.density = nn.ModuleList()
        for layer in range(config.layers):
            inputs = config.width if layer else config.features
            if layer and layer == config.skip:
                inputs += config.features
            last = layer == config.layers - 1
            self.density.append(nn.Linear(inputs, config.width + int(last)))
        encoded = 3 * (1 + 2 * config.direction_octaves)
        self.radiance = nn.Linear(config.width + encoded, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        features: Float[Tensor, "*batch feature"],
        directions: Float[Tensor, "*batch 3"],
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3"]]:
        """Density, before a ReLU that the renderer applies, and colour in [0, 1].

        Directions are unit vectors in the world, along the rays.
        """
        c, h = self.config, features
        for index, layer in enumerate(self.density):
            if index and index == c.skip:
                h = torch.cat([h, features], dim=-1)
            h = layer(h)
            if (index == c.layers - 1) == (c.activation == "last"):
                h = _leaky(h)
        hidden, density = h[..., :-1], h[..., -1]
        encoded = harmonic_embedding(directions, c.direction_octaves)
        color = self.radiance(torch.cat([hidden, encoded], dim=-1))
        if c.activation == "last":
            color = _leaky(color)
        return density, color.sigmoid()
