"""The learned sphere tracer of SRN, and the network that colours where it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.hypernetwork import fc_block

GRADIENT_LIMIT = 10.0
"""Gradients of the LSTM's output are clamped to this size, in every entry."""


@dataclasses.dataclass(frozen=True)
class RayMarcherConfig:
    """The default is SRN's."""

    features: int = 256
    """Channels of the scene function, and width of the colouring network."""
    memory: int = 16
    """Width of the LSTM."""
    num_steps: int = 10
    color_layers: int = 5
    """Hidden layers of the colouring network."""


class RayMarcher(nn.Module):
    """Walks along rays by steps that an LSTM reads off a scene's features.

    SRN (Sitzmann et al., NeurIPS 2019).
    """

    def __init__(self, config: RayMarcherConfig) -> None:
        super().__init__()
        self.config = config
        self.lstm = nn.LSTMCell(config.features, config.memory)
        self.step = nn.Linear(config.memory, 1)
        self.color = fc_block(config.features, config.features, config.color_layers, 3)
        # The memory is kept at first: forget gates start open.
        for bias in (self.lstm.bias_ih, self.lstm.bias_hh):
            nn.init.ones_(bias.data[config.memory : 2 * config.memory])

    def forward(
        self,
        scene: Callable[[Tensor], Tensor],
        origins: Float[Tensor, "batch ray 3"],
        directions: Float[Tensor, "batch ray 3"],
        start: Float[Tensor, "batch ray"],
    ) -> tuple[Float[Tensor, "batch ray 3"], Float[Tensor, "batch ray"]]:
        """Colours in [-1, 1] (not clamped), and depths.

        `scene` maps points (batch, point, 3) to features. `directions` are scaled to
        z = 1 in the camera, so `start` and the result are depths; steps are lengths in
        the world, forward or backward.
        """
        lengths = directions.norm(dim=-1)
        unit = functional.normalize(directions, dim=-1)
        points = origins + start[..., None] * directions
        walked = torch.zeros_like(start)
        memory = origins.new_zeros(start.numel(), self.config.memory)
        state = (memory, memory)
        for _ in range(self.config.num_steps):
            h, c = self.lstm(scene(points).flatten(0, 1), state)
            if h.requires_grad:
                h.register_hook(_clamp)
            state = (h, c)
            step = self.step(h).reshape(start.shape)
            points = points + step[..., None] * unit
            walked = walked + step
        return self.color(scene(points)), start + walked / lengths


def _clamp(gradient: Tensor) -> Tensor:
    return gradient.clamp(-GRADIENT_LIMIT, GRADIENT_LIMIT)
