"""Spaces in which images are diffused: pixels, small learned latents, or those of
Stable Diffusion.

Each is a module with `encode` and `decode` between images in [-1, 1] and latents of
about unit variance, with `channels`, and with the `factor` by which latents are
smaller than images along each side.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.latent import Autoencoder, AutoencoderConfig


@dataclasses.dataclass(frozen=True)
class PixelLatentsConfig:
    """Squares of pixels as channels: nothing is lost and nothing learned."""

    patch: int = 4
    """Side of a square."""


@dataclasses.dataclass(frozen=True)
class SmallLatentsConfig:
    """A small autoencoder, trained along with what is diffused in it."""

    width: int = 32
    """Channels at full resolution; each halving doubles them."""
    halvings: int = 2
    """How often the resolution is halved."""
    latent: int = 4
    """Channels of the latents."""
    spread: float = 0.1
    """Deviation of noise that training adds to latents before it decodes them, so that
    near latents are near images."""


LatentsConfig = PixelLatentsConfig | SmallLatentsConfig | AutoencoderConfig
"""The last is Stable Diffusion's autoencoder, which is not trained."""


class Latents(nn.Module, abc.ABC):
    """A space of latents."""

    channels: int
    factor: int
    trained: bool = False
    """Whether it learns along with what is diffused in it."""

    @abc.abstractmethod
    def encode(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch latent latent_height latent_width"]:
        """Images in [-1, 1] to latents."""

    @abc.abstractmethod
    def decode(
        self, latents: Float[Tensor, "batch latent latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Latents to images, about in [-1, 1] and not clamped."""


class PixelLatents(Latents):
    """See `PixelLatentsConfig`."""

    def __init__(self, config: PixelLatentsConfig) -> None:
        super().__init__()
        self.factor, self.channels = config.patch, 3 * config.patch**2

    def encode(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch latent latent_height latent_width"]:
        return functional.pixel_unshuffle(images, self.factor)

    def decode(
        self, latents: Float[Tensor, "batch latent latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        return functional.pixel_shuffle(latents, self.factor)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(8, width), width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "batch width height width_"]
    ) -> Float[Tensor, "batch width height width_"]:
        return x + self.conv_2(functional.silu(self.conv_1(self.norm(x))))


class SmallLatents(Latents):
    """See `SmallLatentsConfig`."""

    trained = True

    def __init__(self, config: SmallLatentsConfig) -> None:
        super().__init__()
        self.config = c = config
        self.factor, self.channels = 2**c.halvings, c.latent
        widths = [c.width * 2**i for i in range(c.halvings + 1)]
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(c.latent, widths[-1], 3, padding=1)]
        for narrow, wide in itertools.pairwise(widths):
            down += [_Residual(narrow), nn.Conv2d(narrow, wide, 4, 2, 1)]
        for wide, narrow in itertools.pairwise(reversed(widths)):
            up += [_Residual(wide), nn.Upsample(scale_factor=2.0)]
            up += [nn.Conv2d(wide, narrow, 3, padding=1)]
        last = nn.Conv2d(widths[-1], c.latent, 3, padding=1)
        self.down = nn.Sequential(*down, _Residual(widths[-1]), last)
        # Unit variance per channel, whatever the encoder has learned so far.
        self.normalise = nn.BatchNorm2d(c.latent, affine=False)
        self.up = nn.Sequential(
            *up, _Residual(widths[0]), nn.Conv2d(widths[0], 3, 3, padding=1)
        )

    def encode(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch latent latent_height latent_width"]:
        return self.normalise(self.down(images))

    def decode(
        self, latents: Float[Tensor, "batch latent latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        return self.up(latents)


class StableDiffusionLatents(Latents):
    """The scaled means that Stable Diffusion's autoencoder finds; see `Autoencoder`.

    Raises:
        UserError: diffusers is not installed.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.factor, self.channels = config.factor, config.latent_channels
        self.autoencoder = Autoencoder(config).requires_grad_(False)

    def encode(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch latent latent_height latent_width"]:
        return self.autoencoder.encode(images)[0] * self.autoencoder.config.scale

    def decode(
        self, latents: Float[Tensor, "batch latent latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        return self.autoencoder.decode(latents / self.autoencoder.config.scale)


def make_latents(config: LatentsConfig) -> Latents:
    """The space of a configuration."""
    if isinstance(config, PixelLatentsConfig):
        return PixelLatents(config)
    if isinstance(config, SmallLatentsConfig):
        return SmallLatents(config)
    return StableDiffusionLatents(config)


def reconstruction_error(
    latents: SmallLatents,
    images: Float[Tensor, "batch 3 height width"],
    encoded: Float[Tensor, "batch latent latent_height latent_width"],
    generator: torch.Generator,
) -> Float[Tensor, "batch"]:
    """Mean squared error of images in [-1, 1], decoded from disturbed latents."""
    noise = torch.randn(encoded.shape, generator=generator).to(encoded)
    decoded = latents.decode(encoded + latents.config.spread * noise)
    return (decoded - images).square().mean(dim=(1, 2, 3))
