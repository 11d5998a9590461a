"""DDPM++, the U-Net of EDM (Song et al. 2021; Karras et al. 2022, table 7).

Residual blocks to which the noise level's embedding is added, attention at few
resolutions, and every sum of two branches divided by sqrt(2).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import sinusoidal_embedding

Resample = Literal["none", "down", "up"]


@dataclasses.dataclass(frozen=True)
class DDPMPlusPlusConfig:
    """The default is for images of 128 x 128 pixels."""

    channels: int = 128
    """Channels at the finest resolution."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 2)
    """Channels of each resolution, finest first, as multiples."""
    num_blocks: int = 4
    """Residual blocks per resolution on the way down; one more on the way up."""
    attention: tuple[bool, ...] = (False, False, False, True, False)
    """Resolutions with attention: after every block on the way down, after the last
    one on the way up. There always is one in the middle."""
    embedding: int = 512
    """Size of the noise level's embedding."""
    dropout: float = 0.0
    """Share of the activations that training drops in every block."""
    input_residual: bool = False
    """Whether the input, convolved and averaged, is added at every resolution: in EDM's
    code "residual" in place of "standard". The public port of GeNVS trained that."""


class DDPMPlusPlus(nn.Module):
    """Images and noise levels to images.

    Sides must be divisible by 2 ** (number of resolutions - 1). At first the output is
    (nearly) zero.
    """

    def __init__(self, config: DDPMPlusPlusConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = c = config
        self.embed_1 = nn.Linear(c.channels, c.embedding)
        self.embed_2 = nn.Linear(c.embedding, c.embedding)
        self.stem = nn.Conv2d(inputs, c.channels, 3, padding=1)
        self.down, self.residual = nn.ModuleList(), nn.ModuleList()
        width, skips, seen = c.channels, [c.channels], inputs
        for level, multiplier in enumerate(c.multipliers):
            if level > 0:
                self.down.append(self._block(width, width, "down"))
                skips.append(width)
                if c.input_residual:
                    self.residual.append(nn.Conv2d(seen, width, 3, padding=1))
                    seen = width
            for _ in range(c.num_blocks):
                outer = c.channels * multiplier
                block = self._block(width, outer, attend=c.attention[level])
                self.down.append(block)
                width = outer
                skips.append(width)
        self.middle = nn.ModuleList(
            [self._block(width, width, attend=True), self._block(width, width)]
        )
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(c.multipliers))):
            for index in range(c.num_blocks + 1):
                outer = c.channels * multiplier
                attend = index == c.num_blocks and c.attention[level]
                self.up.append(self._block(width + skips.pop(), outer, attend=attend))
                width = outer
            if level > 0:
                self.up.append(self._block(width, width, "up"))
        self.norm = normalisation(width)
        self.head = nearly_zero(nn.Conv2d(width, outputs, 3, padding=1))

    def _block(
        self,
        inputs: int,
        outputs: int,
        resample: Resample = "none",
        attend: bool = False,
    ) -> ResidualBlock:
        c = self.config
        return ResidualBlock(inputs, outputs, c.embedding, resample, attend, c.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        noise_level: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch outputs height width"]:
        """`noise_level` says how noisy x is, as a number: EDM's is ln(sigma) / 4."""
        embedding = sinusoidal_embedding(noise_level, self.config.channels)
        embedding = functional.silu(self.embed_1(embedding))
        embedding = functional.silu(self.embed_2(embedding))
        seen, h = x, self.stem(x)
        residuals = iter(self.residual)
        skips = [h]
        for block in self.down:
            h = block(h, embedding)
            if block.resample == "down" and self.config.input_residual:
                # Averaged after the convolution.
                seen = functional.avg_pool2d(next(residuals)(seen), 2)
                h = seen = (h + seen) / math.sqrt(2)
            skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for block in self.up:
            if block.resample == "none":
                h = torch.cat([h, skips.pop()], dim=1)
            h = block(h, embedding)
        return self.head(functional.silu(self.norm(h)))


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, embedding, norm, SiLU, convolution; then attention."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        resample: Resample,
        attend: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_1 = normalisation(inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Linear(embedding, outputs)
        self.norm_2 = normalisation(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = nearly_zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        changed = inputs != outputs or resample != "none"
        self.skip = nn.Conv2d(inputs, outputs, 1) if changed else nn.Identity()
        self.attention = Attention(outputs) if attend else nn.Identity()

    def _resized(self, x: Float[Tensor, "batch channel height width"]) -> Tensor:
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        if self.resample == "up":
            return functional.interpolate(x, scale_factor=2.0)
        return x

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        embedding: Float[Tensor, "batch embedding"],
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        h = self.conv_1(self._resized(functional.silu(self.norm_1(x))))
        h = h + self.embed(embedding)[:, :, None, None]
        h = self.conv_2(self.dropout(functional.silu(self.norm_2(h))))
        return self.attention((h + self.skip(self._resized(x))) / math.sqrt(2))


class Attention(nn.Module):
    """Self-attention over all pixels with one head, and its residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalisation(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nearly_zero(nn.Conv2d(channels, channels, 1))

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        attended = functional.scaled_dot_product_attention(q, k, v)
        attended = attended.transpose(1, 2).unflatten(-1, x.shape[2:])
        return (x + self.out(attended)) / math.sqrt(2)


def normalisation(channels: int) -> nn.GroupNorm:
    """Groups of four channels and more, at most 32 of them."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)


def nearly_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights of almost nothing, so that its branch starts as zero."""
    with torch.no_grad():
        layer.weight.mul_(1e-5)
        assert layer.bias is not None
        layer.bias.zero_()
    return layer
