"""Rays of pixels in the conventions of SRN and LFN."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import get_rays, pixel_centers

PixelCenters = Literal["half", "integer"]
"""Where a pixel's ray goes through the image: ((i + 0.5) / width, ...) as everywhere in
this package, or (i / width, ...), as in the authors' code and hence their weights."""


def convention_rays(
    cameras: Cameras,
    size: tuple[int, int],
    pixels: Int[Tensor, "*batch ray"],
    centers: PixelCenters,
) -> tuple[Float[Tensor, "*batch ray 3"], Float[Tensor, "*batch ray 3"]]:
    """Origins and directions (z = 1 in the camera) of pixels with flat indices."""
    xy = pixel_centers(size, cameras.device)
    if centers == "integer":
        xy = xy - 0.5 / torch.tensor([size[1], size[0]], device=cameras.device)
    return get_rays(cameras, xy.reshape(-1, 2)[pixels])


def object_box(cameras: Cameras) -> Float[Tensor, "*batch 2 3"]:
    """Corners of the box around what a camera's depth range holds.

    A representation without density does not know where its matter is; an object that
    fills the range stands in its middle, on the optical axis.
    """
    middle = 0.5 * (cameras.near + cameras.far)[..., None]
    reach = 0.5 * (cameras.far - cameras.near)[..., None]
    pivot = cameras.centers + middle * cameras.extrinsics[..., :3, 2]
    return torch.stack([pivot - reach, pivot + reach], dim=-2)
