"""The image encoder of pixelNeRF: features of a ResNet-34 at four scales, as one map.

The trunk is that of He et al. (2016), with the tensor names that torchvision gives it,
so that weights from elsewhere fit. The pyramid is pixelNeRF's (Yu et al., 2021): what
the first four stages say is resized to the first one's size and stacked.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """The default is the trunk of ResNet-34 up to its third stage: 512 features."""

    width: int = 64
    """Channels of the first stage; later ones double it."""
    blocks: tuple[int, ...] = (3, 4, 6)
    """Residual blocks of each stage after the stem."""
    first_pool: bool = True
    """Whether the stem is pooled before the first stage. The authors leave it out for
    images of 64x64 pixels, whose features would become too coarse."""

    @property
    def features(self) -> int:
        """Channels of the pyramid."""
        return self.width + sum(self.width * 2**i for i in range(len(self.blocks)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2016).

    GeNVS leaves the normalisation out (`norm`) and spreads the taps of its last stage
    (`dilation`) where others halve the size.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        norm: bool = True,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        make_norm = nn.BatchNorm2d if norm else nn.Identity
        taps = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, **taps)
        self.bn1 = make_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, **taps)
        self.bn2 = make_norm(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), make_norm(outputs)
            )

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch outputs half_height half_width"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


def residual_stage(
    inputs: int, outputs: int, count: int, stride: int, **block: Any
) -> nn.Sequential:
    """`count` blocks, of which the first changes width and size; see `BasicBlock`."""
    first = BasicBlock(inputs, outputs, stride, **block)
    rest = (BasicBlock(outputs, outputs, 1, **block) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


class ResNetPyramid(nn.Module):
    """Images in [-1, 1] to one map of features at half their size."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for index, count in enumerate(config.blocks):
            outputs, stride = width * 2**index, 1 if index == 0 else 2
            stage = residual_stage(inputs, outputs, count, stride)
            self.add_module(f"layer{index + 1}", stage)
            inputs = outputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def scales(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _ _ _"]]:
        """Features of the stem (before any pooling) and of every stage."""
        x = functional.relu(self.bn1(self.conv1(images)))
        scales = [x]
        if self.config.first_pool:
            x = functional.max_pool2d(x, 3, 2, 1)
        for index in range(len(self.config.blocks)):
            x = self.get_submodule(f"layer{index + 1}")(x)
            scales.append(x)
        return scales

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch feature map_height map_width"]:
        scales = self.scales(images)
        size = scales[0].shape[-2:]
        resized = [
            functional.interpolate(scale, size, mode="bilinear", align_corners=True)
            for scale in scales
        ]
        return torch.cat(resized, dim=1)
