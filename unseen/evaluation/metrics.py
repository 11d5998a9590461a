"""Image metrics. Images are in [0, 1], channel first."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW = 7
"""Side of the windows of SSIM in pixels."""


def psnr(
    images: Float[Tensor, "*batch channel height width"],
    truth: Float[Tensor, "*batch channel height width"],
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of each image in dB, at most 100."""
    error = (images - truth).square().mean(dim=(-1, -2, -3))
    return -10 * error.clamp(min=1e-10).log10()


def ssim(
    images: Float[Tensor, "*batch channel height width"],
    truth: Float[Tensor, "*batch channel height width"],
) -> Float[Tensor, "*batch"]:
    """Structural similarity (Wang et al., 2004) of each image, at most 1.

    Windows are uniform, 7 x 7 and wholly inside of the image, variances are unbiased,
    colours range over 1, and channels are averaged: what skimage computes by default
    for colour images, and with it the numbers that the field prints.
    """
    shape, dtype = images.shape[:-3], images.dtype
    # Variances are differences of large sums: double precision keeps them exact.
    x, y = (z.reshape(-1, *z.shape[-3:]).double() for z in (images, truth))

    def mean(z: Float[Tensor, "flat channel height width"]) -> Tensor:
        return torch.nn.functional.avg_pool2d(z, WINDOW, stride=1)

    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    x_mean, y_mean = mean(x), mean(y)
    x_variance = unbiased * (mean(x * x) - x_mean**2)
    y_variance = unbiased * (mean(y * y) - y_mean**2)
    covariance = unbiased * (mean(x * y) - x_mean * y_mean)
    first, second = 0.01**2, 0.03**2
    upper = (2 * x_mean * y_mean + first) * (2 * covariance + second)
    lower = (x_mean**2 + y_mean**2 + first) * (x_variance + y_variance + second)
    return (upper / lower).mean(dim=(-1, -2, -3)).reshape(shape).to(dtype)


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
