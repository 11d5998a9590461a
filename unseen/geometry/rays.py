"""Pixels to rays, and rays to Pluecker coordinates."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras

PixelGrid = Literal["centers", "integer", "corners"]
"""Where pixel i of N lies: at (i + 0.5) / N as everywhere in this package; at i / N; or
at i / (N - 1), from image edge to image edge. The latter two are how others' weights
were trained."""

Measure = Literal["depth", "distance"]
"""What positions along rays count, near and far among them: z in the camera frame, or
Euclidean distance."""


def pixel_centers(
    size: tuple[int, int], device: torch.device | str = "cpu"
) -> Float[Tensor, "height width 2"]:
    """Normalised (x, y) of pixel centres: ((i + 0.5) / width, (j + 0.5) / height)."""
    height, width = size
    x = (torch.arange(width, device=device) + 0.5) / width
    y = (torch.arange(height, device=device) + 0.5) / height
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def unproject(
    intrinsics: Float[Tensor, "*#batch 3 3"], xy: Float[Tensor, "*#batch 2"]
) -> Float[Tensor, "*batch 3"]:
    """Camera-frame direction of a normalised image point, scaled to z = 1."""
    fx, fy = intrinsics[..., 0, 0], intrinsics[..., 1, 1]
    skew, cx, cy = intrinsics[..., 0, 1], intrinsics[..., 0, 2], intrinsics[..., 1, 2]
    y = (xy[..., 1] - cy) / fy
    x = (xy[..., 0] - cx - skew * y) / fx
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def get_rays(
    cameras: Cameras, xy: Float[Tensor, "*batch ray 2"]
) -> tuple[Float[Tensor, "*batch ray 3"], Float[Tensor, "*batch ray 3"]]:
    """World rays through normalised image points.

    Returns origins and directions. Directions are scaled to z = 1 in the camera
    frame, so that `origin + depth * direction` is the point at that depth;
    `directions.norm(dim=-1)` converts depth into distance.
    """
    local = unproject(cameras.intrinsics[..., None, :, :], xy)
    rotation = cameras.extrinsics[..., :3, :3]
    directions = torch.einsum("...ij,...rj->...ri", rotation, local)
    origins = cameras.centers[..., None, :].expand_as(directions)
    return origins, directions


def image_rays(
    cameras: Cameras, size: tuple[int, int]
) -> tuple[Float[Tensor, "*batch ray 3"], Float[Tensor, "*batch ray 3"]]:
    """Rays through all pixel centres, row by row (see `get_rays`)."""
    xy = pixel_centers(size, cameras.device).reshape(-1, 2)
    return get_rays(cameras, xy.expand(*cameras.shape, -1, -1))


def plucker(
    origins: Float[Tensor, "*batch 3"], directions: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 6"]:
    """Pluecker coordinates (d, o x d) of rays, with d made a unit vector.

    They do not depend on which point of the ray `origins` holds.
    """
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return torch.cat([directions, torch.linalg.cross(origins, directions)], dim=-1)


def plucker_images(
    cameras: Cameras, size: tuple[int, int]
) -> Float[Tensor, "*batch 6 height width"]:
    """Pluecker coordinates of every pixel's ray, as an image."""
    coordinates = plucker(*image_rays(cameras, size))
    return coordinates.transpose(-1, -2).unflatten(-1, size)


def random_pixels(
    size: tuple[int, int],
    batch: int,
    count: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch ray"]:
    """Flat indices (row * width + column) of `count` distinct pixels per image."""
    scores = torch.rand(batch, size[0] * size[1], generator=generator)
    return scores.argsort(dim=-1)[:, :count]


def image_points(
    size: tuple[int, int],
    pixels: Int[Tensor, "*batch ray"],
    grid: PixelGrid = "centers",
) -> Float[Tensor, "*batch ray 2"]:
    """Normalised (x, y) of flat pixel indices (row * width + column)."""
    height, width = size
    xy = torch.stack([pixels % width, pixels // width], dim=-1).float()
    extent = xy.new_tensor([width, height])
    if grid == "corners":
        return xy / (extent - 1).clamp(min=1)
    return (xy + (0.5 if grid == "centers" else 0.0)) / extent


def pixel_rays(
    cameras: Cameras,
    size: tuple[int, int],
    index: Int[Tensor, "*#batch ray"],
    grid: PixelGrid = "centers",
) -> tuple[Float[Tensor, "*batch ray 3"], Float[Tensor, "*batch ray 3"]]:
    """Rays through the pixels with flat indices `index` (see `get_rays`)."""
    xy = image_points(size, index, grid)
    return get_rays(cameras, xy.expand(*cameras.shape, -1, -1))


def measured(
    directions: Float[Tensor, "*batch ray 3"], measure: Measure
) -> tuple[Float[Tensor, "*batch ray 3"], Float[Tensor, "*batch ray"]]:
    """Directions with z = 1 in their camera, scaled to what positions count.

    Then `origin + position * direction` is the point at a position. Also returns the
    depth per position.
    """
    depth_per_position = torch.ones_like(directions[..., 0])
    if measure == "distance":
        depth_per_position = 1 / directions.norm(dim=-1)
        directions = directions * depth_per_position[..., None]
    return directions, depth_per_position
