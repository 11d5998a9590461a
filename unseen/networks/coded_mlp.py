"""A radiance field that is conditioned on a code of shape and a code of texture.

Of CodeNeRF (Jang and Agapito, ICCV 2021): density sees the shape code only, colour sees
both, so that the two can be edited apart.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import blocked_encoding


@dataclasses.dataclass(frozen=True)
class CodedMLPConfig:
    """Sizes; the defaults are those of the paper's models."""

    width: int = 256
    code_width: int = 256
    """Entries of each of the two codes."""
    shape_blocks: int = 3
    """Layers that a shape code is added before."""
    texture_blocks: int = 1
    point_octaves: int = 10
    direction_octaves: int = 4


class CodedMLP(nn.Module):
    """(points, directions, codes) to density and colour."""

    def __init__(self, config: CodedMLPConfig) -> None:
        super().__init__()
        self.config = config
        c, width = config, config.width
        self.point_in = nn.Linear(3 * (1 + 2 * c.point_octaves), width)
        self.shape_in = _linears(c.shape_blocks, c.code_width, width)
        self.shape_layers = _linears(c.shape_blocks, width, width)
        self.shape_out = nn.Linear(width, width)
        self.density = nn.Linear(width, 1)
        self.view_in = nn.Linear(width + 3 * (1 + 2 * c.direction_octaves), width)
        self.texture_in = _linears(c.texture_blocks, c.code_width, width)
        self.texture_layers = _linears(c.texture_blocks, width, width)
        self.color = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 3)
        )

    def forward(
        self,
        points: Float[Tensor, "batch point 3"],
        directions: Float[Tensor, "batch point 3"],
        shapes: Float[Tensor, "batch code"],
        textures: Float[Tensor, "batch code"],
    ) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point 3"]]:
        """Density (> 0, per unit of length) and linear colour, which has no bounds.

        `directions` are unit vectors away from the camera.
        """
        encoded = blocked_encoding(points, self.config.point_octaves)
        y = functional.relu(self.point_in(encoded))
        for code_in, layer in zip(self.shape_in, self.shape_layers, strict=True):
            code = functional.relu(code_in(shapes))[:, None]
            y = functional.relu(layer(y + code))
        y = self.shape_out(y)
        density = functional.softplus(self.density(y)[..., 0].float())
        viewed = blocked_encoding(directions, self.config.direction_octaves)
        y = functional.relu(self.view_in(torch.cat([y, viewed], dim=-1)))
        for code_in, layer in zip(self.texture_in, self.texture_layers, strict=True):
            code = functional.relu(code_in(textures))[:, None]
            y = functional.relu(layer(y + code))
        return density, self.color(y).float()

    @torch.no_grad()
    def fold(
        self, shape: Float[Tensor, "code"], texture: Float[Tensor, "code"]
    ) -> FoldedMLP:
        """The same function of points and directions for one pair of codes."""
        outer, inner = self.view_in.weight, self.shape_out
        width = self.config.width
        return FoldedMLP(
            self.config,
            (self.point_in.weight, self.point_in.bias),
            _folded(self.shape_in, self.shape_layers, shape),
            # Nothing comes between `shape_out` and the layers after it.
            (
                self.density.weight @ inner.weight,
                self.density.weight @ inner.bias + self.density.bias,
            ),
            (
                outer[:, :width] @ inner.weight,
                outer[:, :width] @ inner.bias + self.view_in.bias,
            ),
            outer[:, width:],
            _folded(self.texture_in, self.texture_layers, texture),
            self.color,
        )


Layer = tuple[Tensor, Tensor]
"""Weight and bias."""


@dataclasses.dataclass(frozen=True)
class FoldedMLP:
    """A `CodedMLP` for one object, with fewer layers and in two parts.

    Codes have become biases, and the layer before the density has been multiplied into
    those after it.
    """

    config: CodedMLPConfig
    point_in: Layer
    shape_layers: tuple[Layer, ...]
    density_out: Layer
    view_in: Layer
    direction_in: Tensor
    texture_layers: tuple[Layer, ...]
    color_out: nn.Module

    def density(
        self, points: Float[Tensor, "point 3"]
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point width"]]:
        """Density, and what `color` needs to go on from there."""
        encoded = blocked_encoding(points, self.config.point_octaves)
        y = functional.linear(encoded, *self.point_in).relu_()
        for layer in self.shape_layers:
            y = functional.linear(y, *layer).relu_()
        return functional.softplus(
            functional.linear(y, *self.density_out)[..., 0].float()
        ), y

    def view(self, directions: Float[Tensor, "ray 3"]) -> Float[Tensor, "ray width"]:
        """What a ray's (unit) direction adds; the same for all of its samples."""
        encoded = blocked_encoding(directions, self.config.direction_octaves)
        return functional.linear(encoded, self.direction_in)

    def color(
        self, hidden: Float[Tensor, "point width"], view: Float[Tensor, "point width"]
    ) -> Float[Tensor, "point 3"]:
        """Linear colours, given what `density` and `view` returned."""
        y = functional.linear(hidden, *self.view_in).add(view).relu_()
        for layer in self.texture_layers:
            y = functional.linear(y, *layer).relu_()
        return self.color_out(y).float()


def _linears(count: int, in_width: int, out_width: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(in_width, out_width) for _ in range(count))


def _folded(
    code_in: nn.ModuleList, layers: nn.ModuleList, code: Tensor
) -> tuple[Layer, ...]:
    """Layers whose codes are part of their biases: W (y + z) + b = W y + (W z + b)."""
    folded = []
    for z, layer in zip(code_in, layers, strict=True):
        assert isinstance(layer, nn.Linear)
        folded.append((layer.weight, layer(functional.relu(z(code)))))
    return tuple(folded)
