"""The small network of GeNVS between features of space and what is rendered."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS = {"relu": functional.relu, "softplus": functional.softplus}


@dataclasses.dataclass(frozen=True)
class FeatureMLPConfig:
    """Two hidden layers of 64; the options are the public ports'."""

    width: int = 64
    """Channels of the hidden layers."""
    hidden: int = 2
    """Hidden layers."""
    activation: Literal["relu", "softplus"] = "relu"
    """Behind the hidden layers."""
    density: Literal["relu", "softplus"] = "softplus"
    """What makes a density of the first output."""
    values: Literal["residual", "sigmoid"] = "residual"
    """What is rendered: the other outputs added to the input, or their sigmoid."""


class FeatureMLP(nn.Module):
    """Features to density (>= 0, per unit of length) and as many features."""

    def __init__(self, config: FeatureMLPConfig, features: int) -> None:
        super().__init__()
        self.config = config
        sizes = [features, *[config.width] * config.hidden, 1 + features]
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)
        )

    def forward(
        self, features: Float[Tensor, "*batch feature"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch feature"]]:
        x = features
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.config.activation](layer(x))
        x = self.layers[-1](x)
        density = ACTIVATIONS[self.config.density](x[..., 0])
        if self.config.values == "sigmoid":
            return density, torch.sigmoid(x[..., 1:])
        return density, features + x[..., 1:]
