"""The image and the text encoder of CLIP (Radford et al. 2021)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Activation = Literal["quick_gelu", "gelu"]
"""OpenAI's weights were trained with x sigmoid(1.702 x), most others with GELU."""

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The approximation of GELU in OpenAI's weights."""
    return x * torch.sigmoid(1.702 * x)


@dataclasses.dataclass(frozen=True)
class ClipImageConfig:
    """Settings of the image encoder; the defaults are those of ViT-L/14."""

    image_size: int = 224
    patch: int = 14
    width: int = 1024
    depth: int = 24
    heads: int = 16
    hidden: int = 4096
    """Width inside of the feed-forward layers."""
    embedding: int = 768
    """Channels of the embedding of an image."""
    activation: Activation = "quick_gelu"


@dataclasses.dataclass(frozen=True)
class ClipTextConfig:
    """Settings of the text encoder; the defaults are those of ViT-H/14, all layers but
    the last, which is what Stable Diffusion 2 reads."""

    vocabulary: int = 49408
    length: int = 77
    """Tokens of a text, with those that begin, end and fill it."""
    width: int = 1024
    depth: int = 23
    heads: int = 16
    hidden: int = 4096
    """Width inside of the feed-forward layers."""
    activation: Activation = "gelu"
    padding: int | None = 0
    """The token that fills a text; None is that of its end (Stable Diffusion 1)."""


class ClipImageEncoder(nn.Module):
    """Images to one embedding each (projected, and not normalised)."""

    def __init__(self, config: ClipImageConfig) -> None:
        super().__init__()
        self.config = config
        count = (config.image_size // config.patch) ** 2
        self.patches = nn.Conv2d(
            3, config.width, config.patch, stride=config.patch, bias=False
        )
        scale = config.width**-0.5
        self.class_token = nn.Parameter(torch.zeros(config.width))
        self.positions = nn.Parameter(torch.zeros(count + 1, config.width))
        nn.init.normal_(self.class_token, std=scale)
        nn.init.normal_(self.positions, std=scale)
        self.norm_in = nn.LayerNorm(config.width)
        self.blocks = _transformer(config)
        self.norm_out = nn.LayerNorm(config.width)
        self.projection = nn.Linear(config.width, config.embedding, bias=False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embedding"]:
        """The embedding of images in [-1, 1].

        They are resized without a low-pass filter and with corners aligned, as
        Zero-1-to-3 does it, and not as CLIP's own preprocessing.
        """
        side = (self.config.image_size,) * 2
        images = nn.functional.interpolate(
            images, side, mode="bicubic", align_corners=True
        )
        mean, std = images.new_tensor([_MEAN, _STD])[:, :, None, None]
        patches = self.patches((0.5 * (images + 1) - mean) / std)
        x = patches.flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(x), 1, -1)
        x = self.norm_in(torch.cat([first, x], dim=1) + self.positions)
        return self.projection(self.norm_out(self.blocks(x)[:, 0]))


class ClipTextEncoder(nn.Module):
    """Tokens to as many vectors: the last layer's, normalised."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.zeros(config.length, config.width))
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        self.blocks = _transformer(config)
        self.norm_out = nn.LayerNorm(config.width)

    def forward(
        self, tokens: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token width"]:
        """Every token sees those before it."""
        count = tokens.shape[1]
        x = self.words(tokens) + self.positions[:count]
        unseen = torch.ones(count, count, dtype=torch.bool, device=x.device).triu(1)
        return self.norm_out(self.blocks(x, mask=unseen))


def _transformer(config: ClipImageConfig | ClipTextConfig) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        config.hidden,
        dropout=0.0,
        activation=quick_gelu if config.activation == "quick_gelu" else "gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
