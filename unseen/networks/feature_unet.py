"""A diffusion U-Net over latents that is told a map of features of the same size.

The network of SparseFusion's view-conditioned latent diffusion (Zhou & Tulsiani 2023):
Imagen's U-Net (Saharia et al. 2022) without text. The map is stacked on the input, and
an empty map (zeros) stands for none.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.networks.feature_unet_blocks import (
    Attention,
    ContextAttention,
    ResidualBlock,
    TransformerBlock,
    Upsample,
    over_pixels,
)

STEM_KERNELS = (3, 7, 15)
"""Sides of the first layer's convolutions, of which each wider one has half as many
channels (the last one the rest)."""


@dataclasses.dataclass(frozen=True)
class FeatureUNetConfig:
    """Widths and depths; the defaults are the authors'."""

    channels: int = 256
    """Channels at full resolution."""

    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Factors on `channels` per resolution, finest first; each next one is half as
    large."""

    num_blocks: int = 2
    """Gated residual blocks per resolution, after one that is not gated."""

    attention: tuple[bool, ...] = (False, False, False, True)
    """Whether attention over all pixels follows, per resolution."""

    heads: int = 8
    """Heads of attention."""

    head_size: int = 64
    """Channels of a head."""

    num_frequencies: int = 8
    """Learned frequencies of the embedding of the log-SNR."""

    num_tokens: int = 2
    """Tokens of `channels` channels that the embedding becomes, for attention."""

    num_groups: int = 8
    """Groups of the normalisation layers."""

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError("`attention` needs one entry per entry of `multipliers`")

    @property
    def widths(self) -> list[int]:
        """Channels per resolution."""
        return [self.channels * factor for factor in self.multipliers]


class NoiseEmbedding(nn.Module):
    """The log-SNR as a vector for every block, and as tokens for attention."""

    def __init__(self, config: FeatureUNetConfig) -> None:
        super().__init__()
        width = 4 * config.channels
        self.num_tokens = config.num_tokens
        frequencies = torch.empty(config.num_frequencies)
        self.frequencies = nn.Parameter(nn.init.normal_(frequencies))
        self.hidden = nn.Linear(1 + 2 * config.num_frequencies, width)
        self.vector = nn.Linear(width, width)
        self.tokens = nn.Linear(width, config.num_tokens * config.channels)
        self.norm = nn.LayerNorm(config.channels)

    def forward(
        self, log_snr: Float[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch token channel"]]:
        angles = 2 * math.pi * log_snr[:, None] * self.frequencies
        waves = torch.cat([log_snr[:, None], angles.sin(), angles.cos()], dim=-1)
        hidden = nn.functional.silu(self.hidden(waves))
        tokens = self.tokens(hidden).unflatten(-1, (self.num_tokens, -1))
        return self.vector(hidden), self.norm(tokens)


class FeatureUNet(nn.Module):
    """Noisy latents, their log-SNR and a map of features to an estimate of the noise.

    The latents' sides must be divisible by 2 ** (len(multipliers) - 1).
    """

    def __init__(self, config: FeatureUNetConfig, latent: int, features: int) -> None:
        super().__init__()
        self.config = c = config
        widths, time = c.widths, 4 * c.channels
        self.noise = NoiseEmbedding(c)
        sizes = [c.channels // 2 ** (i + 1) for i in range(len(STEM_KERNELS) - 1)]
        sizes.append(c.channels - sum(sizes))
        self.stem = nn.ModuleList(
            nn.Conv2d(features + latent, size, kernel, padding=kernel // 2)
            for size, kernel in zip(sizes, STEM_KERNELS, strict=True)
        )

        def block(inputs: int, outputs: int, gated: bool = True) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, time, c.num_groups, gated)

        def level(inputs: int, outputs: int, attend: bool) -> nn.ModuleList:
            blocks = [block(inputs, outputs, gated=False)]
            blocks += [block(inputs, outputs) for _ in range(c.num_blocks)]
            attention = [
                TransformerBlock(outputs, c.heads, c.head_size, c.channels)
                for _ in range(attend)
            ]
            return nn.ModuleList([*blocks, *attention])

        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        incoming = [widths[0], *widths[:-1]]
        for width, attend in zip(incoming, c.attention, strict=True):
            self.down.append(level(width, width, attend))
        # The last resolution is not halved, but widened.
        for narrow, wide in zip(incoming[:-1], widths[:-1], strict=True):
            self.downsample.append(nn.Conv2d(narrow, wide, 4, 2, 1))
        self.widen = nn.ModuleList(
            nn.Conv2d(incoming[-1], widths[-1], k, padding=k // 2) for k in (3, 1)
        )
        middle = widths[-1]
        self.middle_1, self.middle_2 = (
            ResidualBlock(
                middle,
                middle,
                time,
                c.num_groups,
                attention=ContextAttention(middle, c.heads, c.head_size, c.channels),
            )
            for _ in range(2)
        )
        self.middle_attention = Attention(middle, c.heads, c.head_size, 0)
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(widths))):
            skipped, width = incoming[i], widths[i]
            self.up.append(level(width + skipped, width, c.attention[i]))
            if i:
                self.upsample.append(Upsample(width, incoming[i]))
        self.last = block(incoming[0], c.channels)
        self.head = nn.Conv2d(c.channels, latent, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x_t: Float[Tensor, "batch latent height width"],
        log_snr: Float[Tensor, "batch"],
        features: Float[Tensor, "batch feature height width"],
    ) -> Float[Tensor, "batch latent height width"]:
        time, tokens = self.noise(log_snr)
        x = torch.cat([features, x_t], dim=1)
        h = torch.cat([conv(x) for conv in self.stem], dim=1)
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            assert isinstance(level, nn.ModuleList)
            for number, stage in enumerate(level):
                h = self._run(stage, h, time, tokens)
                # All but the first block's output, and once more without attention.
                if number:
                    skips.append(h)
            if not self.config.attention[i]:
                skips.append(h)
            if i < len(self.downsample):
                h = self.downsample[i](h)
        h = self.widen[0](h) + self.widen[1](h)
        h = self.middle_1(h, time, tokens)
        h = over_pixels(self.middle_attention, h)
        h = self.middle_2(h, time, tokens)
        for i, level in enumerate(self.up):
            assert isinstance(level, nn.ModuleList)
            for stage in level:
                if isinstance(stage, ResidualBlock):
                    h = torch.cat([h, skips.pop() / math.sqrt(2)], dim=1)
                h = self._run(stage, h, time, tokens)
            if i < len(self.upsample):
                h = self.upsample[i](h)
        return self.head(self.last(h, time))

    @staticmethod
    def _run(stage: nn.Module, h: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        if isinstance(stage, TransformerBlock):
            return stage(h, tokens)
        return stage(h, time)
