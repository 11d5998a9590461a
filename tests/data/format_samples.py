"""Tiny posed scenes in memory, from which tests write files of every format."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from unseen.geometry.cameras import Cameras, look_at
from unseen.geometry.projection import project

SIZE = (12, 20)
"""Height and width of the images: neither square nor a power of two."""


def cameras(count: int = 4, seed: int = 0) -> Cameras:
    """Cameras around the origin at distance about 2, each with its own intrinsics."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, 3, generator=generator)
    directions[:, 2] = directions[:, 2].abs() * 0.5
    centers = 2 * torch.nn.functional.normalize(directions, dim=-1)
    intrinsics = torch.eye(3).repeat(count, 1, 1)
    intrinsics[:, 0, 0] = 0.9 + 0.2 * torch.rand(count, generator=generator)
    intrinsics[:, 1, 1] = intrinsics[:, 0, 0] * SIZE[1] / SIZE[0]
    intrinsics[:, :2, 2] = 0.5 + 0.1 * torch.rand(count, 2, generator=generator)
    targets = 0.2 * torch.randn(count, 3, generator=generator)
    ones = torch.ones(count)
    return Cameras(look_at(centers, targets), intrinsics, 0.5 * ones, 4 * ones)


def points(count: int = 8) -> torch.Tensor:
    """World points (point 3) in front of all the cameras."""
    return 0.4 * torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def pictures(count: int = 4, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random 8-bit images (view height width channel)."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *SIZE, channels), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def world_to_camera(found: Cameras) -> np.ndarray:
    """World-to-camera matrices (view 4 4) in float64, by the general inverse."""
    return np.linalg.inv(found.extrinsics.double().numpy())


def pixels_of(found: Cameras, world: torch.Tensor) -> np.ndarray:
    """Pixels (view point 2) of world points, with pixel centres at i + 0.5."""
    return (project(found, world)[0] * torch.tensor([SIZE[1], SIZE[0]])).numpy()


def images_of(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
