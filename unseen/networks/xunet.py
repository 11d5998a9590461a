"""The X-UNet of 3DiM (Watson et al. 2022, arXiv 2210.04628, section 2.3, appendix).

One U-Net sees two frames, a clean one and a noisy one, through the same weights; the
frames speak to each other by cross-attention alone. How noisy each frame is, and the
ray of each of its pixels, modulate every block (FiLM, pixel by pixel).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import sinusoidal_embedding
from unseen.networks.xunet_blocks import ResnetBlock, XUNetBlock, XUNetConfig

__all__ = ["Conditioning", "XUNet", "XUNetConfig"]

LARGEST_LOG_SNR = 20.0


def encode_octaves(
    values: Float[Tensor, "*batch 3"], octaves: int
) -> Float[Tensor, "*batch encoding"]:
    """(x, sin x, sin 2x, sin 4x, ..., cos x, cos 2x, ...), each of all coordinates.

    As `blocked_encoding`, but the cosines are sines of 2^k x + pi / 2 in float32: at
    the highest octaves rounding the sum is seen, and weights were trained with it.
    """
    frequencies = 2.0 ** torch.arange(octaves, device=values.device)
    angles = (values[..., None, :] * frequencies[:, None]).flatten(-2)
    waves = torch.cat([angles, angles + 0.5 * math.pi], dim=-1).sin()
    return torch.cat([values, waves], dim=-1)


class Conditioning(nn.Module):
    """Noise levels and rays to the embeddings that modulate the blocks."""

    def __init__(self, config: XUNetConfig, image_size: int) -> None:
        super().__init__()
        self.config = config
        size, rays = config.embedding, config.ray_channels
        self.level = nn.Sequential(
            nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size)
        )
        std = 1 / math.sqrt(rays)
        if config.pixel_embedding:
            pixels = torch.empty(rays, image_size, image_size)
            self.pixels = nn.Parameter(nn.init.normal_(pixels, std=std))
        if config.frame_embedding:
            self.frames = nn.Parameter(nn.init.normal_(torch.empty(2, rays), std=std))
        self.poses = nn.ModuleList(
            nn.Conv2d(rays, size, 3, stride=2**level, padding=1)
            for level in range(len(config.multipliers))
        )

    def embed_level(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch embedding"]:
        """The embedding of noise levels; log-SNRs are clamped to [-20, 20]."""
        value = log_snr.clamp(-LARGEST_LOG_SNR, LARGEST_LOG_SNR)
        if self.config.noise_level == "angle":
            value = 2 * torch.atan(torch.exp(-0.5 * value)) / math.pi
        return self.level(sinusoidal_embedding(1000 * value, self.config.embedding))

    def embed_poses(
        self,
        rays: Float[Tensor, "batch frame 6 height width"],
        kept: Bool[Tensor, "batch"] | None = None,
    ) -> list[Float[Tensor, "batch_frame embedding _ _"]]:
        """Maps per resolution, finest first, of rays (see `XUNet`).

        The encoded rays of entries that are not `kept` are zero; the learned embeddings
        stay.
        """
        c = self.config
        origins, directions = rays.movedim(2, -1).split(3, dim=-1)
        encoded = torch.cat(
            [
                encode_octaves(origins, c.position_octaves),
                encode_octaves(directions, c.direction_octaves),
            ],
            dim=-1,
        ).movedim(-1, 2)
        if kept is not None:
            encoded = encoded * kept[:, None, None, None, None]
        if c.pixel_embedding:
            encoded = encoded + self.pixels
        if c.frame_embedding:
            encoded = encoded + self.frames[:, :, None, None]
        return [conv(encoded.flatten(0, 1)) for conv in self.poses]

    def forward(
        self,
        log_snr: Float[Tensor, "batch frame"],
        rays: Float[Tensor, "batch frame 6 height width"],
        kept: Bool[Tensor, "batch"] | None,
    ) -> list[Float[Tensor, "batch_frame embedding _ _"]]:
        """What the blocks of every resolution are modulated by."""
        level = self.embed_level(log_snr).flatten(0, 1)[:, :, None, None]
        return [level + pose for pose in self.embed_poses(rays, kept)]


class XUNet(nn.Module):
    """Predicts the noise in the second of two frames.

    The image size must be divisible by 2 ** (number of resolutions - 1) (ValueError).
    """

    def __init__(self, config: XUNetConfig, image_size: int) -> None:
        super().__init__()
        levels = len(config.multipliers)
        if image_size % 2 ** (levels - 1):
            raise ValueError(
                f"{image_size} pixels cannot be halved {levels - 1} times: choose "
                "another image size or fewer `multipliers`"
            )
        self.config, widths = config, config.widths
        self.conditioning = Conditioning(config, image_size)
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]
        for level, width in enumerate(widths):
            attend, blocks = config.attention[level], nn.ModuleList()
            for _ in range(config.num_blocks):
                blocks.append(XUNetBlock(config, skips[-1], width, attend))
                skips.append(width)
            self.down.append(blocks)
            if level < levels - 1:
                self.downsample.append(ResnetBlock(config, width, width, "halve"))
                skips.append(width)
        self.middle = XUNetBlock(config, widths[-1], widths[-1], config.attention[-1])
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        width_in = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            attend, blocks = config.attention[level], nn.ModuleList()
            for _ in range(config.num_blocks + 1):
                joined = width_in + skips.pop()
                blocks.append(XUNetBlock(config, joined, width, attend))
                width_in = width
            # Index 0 is the finest resolution, as on the way down.
            self.up.insert(0, blocks)
            if level > 0:
                self.upsample.insert(0, ResnetBlock(config, width, width, "double"))
        self.norm = nn.GroupNorm(config.num_groups, widths[0])
        self.head = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(
        self,
        frames: Float[Tensor, "batch frame=2 3 height width"],
        log_snr: Float[Tensor, "batch frame=2"],
        rays: Float[Tensor, "batch frame=2 6 height width"],
        kept: Bool[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """The noise in the second frame.

        Frames are the clean and the noisy one, in [-1, 1]. A ray is its origin and
        its unit direction. Entries that are not `kept` do not see their rays.
        """
        embeddings = [
            functional.silu(e) for e in self.conditioning(log_snr, rays, kept)
        ]
        arrives = int(self.config.resample == "inside")
        h = self.stem(frames.flatten(0, 1))
        skips = [h]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embeddings[level])
                skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h, embeddings[level + arrives])
                skips.append(h)
        h = self.middle(h, embeddings[-1])
        for level, blocks in reversed(list(enumerate(self.up))):
            if len(h) == 2 * len(frames) and not any(
                self.config.attention[: level + 1]
            ):
                # No attention is left: the clean frame has said what it had to say.
                h, skips = h[1::2], [skip[1::2] for skip in skips]
                embeddings = [embedding[1::2] for embedding in embeddings]
            for block in blocks:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], dim=1), embeddings[level])
            if level > 0:
                h = self.upsample[level - 1](h, embeddings[level - arrives])
        h = h if len(h) == len(frames) else h[1::2]
        return self.head(functional.silu(self.norm(h)))
