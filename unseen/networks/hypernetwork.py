"""Networks that predict the weights of a small MLP from a code (SRN and LFN)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.networks.predicted_mlp import PredictedMLP


def fc_block(
    inputs: int, width: int, num_hidden: int, outputs: int, last_scale: float = 1.0
) -> nn.Sequential:
    """Hidden layers of linear, layer normalisation, ReLU; then a linear one.

    Weights are drawn as Kaiming et al. suggest for ReLU (variance 2 / inputs), those
    of the last layer times `last_scale`.
    """
    layers: list[nn.Module] = []
    for i in range(num_hidden):
        layers += [nn.Linear(width if i else inputs, width), nn.LayerNorm(width)]
        layers.append(nn.ReLU())
    layers.append(nn.Linear(width if num_hidden else inputs, outputs))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    with torch.no_grad():
        layers[-1].weight.mul_(last_scale)  # type: ignore[operator]
    return nn.Sequential(*layers)


@dataclasses.dataclass(frozen=True)
class HyperNetworkConfig:
    """The default is LFN's."""

    code_width: int = 256
    width: int = 256
    """Width of the networks that predict."""
    num_hidden: int = 2
    """Their hidden layers."""
    sizes: tuple[int, ...] = (6, 256, 256, 256, 256, 256, 256, 256, 3)
    """Widths of the predicted MLP, its input and output included."""
    plain_last: bool = True
    """Whether the predicted MLP ends in a linear layer without ReLU."""
    split: Literal["tensor", "layer"] = "tensor"
    """One network for each weight and each bias (LFN), or one for each layer, whose
    output is the weight row by row and then the bias (SRN)."""
    last_scale: float = 0.1
    """Factor on the initial weights of the last layers."""


class HyperNetwork(nn.Module):
    """Code -> `PredictedMLP`."""

    def __init__(self, config: HyperNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.nets = nn.ModuleList(
            fc_block(
                config.code_width, config.width, config.num_hidden, n, config.last_scale
            )
            for n in self._outputs()
        )

    def _shapes(self) -> Sequence[tuple[int, int]]:
        """(out, in) of every predicted layer."""
        sizes = self.config.sizes
        return list(zip(sizes[1:], sizes[:-1], strict=True))

    def _outputs(self) -> list[int]:
        """Numbers that each network predicts."""
        if self.config.split == "layer":
            return [n * m + n for n, m in self._shapes()]
        return [size for n, m in self._shapes() for size in (n * m, n)]

    def forward(self, code: Float[Tensor, "batch code"]) -> PredictedMLP:
        """The MLP of each code, shape (batch,)."""
        vectors = [net(code) for net in self.nets]
        weights, biases = [], []
        for i, (n, m) in enumerate(self._shapes()):
            if self.config.split == "layer":
                weight, bias = vectors[i].split([n * m, n], dim=-1)
            else:
                weight, bias = vectors[2 * i], vectors[2 * i + 1]
            weights.append(weight.unflatten(-1, (n, m)))
            biases.append(bias)
        return PredictedMLP(tuple(weights), tuple(biases), self.config.plain_last)

    def num_predicted(self) -> int:
        """Weights and biases of the predicted MLP."""
        return sum(math.prod(shape) + shape[0] for shape in self._shapes())
