"""A small network that says which side of a truck a picture shows.

It is trained to be asked about distilled scenes, which are less sharp than renderings:
pictures are moved, blurred, recoloured and noised. Some are made of the four views of a
group laid over each other, and their answer is spread likewise, so that what shows
several sides at once, or none, gets no sure answer.
"""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.janus.world import Renderings
from unseen.diffusion.noise import normal_like
from unseen.networks.conv_encoder import ConvEncoder, ConvEncoderConfig

BINS = 12
"""Directions that are told apart, 30 degrees each; the first one is the front."""
MIXED = 0.25
"""Share of the pictures of training that are made of four views."""


@final
class SideClassifier(nn.Module):
    """Logits of the azimuth that views in [0, 1] were taken from."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.encoder = ConvEncoder(ConvEncoderConfig(channels, embedding=BINS))

    def forward(
        self, images: Float[Tensor, "view 3 height width"]
    ) -> Float[Tensor, "view bin"]:
        return self.encoder(2 * images - 1)

    @torch.no_grad()
    def probabilities(
        self, images: Float[Tensor, "view 3 height width"]
    ) -> Float[Tensor, "view bin"]:
        """How likely each of the directions is."""
        return self(images).softmax(dim=-1)


def bin_centers() -> Float[Tensor, "bin"]:
    """The azimuths in radians that the bins stand for."""
    return 2 * math.pi * torch.arange(BINS) / BINS


def label(azimuth: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch bin"]:
    """One for the bin that an azimuth in radians is in, zero for the others."""
    index = (azimuth * BINS / (2 * math.pi)).round().long() % BINS
    return functional.one_hot(index, BINS).float()


def side_loss(
    classifier: SideClassifier,
    data: Renderings,
    batch: int,
    generator: torch.Generator,
) -> Tensor:
    """Cross-entropy of the sides in some groups of views, distorted and mixed."""
    index = torch.randint(len(data), (batch,), generator=generator)
    images, answer = data.pixels(index), label(data.azimuth[index])
    share = torch.rand(*answer.shape[:2], answer.shape[1], generator=generator)
    share = share / share.sum(dim=2, keepdim=True)
    alone = torch.eye(answer.shape[1]).expand_as(share)
    mixed = torch.rand(*answer.shape[:2], 1, generator=generator) < MIXED
    share = torch.where(mixed, share, alone)
    images = torch.einsum("gij,gjchw->gichw", share, images).flatten(0, 1)
    answer = torch.einsum("gij,gjb->gib", share, answer).flatten(0, 1)
    logits = classifier(distort(images, generator))
    return functional.cross_entropy(logits.float(), answer)


def distort(
    images: Float[Tensor, "view 3 height width"], generator: torch.Generator
) -> Float[Tensor, "view 3 height width"]:
    """Pictures moved, blurred, recoloured and noised at random; white lies around."""
    count, side = len(images), images.shape[-1]
    unit = torch.rand(7, count, generator=generator)
    scale = 0.85 + 0.3 * unit[0]
    zero = torch.zeros(count)
    rows = [
        torch.stack([1 / scale, zero, 0.4 * unit[1] - 0.2], dim=-1),
        torch.stack([zero, 1 / scale, 0.4 * unit[2] - 0.2], dim=-1),
    ]
    grid = functional.affine_grid(
        torch.stack(rows, dim=1), list(images.shape), align_corners=False
    )
    moved = 1 - functional.grid_sample(1 - images, grid, align_corners=False)
    blurred = blur(moved, side // 2)
    weight = unit[3][:, None, None, None]
    moved = torch.lerp(moved, blurred, weight)
    # Trucks have any colour: the order of the channels is as good as another.
    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    moved = moved.gather(1, order[:, :, None, None].expand_as(moved))
    dark = (0.7 + 0.6 * unit[4])[:, None, None, None]
    moved = 1 - dark * (1 - moved)
    noise = 0.06 * unit[5][:, None, None, None] * normal_like(moved, generator)
    return (moved + noise).clamp(0, 1)


def blur(
    images: Float[Tensor, "view 3 height width"], side: int
) -> Float[Tensor, "view 3 height width"]:
    """Pictures with the details that `side` pixels can show."""
    small = functional.adaptive_avg_pool2d(images, side)
    return functional.interpolate(small, images.shape[-2:], mode="bilinear")


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How good the classifier is on held-out renderings."""

    within: float
    """Share whose azimuth is found to 45 degrees."""
    error: float
    """Mean angle between the azimuth and the one that is found, in degrees."""


def accuracy(classifier: SideClassifier, data: Renderings, blurred: bool) -> Accuracy:
    """Of held-out renderings as they are, or with half the resolution."""
    images = data.pixels(slice(None)).flatten(0, 1)
    if blurred:
        images = blur(images, images.shape[-1] // 2)
    found = bin_centers()[classifier.probabilities(images).argmax(dim=-1)]
    away = torch.rad2deg(found - data.azimuth.flatten())
    away = ((away + 180) % 360 - 180).abs()
    return Accuracy(float((away <= 45).float().mean()), float(away.mean()))
