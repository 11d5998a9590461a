"""Image metrics. Images are in [0, 1], channel first."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def psnr(
    images: Float[Tensor, "*batch channel height width"],
    truth: Float[Tensor, "*batch channel height width"],
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of each image in dB, at most 100."""
    error = (images - truth).square().mean(dim=(-1, -2, -3))
    return -10 * error.clamp(min=1e-10).log10()


def gradient_magnitude(
    images: Float[Tensor, "*batch channel height width"],
) -> Float[Tensor, "*batch height width"]:
    """Length of the central-difference gradient per pixel, averaged over channels.

    Borders repeat the outermost pixel.
    """
    flat = images.flatten(0, -4) if images.ndim > 3 else images[None]
    padded = torch.nn.functional.pad(flat, (1, 1, 1, 1), mode="replicate")
    x = 0.5 * (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2])
    y = 0.5 * (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1])
    length = (x.square() + y.square()).sqrt().mean(dim=-3)
    return length.reshape(*images.shape[:-3], *images.shape[-2:])
