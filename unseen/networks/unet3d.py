"""The 3D U-Net that denoises volumes, for HoloDiffusion and DiffRF.

It is the U-Net of Dhariwal & Nichol 2021 ("Diffusion Models Beat GANs on Image
Synthesis", appendix A) with convolutions, and changes of resolution, in all three axes.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import sinusoidal_embedding


@dataclasses.dataclass(frozen=True)
class UNet3dConfig:
    """Widths and depths; the defaults are those of HoloDiffusion's settings.

    Raises:
        ValueError: lists of different lengths, or channels that cannot be divided.
    """

    channels: int = 64
    """Channels at the finest resolution."""

    multipliers: tuple[int, ...] = (1, 1, 2, 4, 8)
    """Channels per resolution in units of `channels`, finest first; each next
    resolution is half as large along every axis."""

    num_blocks: int = 2
    """Residual blocks per resolution on the way down; there is one more on the way
    up."""

    attention: tuple[bool, ...] = (False, False, True, True, False)
    """Whether attention follows each block, per resolution; the middle has it."""

    heads: int = 2
    """Heads of the attention layers."""

    num_groups: int = 32
    """Groups of the normalisation layers."""

    dropout: float = 0.0
    """Dropout before each block's last convolution."""

    patch: int = 1
    """Cubes of so many voxels a side enter, and leave, as the channels of one: the
    network then works on a coarser grid, which is what a processor can afford."""

    zero_start: bool = False
    """Whether residual branches and the output are zero at first, as an estimate of
    noise should be. Without, all weights are Xavier's and biases zero (HoloDiffusion):
    what comes out is rendered, and must be something."""

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError("`attention` needs one entry per entry of `multipliers`")
        if self.channels % self.num_groups or self.channels % self.heads:
            raise ValueError(
                f"{self.channels} channels cannot be divided into {self.num_groups} "
                f"groups and {self.heads} heads"
            )
        if self.channels % 2 or self.patch < 1:
            raise ValueError("`channels` must be even, and `patch` at least 1")

    @property
    def widths(self) -> list[int]:
        """Channels per resolution."""
        return [self.channels * factor for factor in self.multipliers]

    def check(self, resolution: int) -> None:
        """Raise ValueError if a grid of this many voxels a side cannot be halved."""
        factor = self.patch * 2 ** (len(self.multipliers) - 1)
        if resolution % factor:
            raise ValueError(
                f"a grid of {resolution} voxels a side does not suit a network that "
                f"reduces it {factor}-fold: choose a multiple of {factor}, or fewer "
                "`multipliers`"
            )


class ResidualBlock3d(nn.Module):
    """Norm, SiLU, convolution, norm, FiLM, SiLU, convolution, and a shortcut."""

    def __init__(
        self, config: UNet3dConfig, channels_in: int, channels_out: int
    ) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(config.num_groups, channels_in)
        self.conv_1 = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(4 * config.channels, 2 * channels_out)
        self.norm_2 = nn.GroupNorm(config.num_groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_2 = nn.Conv3d(channels_out, channels_out, 3, padding=1)
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv3d(channels_in, channels_out, 1)
        )

    def forward(
        self,
        x: Float[Tensor, "batch channel depth height width"],
        embedding: Float[Tensor, "batch embedding"],
    ) -> Float[Tensor, "batch channel_out depth height width"]:
        h = self.conv_1(functional.silu(self.norm_1(x)))
        film = self.film(functional.silu(embedding))[..., None, None, None]
        scale, shift = film.chunk(2, dim=1)
        h = functional.silu(self.norm_2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv_2(self.dropout(h))


class VoxelAttention(nn.Module):
    """Every voxel attends to all voxels; pre-norm, with a residual connection."""

    def __init__(self, config: UNet3dConfig, channels: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.GroupNorm(config.num_groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(
        self, x: Float[Tensor, "batch channel depth height width"]
    ) -> Float[Tensor, "batch channel depth height width"]:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        # Heads lie outermost among the channels, then query, key and value.
        heads = self.qkv(tokens).unflatten(-1, (self.heads, 3, -1))
        query, key, value = heads.permute(3, 0, 2, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = self.out(attended.transpose(1, 2).flatten(2))
        return x + attended.transpose(1, 2).reshape(x.shape)


class UNetStage(nn.Module):
    """A residual block, and attention where there is any."""

    def __init__(
        self, config: UNet3dConfig, channels_in: int, channels_out: int, attend: bool
    ) -> None:
        super().__init__()
        self.block = ResidualBlock3d(config, channels_in, channels_out)
        self.attention = VoxelAttention(config, channels_out) if attend else None

    def forward(
        self,
        x: Float[Tensor, "batch channel depth height width"],
        embedding: Float[Tensor, "batch embedding"],
    ) -> Float[Tensor, "batch channel_out depth height width"]:
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x)


class UNet3d(nn.Module):
    """Maps a volume and its noise level to a volume of the same shape.

    `check` of its configuration says which sizes it takes.
    """

    def __init__(self, config: UNet3dConfig, channels: int) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        embedding, inner = 4 * config.channels, channels * config.patch**3
        self.time = nn.Sequential(
            nn.Linear(config.channels, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
        )
        self.stem = nn.Conv3d(inner, widths[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]
        for level, width in enumerate(widths):
            stages = nn.ModuleList()
            for _ in range(config.num_blocks):
                attend = config.attention[level]
                stages.append(UNetStage(config, skips[-1], width, attend))
                skips.append(width)
            self.down.append(stages)
            if level < len(widths) - 1:
                self.downsample.append(nn.Conv3d(width, width, 3, 2, 1))
                skips.append(width)
        self.middle_1 = UNetStage(config, widths[-1], widths[-1], True)
        self.middle_2 = UNetStage(config, widths[-1], widths[-1], False)
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        width_in = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            stages = nn.ModuleList()
            for _ in range(config.num_blocks + 1):
                joined, attend = width_in + skips.pop(), config.attention[level]
                stages.append(UNetStage(config, joined, width, attend))
                width_in = width
            # Index 0 is the finest resolution, as on the way down.
            self.up.insert(0, stages)
            if level > 0:
                self.upsample.insert(0, nn.Conv3d(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(config.num_groups, widths[0])
        self.head = nn.Conv3d(widths[0], inner, 3, padding=1)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        blocks = [m for m in self.modules() if isinstance(m, ResidualBlock3d)]
        attentions = [m for m in self.modules() if isinstance(m, VoxelAttention)]
        zero = [attention.out.weight for attention in attentions]
        if self.config.zero_start:
            zero += [block.conv_2.weight for block in blocks] + [self.head.weight]
        for weight in zero:
            nn.init.zeros_(weight)

    def forward(
        self,
        x: Float[Tensor, "batch channel depth height width"],
        steps: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channel depth height width"]:
        """`steps` are noise levels in steps of the diffusion, 0 to 999, say."""
        p, channels = self.config.patch, self.config.channels
        embedding = self.time(
            sinusoidal_embedding(steps, channels, cosine_first=True, endpoint=False)
        )
        h = rearrange(x, "b c (d i) (h j) (w k) -> b (c i j k) d h w", i=p, j=p, k=p)
        h = self.stem(h)
        skips = [h]
        for level, stages in enumerate(self.down):
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(h, embedding)
                skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
                skips.append(h)
        h = self.middle_2(self.middle_1(h, embedding), embedding)
        for level, stages in reversed(list(enumerate(self.up))):
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
            if level > 0:
                h = functional.interpolate(h, scale_factor=2.0)
                h = self.upsample[level - 1](h)
        h = self.head(functional.silu(self.norm(h)))
        return rearrange(h, "b (c i j k) d h w -> b c (d i) (h j) (w k)", i=p, j=p, k=p)
