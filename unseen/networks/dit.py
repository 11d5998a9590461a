"""Diffusion transformer (Peebles and Xie 2023), and the image encoder built on it."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import (
    harmonic_embedding,
    sinusoidal_embedding,
    sinusoidal_grid,
)


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """The default is DiT-XL/2."""

    depth: int = 28
    width: int = 1152
    heads: int = 16
    mlp_ratio: float = 4.0
    patch: int = 2
    in_channels: int = 64
    out_channels: int = 512


def modulate(
    x: Float[Tensor, "batch token width"],
    shift: Float[Tensor, "batch width"],
    scale: Float[Tensor, "batch width"],
) -> Float[Tensor, "batch token width"]:
    """x (1 + scale) + shift, the same for all tokens."""
    return x * (1 + scale[:, None]) + shift[:, None]


class AdaptiveNorm(nn.Module):
    """`count` vectors of modulation from a conditioning vector (adaLN-Zero)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(width, count * width)
        # Zero gates: every block starts as the identity (section 3.2, adaLN-Zero).
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, condition: Float[Tensor, "batch width"]
    ) -> tuple[Float[Tensor, "batch width"], ...]:
        return self.linear(functional.silu(condition)).chunk(self.count, dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        q, k, v = rearrange(
            self.qkv(x), "b t (three h c) -> three b h t c", three=3, h=self.heads
        )
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.out(rearrange(x, "b h t c -> b t (h c)"))


class DiTBlock(nn.Module):
    """Attention and MLP, both modulated and gated by the condition."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = AdaptiveNorm(width, 6)
        self.attention = Attention(width, config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(hidden, width),
        )

    def forward(
        self,
        x: Float[Tensor, "batch token width"],
        condition: Float[Tensor, "batch width"],
    ) -> Float[Tensor, "batch token width"]:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)
        attended = self.attention(modulate(self.norm(x), shift_a, scale_a))
        x = x + gate_a[:, None] * attended
        return x + gate_m[:, None] * self.mlp(modulate(self.norm(x), shift_m, scale_m))


class DiT(nn.Module):
    """Feature maps to feature maps of the same size, through patch tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Conv2d(
            config.in_channels, config.width, config.patch, stride=config.patch
        )
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.modulation = AdaptiveNorm(config.width, 2)
        self.out = nn.Linear(config.width, config.patch**2 * config.out_channels)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch embedding"],
    ) -> Float[Tensor, "batch out height width"]:
        x = self.embed(x)
        size = (x.shape[-2], x.shape[-1])
        x = rearrange(x, "b c h w -> b (h w) c")
        x = x + sinusoidal_grid(size, self.config.width, x.device).to(x)
        for block in self.blocks:
            x = block(x, condition)
        x = self.out(modulate(self.norm(x), *self.modulation(condition)))
        patch = self.config.patch
        return rearrange(
            x, "b (h w) (p q c) -> b c (h p) (w q)", h=size[0], p=patch, q=patch
        )


@dataclasses.dataclass(frozen=True)
class DiTEncoderConfig:
    """DFM's image encoder; the default is that of the released RE10k weights."""

    dit: DiTConfig = dataclasses.field(default_factory=DiTConfig)
    noisy_channels: int = 71
    """Noisy image 3 + conditioning colour 3 + distance 1 + features 64."""
    skip_channels: int = 64
    time_width: int = 256
    """Width of the sinusoidal embedding of the diffusion step."""
    absolute_pose: bool = False
    """Whether the encoder sees each image's extrinsics (the CO3D weights do). Its
    features then depend on the world frame, which must be that of the training."""


class DiTEncoder(nn.Module):
    """Images to full-resolution feature maps (DFM, Tewari et al. 2023, section 4).

    Clean context images (3 channels) and noisy target images (`noisy_channels`) have
    a stem each and share the rest. A stem halves the resolution, the transformer
    works there, and its upsampled output is joined with a convolution of the RGB
    image before one last convolution.
    """

    def __init__(self, config: DiTEncoderConfig) -> None:
        super().__init__()
        self.config = config
        dit, width = config.dit, config.dit.width
        self.clean_stem = nn.Conv2d(3, dit.in_channels, 7, 2, 3, bias=False)
        self.noisy_stem = nn.Conv2d(
            config.noisy_channels, dit.in_channels, 7, 2, 3, bias=False
        )
        self.time = nn.Sequential(
            nn.Linear(config.time_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        if config.absolute_pose:
            self.pose = nn.Sequential(
                nn.Linear(12 * 13, width), nn.ReLU(), nn.Linear(width, width)
            )
            self.fuse = nn.Sequential(
                nn.Linear(2 * width, 2 * width),
                nn.ReLU(),
                nn.Linear(2 * width, width),
            )
        self.dit = DiT(dit)
        self.skip = nn.Conv2d(3, config.skip_channels, 7, padding=3)
        self.refine = nn.Conv2d(
            dit.out_channels + config.skip_channels, dit.out_channels, 3, padding=1
        )
        # Features start at zero: the field first learns what needs no image.
        nn.init.zeros_(self.refine.weight)
        nn.init.zeros_(self.refine.bias)  # type: ignore[arg-type]

    def embed_condition(
        self,
        step: Float[Tensor, "batch"],
        extrinsics: Float[Tensor, "batch 4 4"] | None,
    ) -> Float[Tensor, "batch embedding"]:
        """The vector that modulates every block."""
        embedding = sinusoidal_embedding(
            step, self.config.time_width, cosine_first=True, endpoint=False
        )
        condition = self.time(embedding)
        if not self.config.absolute_pose:
            return condition
        if extrinsics is None:
            raise ValueError("an encoder with absolute_pose needs the extrinsics")
        pose = self.pose(harmonic_embedding(extrinsics[:, :3].flatten(1), 6))
        return self.fuse(torch.cat([condition, pose], dim=-1))

    def forward(
        self,
        images: Float[Tensor, "batch channel height width"],
        step: Float[Tensor, "batch"],
        *,
        noisy: bool,
        extrinsics: Float[Tensor, "batch 4 4"] | None = None,
    ) -> Float[Tensor, "batch feature height width"]:
        """Encode clean (`noisy=False`) or noisy images; RGB in [-1, 1] comes first.

        `step` is the diffusion step (0 to 999), 0 for clean images. Height and width
        are multiples of twice the patch. `extrinsics` are needed with absolute_pose.
        """
        size, grid = images.shape[-2:], 2 * self.config.dit.patch
        if size[0] % grid or size[1] % grid:
            raise ValueError(
                f"image size {tuple(size)} must be a multiple of {grid} pixels"
            )
        stem = self.noisy_stem if noisy else self.clean_stem
        condition = self.embed_condition(step, extrinsics)
        features = self.dit(functional.relu(stem(images)), condition)
        features = functional.interpolate(
            features, size=size, mode="bilinear", align_corners=False
        )
        skip = self.skip(images[:, :3])
        return self.refine(torch.cat([features, skip], dim=1))
