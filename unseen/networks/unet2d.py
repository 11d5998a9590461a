"""A small 2D U-Net with FiLM time conditioning and attention at low resolution."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class UNet2dConfig:
    """Widths and depths of the U-Net."""

    channels: tuple[int, ...] = (48, 96, 192)
    """Channels at each resolution, finest first; each next one is half as large."""

    num_blocks: int = 2
    """Residual blocks per resolution, on the way down and on the way up."""

    attention: tuple[bool, ...] = (False, False, True)
    """Whether self-attention follows each block, per resolution."""

    embedding: int = 192
    """Size of the conditioning vector."""

    num_groups: int = 8
    """Groups of the normalisation layers."""


def sinusoidal_embedding(
    t: Float[Tensor, "batch"], size: int, max_frequency: float = 1000.0
) -> Float[Tensor, "batch {size}"]:
    """Sines and cosines of t in [0, 1] at frequencies from 1 to `max_frequency`."""
    steps = torch.arange(size // 2, device=t.device) / max(size // 2 - 1, 1)
    angles = t[:, None] * torch.exp(steps * math.log(max_frequency))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, FiLM, norm, SiLU, convolution; zero at the start."""

    def __init__(
        self, channels_in: int, channels_out: int, embedding: int, groups: int
    ) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels_out)
        self.norm_2 = nn.GroupNorm(groups, channels_out)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        embedding: Float[Tensor, "batch embedding"],
    ) -> Float[Tensor, "batch channel_out height width"]:
        h = self.conv_1(functional.silu(self.norm_1(x)))
        scale, shift = self.film(embedding)[..., None, None].chunk(2, dim=1)
        h = self.norm_2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv_2(functional.silu(h))


class AttentionBlock(nn.Module):
    """Pre-norm self-attention over all pixels, with a residual connection.

    With `group`, as many neighbouring entries of the batch are views of one thing, and
    each pixel attends to those of all of them (MVDream, Shi et al. 2023, section 3.1).
    """

    def __init__(self, channels: int, groups: int, head_size: int = 32) -> None:
        super().__init__()
        self.num_heads = max(channels // head_size, 1)
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "batch channel height width"], group: int = 1
    ) -> Float[Tensor, "batch channel height width"]:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.num_heads, -1, h * w)
        q, k, v = (_join_views(x, group) for x in qkv.transpose(-1, -2).unbind(dim=1))
        attended = functional.scaled_dot_product_attention(q, k, v)
        attended = _split_views(attended, group).transpose(-1, -2)
        return x + self.out(attended.reshape(b, c, h, w))


def _join_views(
    x: Float[Tensor, "batch head token channel"], group: int
) -> Float[Tensor, "_ head _ channel"]:
    """The tokens of `group` neighbouring entries as those of one."""
    if group == 1:
        return x
    return x.unflatten(0, (-1, group)).transpose(1, 2).flatten(2, 3)


def _split_views(
    x: Float[Tensor, "_ head _ channel"], group: int
) -> Float[Tensor, "batch head token channel"]:
    """The inverse of `_join_views`."""
    if group == 1:
        return x
    return x.unflatten(2, (group, -1)).transpose(1, 2).flatten(0, 1)


class UNet2d(nn.Module):
    """Maps an image to features of the same size, given a conditioning vector.

    The image's sides must be divisible by 2 ** (len(channels) - 1).
    """

    def __init__(self, config: UNet2dConfig, channels_in: int) -> None:
        super().__init__()
        levels, c = config.channels, config
        self.stem = nn.Conv2d(channels_in, levels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips = [levels[0]]
        for i, width in enumerate(levels):
            for _ in range(c.num_blocks):
                self.down.append(self._stage(skips[-1], width, c, c.attention[i]))
                skips.append(width)
            if i < len(levels) - 1:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
        self.middle = self._stage(levels[-1], levels[-1], c, c.attention[-1])
        width_in = levels[-1]
        for i, width in reversed(list(enumerate(levels))):
            for _ in range(c.num_blocks + 1):
                stage = self._stage(width_in + skips.pop(), width, c, c.attention[i])
                self.up.append(stage)
                width_in = width
            if i > 0:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(c.num_groups, levels[0])

    @staticmethod
    def _stage(
        channels_in: int, channels_out: int, config: UNet2dConfig, attend: bool
    ) -> nn.ModuleList:
        block = ResidualBlock(
            channels_in, channels_out, config.embedding, config.num_groups
        )
        attention = [AttentionBlock(channels_out, config.num_groups)] if attend else []
        return nn.ModuleList([block, *attention])

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        embedding: Float[Tensor, "batch embedding"],
        group: int = 1,
    ) -> tuple[
        Float[Tensor, "batch feature height width"],
        Float[Tensor, "batch bottleneck"],
    ]:
        """Returns the features, and the mean over pixels of the bottleneck.

        `group` neighbouring entries of the batch see each other: `AttentionBlock`.
        """

        def apply(stage: nn.Module, h: Tensor) -> Tensor:
            if not isinstance(stage, nn.ModuleList):
                return stage(h)
            h = stage[0](h, embedding)
            return stage[1](h, group) if len(stage) > 1 else h

        h = self.stem(x)
        skips = [h]
        for stage in self.down:
            h = apply(stage, h)
            skips.append(h)
        h = apply(self.middle, h)
        bottleneck = h.mean(dim=(-1, -2))
        for stage in self.up:
            if isinstance(stage, nn.ModuleList):
                h = apply(stage, torch.cat([h, skips.pop()], dim=1))
            else:
                h = stage(functional.interpolate(h, scale_factor=2.0))
        return functional.silu(self.norm(h)), bottleneck
