"""The residual MLP of pixelNeRF and of VisionNeRF.

A point is seen from several views; each contributes what it knows of the point's place
and the image feature where the point projects. Features enter through linear maps of
their own, before the first blocks. The first blocks treat views by themselves; then
views are averaged (pixelNeRF; Yu et al., 2021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class AlignedMLPConfig:
    """The default is pixelNeRF's."""

    place: int = 42
    """Numbers that say where a point is and where it is seen from."""
    features: int = 512
    """Channels of the image features."""
    width: int = 512
    blocks: int = 5
    injections: int = 3
    """The first blocks, so many, are told the image feature."""
    view_blocks: int = 3
    """Blocks before the mean over views."""
    rectified_shortcut: bool = False
    """Whether a block's shortcut passes on relu(x) instead of x: the code of VisionNeRF
    rectifies in place, so its weights need this."""

    def __post_init__(self) -> None:
        if not 1 <= self.injections <= self.view_blocks <= self.blocks:
            raise ValueError(
                "features enter before views are averaged: injections "
                f"({self.injections}) <= view_blocks ({self.view_blocks}) <= blocks "
                f"({self.blocks})"
            )


class ResidualBlock(nn.Module):
    """x + fc_1(relu(fc_0(relu(x)))); the identity at first.

    With `rectified_shortcut` relu(x) takes the place of the first x.
    """

    def __init__(self, width: int, rectified_shortcut: bool) -> None:
        super().__init__()
        self.rectified_shortcut = rectified_shortcut
        self.fc_0 = nn.Linear(width, width)
        self.fc_1 = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.fc_0.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc_0.bias)
        nn.init.zeros_(self.fc_1.weight)
        nn.init.zeros_(self.fc_1.bias)

    def forward(
        self, x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        rectified = functional.relu(x)
        shortcut = rectified if self.rectified_shortcut else x
        return shortcut + self.fc_1(functional.relu(self.fc_0(rectified)))


class AlignedMLP(nn.Module):
    """(place in every view, image feature of every view) -> colour and density.

    The maps of the features are linear and have no biases (those are part of
    `point_in` and of the blocks before). So they commute with bilinear interpolation,
    whatever is outside of the image, and can be applied once to a feature map
    (`project_features`) instead of at every sample.
    """

    def __init__(self, config: AlignedMLPConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.point_in = nn.Linear(config.place, width)
        self.feature_in = nn.ModuleList(
            nn.Linear(config.features, width, bias=False)
            for _ in range(config.injections)
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(width, config.rectified_shortcut)
            for _ in range(config.blocks)
        )
        self.out = nn.Linear(width, 4)
        for layer in (self.point_in, *self.feature_in, self.out):
            weight = layer.get_parameter("weight")
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        nn.init.zeros_(self.point_in.bias)
        nn.init.zeros_(self.out.bias)

    def project_features(
        self, maps: Float[Tensor, "*batch feature height width"]
    ) -> Float[Tensor, "*batch hidden height width"]:
        """What all `injections` blocks are told, for whole maps (channel-last)."""
        weight = torch.cat([x.get_parameter("weight") for x in self.feature_in])
        return functional.linear(maps.movedim(-3, -1), weight).movedim(-1, -3)

    def decode(
        self,
        place: Float[Tensor, "*batch view point place"],
        told: Sequence[Float[Tensor, "*batch view point width"]],
    ) -> Float[Tensor, "*batch point 4"]:
        """Colour logits (3) and density before its activation.

        `told` is what each of the first blocks is told: features that have been
        through its linear map.
        """
        x = self.point_in(place)
        for index, block in enumerate(self.blocks):
            if index < len(told):
                x = x + told[index]
            if index == self.config.view_blocks:
                x = x.mean(dim=-3)
            x = block(x)
        if self.config.view_blocks == self.config.blocks:
            x = x.mean(dim=-3)
        return self.out(functional.relu(x))

    def forward(
        self,
        place: Float[Tensor, "*batch view point place"],
        features: Float[Tensor, "*batch view point feature"],
    ) -> Float[Tensor, "*batch point 4"]:
        """The plain evaluation, from features as they are."""
        return self.decode(place, [layer(features) for layer in self.feature_in])
