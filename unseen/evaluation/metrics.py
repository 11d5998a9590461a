"""Image metrics. Images are in [0, 1], channel first."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.errors import UserError

SsimWindow = Literal["uniform", "gaussian"]
"""How SSIM weighs a neighbourhood: 7 x 7 pixels alike, with unbiased variances
(skimage's default), or 11 x 11 with a Gaussian of 1.5 pixels, whose variances are the
weighted means (Wang et al., 2004)."""

_SIDE = {"uniform": 7, "gaussian": 11}
_SIGMA = 1.5


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
    window: SsimWindow = "uniform",
) -> Float[Tensor, "*batch"]:
    """Structural similarity (Wang et al., 2004) of each image, at most 1.

    Windows lie wholly inside of the image, colours range over 1, and channels are
    averaged. The two windows differ by several hundredths, so a table must say which
    one it shows. "uniform" is what skimage computes by default, and with it most
    tables of the field; "gaussian" is the paper's, skimage's with
    `gaussian_weights=True, use_sample_covariance=False`. The paper's own program
    measures 8-bit grey images: give it `gray` of both.

    Raises:
        UserError: images smaller than the window.
    """
    shape, dtype, side = images.shape[:-3], images.dtype, _SIDE[window]
    if min(images.shape[-2:]) < side:
        raise UserError(
            f"SSIM compares windows of {side}x{side} pixels and cannot measure images "
            f"of {images.shape[-2]}x{images.shape[-1]}: give larger ones."
        )
    # Variances are differences of large sums: double precision keeps them exact.
    x, y = (z.reshape(-1, 1, *z.shape[-2:]).double() for z in (images, truth))

    def mean(z: Float[Tensor, "flat 1 height width"]) -> Tensor:
        if window == "uniform":
            return functional.avg_pool2d(z, side, stride=1)
        weights = _gaussian(side).to(z)
        rows = functional.conv2d(z, weights.reshape(1, 1, -1, 1))
        return functional.conv2d(rows, weights.reshape(1, 1, 1, -1))

    unbiased = side**2 / (side**2 - 1) if window == "uniform" else 1.0
    x_mean, y_mean = mean(x), mean(y)
    x_variance = unbiased * (mean(x * x) - x_mean**2)
    y_variance = unbiased * (mean(y * y) - y_mean**2)
    covariance = unbiased * (mean(x * y) - x_mean * y_mean)
    first, second = 0.01**2, 0.03**2
    upper = (2 * x_mean * y_mean + first) * (2 * covariance + second)
    lower = (x_mean**2 + y_mean**2 + first) * (x_variance + y_variance + second)
    similarity = (upper / lower).mean(dim=(-1, -2, -3))
    return similarity.reshape(*shape, -1).mean(dim=-1).to(dtype)


def _gaussian(side: int) -> Float[Tensor, " side"]:
    """Weights of a Gaussian of `_SIGMA` pixels, which add up to 1."""
    offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-0.5 * (offset / _SIGMA).square())
    return weights / weights.sum()


def gray(
    images: Float[Tensor, "*batch 3 height width"],
) -> Float[Tensor, "*batch 1 height width"]:
    """8-bit grey images of RGB ones, as MATLAB's `rgb2gray` makes them of bytes.

    The luma of ITU-R BT.601, rounded to the nearest of 255 steps of [0, 1].
    """
    weights = images.new_tensor([0.298936021, 0.587043074, 0.114020904])
    summed = (weights.reshape(3, 1, 1) * images).sum(dim=-3, keepdim=True)
    return (255 * summed).round() / 255


def gradient_magnitude(
    images: Float[Tensor, "*batch channel height width"],
) -> Float[Tensor, "*batch height width"]:
    """Length of the central-difference gradient per pixel, averaged over channels.

    Borders repeat the outermost pixel.
    """
    flat = images.flatten(0, -4) if images.ndim > 3 else images[None]
    padded = functional.pad(flat, (1, 1, 1, 1), mode="replicate")
    x = 0.5 * (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2])
    y = 0.5 * (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1])
    length = (x.square() + y.square()).sqrt().mean(dim=-3)
    return length.reshape(*images.shape[:-3], *images.shape[-2:])
