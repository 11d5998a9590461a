"""The blocks of the X-UNet (see `xunet.py`), and its settings."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class XUNetConfig:
    """Widths and depths; the defaults are those of the paper's listing.

    The last four settings tell the paper's network from the public port's, whose
    weights need `noise_level="log_snr"`, `film_activation=False`, and
    also `attention_projection=True` and `resample="output"`.

    Raises:
        ValueError: lists of different lengths, or channels that cannot be divided.
    """

    channels: int = 256
    """Channels at the finest resolution."""

    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    """Channels per resolution in units of `channels`, finest first; each next
    resolution is half as large."""

    num_blocks: int = 3
    """Blocks per resolution on the way down; there is one more on the way up."""

    attention: tuple[bool, ...] = (False, False, True, True)
    """Whether attention follows each block, per resolution (the paper: at 32, 16 and 8
    pixels); the middle block is like the last."""

    heads: int = 4
    """Heads of the attention layers."""

    embedding: int = 1024
    """Channels of the conditioning."""

    num_groups: int = 32
    """Groups of the normalisation layers, which treat every frame by itself."""

    dropout: float = 0.1
    """Dropout before each block's last convolution."""

    position_octaves: int = 15
    """Frequencies of the encoding of ray origins."""

    direction_octaves: int = 8
    """Frequencies of the encoding of ray directions."""

    pixel_embedding: bool = True
    """Whether every pixel has a learned embedding."""

    frame_embedding: bool = True
    """Whether the clean and the noisy frame have learned embeddings."""

    noise_level: Literal["angle", "log_snr"] = "angle"
    """What the sinusoids encode: 2 atan(exp(-log_snr / 2)) / pi, in [0, 1], or the
    log-SNR itself (the port)."""

    film_activation: bool = True
    """Whether SiLU follows the modulation."""

    attention_projection: bool = False
    """Whether heads are mixed by a linear layer of their own, before the output's."""

    resample: Literal["inside", "output"] = "inside"
    """Where blocks that change the resolution do it: before their first convolution,
    modulated at the new resolution (as the listing's indices say; it forgets to
    resample), or to their output (the port)."""

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError("`attention` needs one entry per entry of `multipliers`")
        if self.channels % self.num_groups or self.channels % self.heads:
            raise ValueError(
                f"{self.channels} channels cannot be divided into {self.num_groups} "
                f"groups and {self.heads} heads"
            )

    @property
    def widths(self) -> list[int]:
        """Channels per resolution."""
        return [self.channels * factor for factor in self.multipliers]

    @property
    def ray_channels(self) -> int:
        """Channels of an encoded ray."""
        return 6 * (1 + self.position_octaves + self.direction_octaves)


class ResnetBlock(nn.Module):
    """Norm, SiLU, convolution, norm, FiLM, SiLU, convolution, and a skip connection.

    Sums are divided by sqrt(2). The last convolution starts at zero. `change` halves
    or doubles the resolution.
    """

    def __init__(
        self,
        config: XUNetConfig,
        channels_in: int,
        channels_out: int,
        change: Literal["halve", "double", "keep"] = "keep",
    ) -> None:
        super().__init__()
        self.config, self.change = config, change
        self.norm_1 = nn.GroupNorm(config.num_groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm_2 = nn.GroupNorm(config.num_groups, channels_out)
        self.film = nn.Conv2d(config.embedding, 2 * channels_out, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def _resample(
        self, x: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image channel _ _"]:
        if self.change == "halve":
            return functional.avg_pool2d(x, 2)
        if self.change == "double":
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return x

    def forward(
        self,
        x: Float[Tensor, "image channel height width"],
        embedding: Float[Tensor, "image embedding _ _"],
    ) -> Float[Tensor, "image channel_out _ _"]:
        inside = self.config.resample == "inside"
        h = functional.silu(self.norm_1(x))
        if inside:
            h, x = self._resample(h), self._resample(x)
        scale, shift = self.film(embedding).chunk(2, dim=1)
        h = self.norm_2(self.conv_1(h)) * (1 + scale) + shift
        if self.config.film_activation:
            h = functional.silu(h)
        h = (self.skip(x) + self.conv_2(self.dropout(h))) / math.sqrt(2)
        return h if inside else self._resample(h)


class FrameAttention(nn.Module):
    """Every pixel of a frame attends to all pixels of its own or of the other frame.

    The input holds the two frames of each batch entry one after the other. Both
    frames read the state that entered, and share the weights.
    """

    def __init__(self, config: XUNetConfig, channels: int, across: bool) -> None:
        super().__init__()
        self.heads, self.across = config.heads, across
        self.norm = nn.GroupNorm(config.num_groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = (
            nn.Linear(channels, channels)
            if config.attention_projection
            else nn.Identity()
        )
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image channel height width"]:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        heads = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if self.across:
            key, value = (_other_frames(part) for part in (key, value))
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = self.projection(attended.transpose(1, 2).flatten(2))
        out = self.out(attended).transpose(1, 2).unflatten(-1, x.shape[-2:])
        return (x + out) / math.sqrt(2)


def _other_frames(x: Float[Tensor, "image *rest"]) -> Float[Tensor, "image *rest"]:
    return x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


class XUNetBlock(nn.Module):
    """A residual block, and self- and cross-attention where there is any."""

    def __init__(
        self, config: XUNetConfig, channels_in: int, channels_out: int, attend: bool
    ) -> None:
        super().__init__()
        self.resnet = ResnetBlock(config, channels_in, channels_out)
        if attend:
            self.self_attention = FrameAttention(config, channels_out, across=False)
            self.cross_attention = FrameAttention(config, channels_out, across=True)
        self.attend = attend

    def forward(
        self,
        x: Float[Tensor, "image channel height width"],
        embedding: Float[Tensor, "image embedding height width"],
    ) -> Float[Tensor, "image channel_out height width"]:
        x = self.resnet(x, embedding)
        return self.cross_attention(self.self_attention(x)) if self.attend else x
