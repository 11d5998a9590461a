"""The parts of `FeatureUNet`: residual blocks, attention, and resampling.

They are those of Imagen's U-Net (Saharia et al. 2022, appendix B) as it is commonly
built: modulation by time, a gate from global context (Cao et al. 2019, "GCNet"), and
attention whose queries have many heads while keys and values have one (Shazeer 2019).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ScaleNorm(nn.Module):
    """Layer norm over one axis with a learned scale and no shift."""

    def __init__(self, channels: int, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis
        shape = (channels,) if axis == -1 else (1, channels, 1, 1)
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        mean = x.mean(dim=self.axis, keepdim=True)
        variance = x.var(dim=self.axis, keepdim=True, correction=0)
        return (x - mean) * (variance + 1e-5).rsqrt() * self.scale


class Attention(nn.Module):
    """Every token attends to all tokens, to context tokens, and to one learned token.

    Keys and values have one head; `context` of width 0 is none.
    """

    def __init__(self, channels: int, heads: int, head_size: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ScaleNorm(channels)
        self.null = nn.Parameter(nn.init.normal_(torch.empty(2, head_size)))
        self.query = nn.Linear(channels, heads * head_size, bias=False)
        self.key_value = nn.Linear(channels, 2 * head_size, bias=False)
        self.context = (
            nn.Sequential(nn.LayerNorm(context), nn.Linear(context, 2 * head_size))
            if context
            else None
        )
        self.out = nn.Linear(heads * head_size, channels, bias=False)
        self.out_norm = ScaleNorm(channels)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        context: Float[Tensor, "batch context_token context"] | None = None,
    ) -> Float[Tensor, "batch token channel"]:
        """What is added to `x`."""
        x = self.norm(x)
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        pieces = [self.null.flatten().expand(len(x), 1, -1), self.key_value(x)]
        if self.context is not None:
            pieces.insert(0, self.context(context))
        # One head of keys and values serves all heads of queries.
        key, value = torch.cat(pieces, dim=1)[:, None].chunk(2, dim=-1)
        shape = (-1, self.heads, -1, -1)
        attended = functional.scaled_dot_product_attention(
            query, key.expand(shape), value.expand(shape)
        )
        return self.out_norm(self.out(attended.transpose(1, 2).flatten(2)))


class ContextAttention(nn.Module):
    """Every token attends to context tokens and to one learned token."""

    def __init__(self, channels: int, heads: int, head_size: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ScaleNorm(channels)
        self.null = nn.Parameter(nn.init.normal_(torch.empty(2, head_size)))
        self.query = nn.Linear(channels, heads * head_size, bias=False)
        self.key_value = nn.Linear(context, 2 * heads * head_size, bias=False)
        self.out = nn.Linear(heads * head_size, channels, bias=False)
        self.out_norm = ScaleNorm(channels)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        context: Float[Tensor, "batch context_token context"],
    ) -> Float[Tensor, "batch token channel"]:
        """What is added to `x`."""
        query = self.query(self.norm(x))
        pair = self.key_value(context).unflatten(-1, (2, self.heads, -1))
        null = self.null[None, None, :, None].expand(len(x), 1, -1, self.heads, -1)
        key, value = torch.cat([null, pair], dim=1).permute(2, 0, 3, 1, 4)
        query = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.out_norm(self.out(attended.transpose(1, 2).flatten(2)))


def over_pixels(
    attention: nn.Module,
    x: Float[Tensor, "batch channel height width"],
    context: Float[Tensor, "batch token context"] | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """`x` and what attention adds to its pixels."""
    added = attention(x.flatten(2).transpose(1, 2), context)
    return x + added.transpose(1, 2).unflatten(-1, x.shape[-2:])


class TransformerBlock(nn.Module):
    """Attention over pixels, then a layer that widens every pixel by itself."""

    def __init__(self, channels: int, heads: int, head_size: int, context: int) -> None:
        super().__init__()
        self.attention = Attention(channels, heads, head_size, context)
        self.feed_forward = nn.Sequential(
            ScaleNorm(channels, axis=1),
            nn.Conv2d(channels, 2 * channels, 1, bias=False),
            nn.GELU(),
            ScaleNorm(2 * channels, axis=1),
            nn.Conv2d(2 * channels, channels, 1, bias=False),
        )

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        context: Float[Tensor, "batch token context"],
    ) -> Float[Tensor, "batch channel height width"]:
        x = over_pixels(self.attention, x, context)
        return x + self.feed_forward(x)


class GlobalGate(nn.Module):
    """Factors in (0, 1) per channel, from an attention-weighted mean of all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(3, channels // 2)
        self.key = nn.Conv2d(channels, 1, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel 1 1"]:
        weights = self.key(x).flatten(2).softmax(dim=-1)
        mean = (x.flatten(2) * weights).sum(dim=-1)
        return self.gate(mean[..., None, None])


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice; time modulates the second norm."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        time: int,
        groups: int,
        gated: bool = False,
        attention: ContextAttention | None = None,
    ) -> None:
        super().__init__()
        self.time = nn.Linear(time, 2 * channels_out)
        self.norm_1 = nn.GroupNorm(groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.attention = attention
        self.norm_2 = nn.GroupNorm(groups, channels_out)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.gate = GlobalGate(channels_out) if gated else None
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        time: Float[Tensor, "batch time"],
        context: Float[Tensor, "batch token context"] | None = None,
    ) -> Float[Tensor, "batch channel_out height width"]:
        scale, shift = self.time(functional.silu(time))[..., None, None].chunk(2, 1)
        h = self.conv_1(functional.silu(self.norm_1(x)))
        if self.attention is not None:
            h = over_pixels(self.attention, h, context)
        h = self.conv_2(functional.silu(self.norm_2(h) * (1 + scale) + shift))
        if self.gate is not None:
            h = h * self.gate(h)
        return h + self.skip(x)


class Upsample(nn.Module):
    """Twice the resolution: four times the channels, rearranged (Shi et al. 2016)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 1)
        # At first the four pixels that one becomes are equal: no checkerboard.
        first = torch.empty(channels_out, channels_in, 1, 1)
        nn.init.kaiming_uniform_(first)
        self.conv.weight.data.copy_(first.repeat_interleave(4, dim=0))
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel_out _ _"]:
        return functional.pixel_shuffle(functional.silu(self.conv(x)), 2)
