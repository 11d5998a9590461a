"""A U-Net whose output is three feature planes: images to triplanes.

The network of the public implementation of RenderDiffusion in Viewset Diffusion
(Szymanowicz et al. 2023, "Viewset Diffusion: (0-)Image-Conditioned 3D Generative Models
from 2D Data", arXiv 2306.07881), which is that of a widely used port of DDPM to
PyTorch: post-norm residual blocks, attention that is linear in the number of pixels.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import sinusoidal_embedding


@dataclasses.dataclass(frozen=True)
class TriplaneUNetConfig:
    """Sizes of the U-Net; the defaults are those of the public implementation."""

    channels: int = 32
    """Channels of the stem, and a quarter of the width of the time embedding."""

    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    """Channels below each level, in those of the stem; each next level is half as
    large."""

    num_blocks: int = 2
    """Residual blocks per level, on the way down and on the way up."""

    attention: tuple[bool, ...] = (False, False, False, True)
    """Whether attention follows the blocks of each level on the way down. It does in
    the middle and at every level on the way up."""

    plane_channels: int = 32
    """Features of each of the three planes."""

    heads: int = 4
    head_size: int = 32
    """Of the attention."""

    num_groups: int = 8
    """Groups of the normalisation layers."""

    patch: int = 1
    """Pixels per side of the squares that make one place of the network, which is as
    much cheaper; images and planes keep their size."""

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"give one entry of attention for each of the levels "
                f"{self.multipliers}, not {self.attention}"
            )


class NormalizedConvolution(nn.Module):
    """Convolution of 3 pixels, group norm, optional FiLM, SiLU."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        film: Float[Tensor, "batch scale_and_shift"] | None = None,
    ) -> Float[Tensor, "batch channel_out height width"]:
        x = self.norm(self.conv(x))
        if film is not None:
            scale, shift = film[..., None, None].chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return functional.silu(x)


class PostNormBlock(nn.Module):
    """Two normalised convolutions beside a skip; time enters the first one."""

    def __init__(self, inputs: int, outputs: int, time: int, groups: int) -> None:
        super().__init__()
        self.film = nn.Linear(time, 2 * outputs)
        self.block_1 = NormalizedConvolution(inputs, outputs, groups)
        self.block_2 = NormalizedConvolution(outputs, outputs, groups)
        same = inputs == outputs
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        time: Float[Tensor, "batch time"],
    ) -> Float[Tensor, "batch channel_out height width"]:
        h = self.block_1(x, self.film(functional.silu(time)))
        return self.block_2(h) + self.skip(x)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, with a gain and no shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        gain = self.gain[:, None, None]
        return (x - mean) * torch.rsqrt(variance + 1e-5) * gain


class LinearAttention(nn.Module):
    """Attention whose cost is linear in pixels, with norms around it and a skip.

    Queries are normalised over features and keys over pixels (Shen et al. 2021,
    "Efficient Attention: Attention with Linear Complexities").
    """

    def __init__(self, channels: int, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads = heads
        width = heads * head_size
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, channels, 1)
        self.out_norm = ChannelNorm(channels)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        batch, _, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
        q, k, v = qkv.unbind(dim=1)
        q = q.softmax(dim=-2) * q.shape[-2] ** -0.5
        k, v = k.softmax(dim=-1), v / (height * width)
        found = (v @ k.transpose(-1, -2)) @ q
        found = found.reshape(batch, -1, height, width)
        return x + self.out_norm(self.out(found))


class TriplaneUNet(nn.Module):
    """Maps an image and a time to three planes of features of the image's size.

    The image's sides must be divisible by patch * 2 ** (levels - 1).
    """

    def __init__(self, config: TriplaneUNetConfig, channels_in: int) -> None:
        super().__init__()
        c = self.config = config
        time, squared = 4 * c.channels, c.patch**2
        widths = [c.channels, *(c.channels * m for m in c.multipliers)]

        def block(inputs: int, outputs: int) -> PostNormBlock:
            return PostNormBlock(inputs, outputs, time, c.num_groups)

        def attend(channels: int) -> LinearAttention:
            return LinearAttention(channels, c.heads, c.head_size)

        self.stem = nn.Conv2d(channels_in * squared, c.channels, 7, padding=3)
        self.time = nn.Sequential(
            nn.Linear(c.channels, time), nn.GELU(), nn.Linear(time, time)
        )
        self.down, self.down_attention = nn.ModuleList(), nn.ModuleList()
        self.up, self.up_attention = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        last = len(c.multipliers) - 1
        for level, (upper, lower) in enumerate(itertools.pairwise(widths)):
            blocks = (block(upper, upper) for _ in range(c.num_blocks))
            self.down.append(nn.ModuleList(blocks))
            there = c.attention[level]
            self.down_attention.append(attend(upper) if there else nn.Identity())
            self.shrink.append(
                nn.Conv2d(upper, lower, 3, padding=1)
                if level == last
                else nn.Conv2d(4 * upper, lower, 1)
            )
            # The way up, from the coarsest level, mirrors this one.
            blocks = (block(lower + upper, lower) for _ in range(c.num_blocks))
            self.up.insert(0, nn.ModuleList(blocks))
            self.up_attention.insert(0, attend(lower))
            self.grow.insert(0, nn.Conv2d(lower, upper, 3, padding=1))
        self.middle = nn.ModuleList(block(widths[-1], widths[-1]) for _ in range(2))
        self.middle_attention = attend(widths[-1])
        self.head = block(2 * c.channels, 3 * c.plane_channels * squared)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        step: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch plane=3 feature height width"]:
        """Planes of images; `step` is the time in diffusion steps, 0 to 999."""
        c = self.config
        time = self.time(sinusoidal_embedding(step, c.channels))
        h = stem = self.stem(functional.pixel_unshuffle(x, c.patch))
        skips: list[Tensor] = []
        last = len(c.multipliers) - 1
        for level in range(last + 1):
            for index, block in enumerate(self.down[level]):  # type: ignore[arg-type]
                h = block(h, time)
                if index == c.num_blocks - 1:
                    h = self.down_attention[level](h)
                skips.append(h)
            if level < last:
                h = functional.pixel_unshuffle(h, 2)
            h = self.shrink[level](h)
        h = self.middle[0](h, time)
        h = self.middle[1](self.middle_attention(h), time)
        for level in range(last + 1):
            for block in self.up[level]:  # type: ignore[union-attr]
                h = block(torch.cat([h, skips.pop()], dim=1), time)
            h = self.up_attention[level](h)
            if level < last:
                h = functional.interpolate(h, scale_factor=2.0)
            h = self.grow[level](h)
        planes = self.head(torch.cat([h, stem], dim=1), time)
        planes = functional.pixel_shuffle(planes, c.patch)
        return planes.unflatten(1, (3, c.plane_channels))
