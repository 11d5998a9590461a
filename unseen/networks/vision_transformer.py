"""A vision transformer (Dosovitskiy et al., 2021) that shows what its blocks say.

Tensors have the names that timm gives them, so that weights from elsewhere fit.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class VisionTransformerConfig:
    """The default is ViT-B/16 for images of 128x128 pixels."""

    image_size: int = 128
    """Side of the images that the position embedding is made for, in pixels."""
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4


class Attention(nn.Module):
    """Self-attention over tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers for every token by itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(
        self, x: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and a feed-forward network, each normalised before and added after."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = FeedForward(width, mlp_ratio * width)

    def forward(
        self, x: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Non-overlapping patches to tokens, row by row."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch token channel"]:
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Images in [-1, 1] to the tokens after chosen blocks, before any final norm."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, side = config.width, config.image_size // config.patch
        self.patch_embed = PatchEmbedding(config.patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def positions(self, size: tuple[int, int]) -> Float[Tensor, "1 token width"]:
        """The position embedding, class token first, of a (height, width) grid."""
        return resize_positions(self.pos_embed, size)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], taps: tuple[int, ...]
    ) -> list[Float[Tensor, "batch token channel"]]:
        """The tokens, class token first, after each of the blocks `taps`."""
        patch = self.config.patch
        size = (images.shape[-2] // patch, images.shape[-1] // patch)
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.positions(size)
        found = []
        for index, block in enumerate(self.blocks[: max(taps) + 1]):
            x = block(x)
            if index in taps:
                found.append(x)
        return found


def resize_positions(
    embedding: Float[Tensor, "1 token width"], size: tuple[int, int]
) -> Float[Tensor, "1 resized width"]:
    """A position embedding of a square grid, resized bilinearly to (height, width).

    The class token's, the first one, stays as it is.
    """
    side = round((embedding.shape[1] - 1) ** 0.5)
    if size == (side, side):
        return embedding
    grid = embedding[:, 1:].unflatten(1, (side, side)).movedim(-1, 1)
    grid = functional.interpolate(grid, size, mode="bilinear", align_corners=False)
    return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
