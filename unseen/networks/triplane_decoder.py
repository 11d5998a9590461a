"""From the features of a point to its density and colour."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class TriplaneDecoderConfig:
    """Sizes and activations; see `TriplaneDecoder`."""

    features: int = 32
    """Features of a point."""

    width: int = 32
    """Width of the hidden layer."""

    gain: float = 32.0
    bias: float = -6.0
    """The density is softplus(gain * evidence + bias)."""


class TriplaneDecoder(nn.Module):
    """Two layers: density (per world unit of length) and colour of points.

    The bias of the density makes an untrained field a thin fog (Sun et al. 2022,
    "Direct Voxel Grid Optimization"); colours may leave [0, 1] by a thousandth, so that
    the sigmoid reaches both ends (Barron et al. 2021, Mip-NeRF, equation 5 ff.).
    """

    def __init__(self, config: TriplaneDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(config.features, config.width)
        self.out = nn.Linear(config.width, 4)
        nn.init.xavier_uniform_(self.out.weight, 1 / config.gain)
        nn.init.constant_(self.out.bias, 4 / config.gain)

    def decode(
        self, features: Float[Tensor, "*batch feature"]
    ) -> Float[Tensor, "*batch 4"]:
        """Evidence of density, and logits of colour."""
        return self.out(functional.softplus(self.hidden(features)))

    def forward(
        self, features: Float[Tensor, "*batch feature"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3"]]:
        found = self.decode(features)
        c = self.config
        density = functional.softplus(c.gain * found[..., 0] + c.bias)
        color = 1.002 * torch.sigmoid(found[..., 1:]) - 0.001
        return density, color
