"""A perceptual colour map, and numbers made into pictures with it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def colorize(
    values: Float[Tensor, "*batch height width"],
) -> Float[Tensor, "*batch 3 height width"]:
    """Colours in [0, 1] (sRGB) of values in [0, 1], from near black to light yellow.

    The map is a curve in Oklab (Ottosson, "A perceptual color space for image
    processing", 2020): lightness grows linearly with the value, so that equal steps
    look equal (in grey print also), while the hue turns from violet over red to yellow.
    """
    value = values.clamp(0, 1)
    lightness = 0.15 + 0.8 * value
    # The most colourful part is in the middle: dark and light colours have less room.
    chroma = 0.02 + 0.15 * torch.sin(math.pi * value.clamp(max=0.97)) ** 0.8
    hue = math.radians(-80) + math.radians(180) * value
    a, b = chroma * torch.cos(hue), chroma * torch.sin(hue)
    return _oklab_to_srgb(torch.stack([lightness, a, b], dim=-3))


def _oklab_to_srgb(
    oklab: Float[Tensor, "*batch 3 height width"],
) -> Float[Tensor, "*batch 3 height width"]:
    """Oklab to sRGB, clipped to the gamut."""
    to_cone = [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
    to_linear = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    cone = torch.einsum("ij,...jhw->...ihw", torch.tensor(to_cone).to(oklab), oklab)
    linear = torch.einsum(
        "ij,...jhw->...ihw", torch.tensor(to_linear).to(oklab), cone**3
    )
    return linear_to_srgb(linear.clamp(0, 1))


def linear_to_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The sRGB transfer curve (IEC 61966-2-1), on values in [0, 1]."""
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curve)


def srgb_to_linear(srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of `linear_to_srgb`."""
    curve = ((srgb + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, curve)


def to_bytes(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """[0, 1] to 0 ... 255, rounded."""
    return (values.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
