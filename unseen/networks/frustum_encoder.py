"""GeNVS's image encoder: an image to a volume of features in its camera's frustum.

DeepLabV3+ (Chen et al. 2018) on a ResNet-34, without normalisation and dropout, and
with a learned way up to full resolution whose channels are cut into depth slices (Chan
et al. 2023, "Generative Novel View Synthesis with 3D-Aware Diffusion Models"). The
convolutions on the way up are the public port's: the paper only names the parts.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.resnet34 import BasicBlock, residual_stage


@dataclasses.dataclass(frozen=True)
class FrustumEncoderConfig:
    """The default is 16 features in 64 slices, from a ResNet-34."""

    width: int = 64
    """Channels of the trunk's first stage; later ones double it."""
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Residual blocks of each of the trunk's stages."""
    decoder: int = 256
    """Channels on the way up."""
    fine: int = 48
    """Channels that the trunk's first stage is reduced to where it is joined again."""
    rates: tuple[int, ...] = (12, 24, 36)
    """How far apart the taps of the parallel convolutions are, at a sixteenth of the
    image's size."""
    convolutions: int = 3
    """Convolutions at every resolution on the way up."""
    features: int = 16
    """Channels of the volume."""
    slices: int = 64
    """Depth slices of the volume, equally spaced from near to far."""
    positive: bool = False
    """Whether the volume is cut off below zero, as the public port does."""


class FrustumEncoder(nn.Module):
    """Images in [-1, 1] to volumes; their sides must be divisible by 16."""

    def __init__(self, config: FrustumEncoderConfig) -> None:
        super().__init__()
        self.config = c = config
        widths = [c.width * 2**i for i in range(4)]
        self.conv1 = nn.Conv2d(3, c.width, 7, 2, 3, bias=False)
        inputs = c.width
        for index, (outputs, count) in enumerate(zip(widths, c.blocks, strict=True)):
            # The last stage keeps the size, and looks as far as if it did not.
            stride, dilation = (2, 1) if index in (1, 2) else (1, 1 + index // 3)
            stage = residual_stage(
                inputs, outputs, count, stride, norm=False, dilation=dilation
            )
            self.add_module(f"layer{index + 1}", stage)
            inputs = outputs
        self.context = ParallelConvolutions(widths[3], c.decoder, c.rates)
        self.smooth = separable(c.decoder, c.decoder)
        self.join_16 = self._stage(widths[2] + widths[3])
        self.up_8, self.join_8 = self._up(), self._stage(widths[1])
        self.up_4, self.join_4 = self._up(), self._stage(widths[0])
        self.fine = nn.Conv2d(widths[0], c.fine, 1, bias=False)
        self.fuse = separable(c.decoder + c.fine, c.decoder)
        self.up_2, self.join_2 = self._up(), self._stage(c.width)
        self.up_1, self.join_1 = self._up(), self._stage(3)
        self.head = nn.Conv2d(c.decoder, c.slices * c.features, 1)
        self._initialise()

    def _stage(self, joined: int) -> nn.Sequential:
        """Convolutions of what comes from below and `joined` channels of the trunk."""
        c, layers = self.config, []
        for index in range(c.convolutions):
            inputs = c.decoder + (joined if index == 0 else 0)
            layers += [nn.Conv2d(inputs, c.decoder, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers)

    def _up(self) -> nn.Sequential:
        channels = self.config.decoder
        return nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, 2), nn.ReLU())

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # Without normalisation each block would double the variance: at first the
        # blocks are their shortcuts (Zhang et al. 2019, "Fixup").
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.conv2.weight)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch height width slice feature"]:
        half = functional.relu(self.conv1(images))
        scales = [functional.max_pool2d(half, 3, 2, 1)]
        for index in range(4):
            scales.append(self.get_submodule(f"layer{index + 1}")(scales[-1]))
        _, quarter, eighth, sixteenth, last = scales
        x = functional.relu(self.smooth(self.context(last)))
        x = self.join_16(torch.cat([sixteenth, last, x], dim=1))
        x = self.join_8(torch.cat([eighth, self.up_8(x)], dim=1))
        x = self.join_4(torch.cat([quarter, self.up_4(x)], dim=1))
        fine = functional.relu(self.fine(quarter))
        x = functional.relu(self.fuse(torch.cat([x, fine], dim=1)))
        x = self.join_2(torch.cat([half, self.up_2(x)], dim=1))
        x = self.join_1(torch.cat([images, self.up_1(x)], dim=1))
        x = self.head(x)
        if self.config.positive:
            x = functional.relu(x)
        shape = (self.config.slices, self.config.features)
        # Channel-last in memory: a look-up then reads whole rows.
        return x.permute(0, 2, 3, 1).contiguous().unflatten(-1, shape)


class ParallelConvolutions(nn.Module):
    """Atrous spatial pyramid pooling: dilated convolutions side by side, and a mean."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.point = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.wide = nn.ModuleList(separable(inputs, outputs, rate) for rate in rates)
        self.mean = nn.Conv2d(inputs, outputs, 1, bias=False)
        joined = outputs * (2 + len(rates))
        self.project = nn.Conv2d(joined, outputs, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch outputs height width"]:
        mean = self.mean(x.mean(dim=(2, 3), keepdim=True))
        parts = [self.point(x), *(wide(x) for wide in self.wide)]
        parts.append(mean.expand_as(parts[0]))
        return functional.relu(self.project(functional.relu(torch.cat(parts, dim=1))))


def separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then one that mixes channels."""
    depthwise = nn.Conv2d(
        inputs, inputs, 3, 1, dilation, dilation, groups=inputs, bias=False
    )
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1, bias=False))
