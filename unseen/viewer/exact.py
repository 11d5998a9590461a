"""The exact rendering of everything in view, which replaces Gaussians at rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.scenes.voxel_latent import VoxelLatentScene
from unseen.viewer.layout import Viewpoint, find_window, window_camera
from unseen.viewer.modes import Mode, draw_picture
from unseen.viewer.sample import Sample, Sphere

BAND = 2**13
"""Pixels that are rendered before the camera is asked again whether it rests."""
FAR = 160.0
"""Depth where there is nothing: the browser's depth images end soon after."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A place in the grid of scenes and who stands there (several for the spread)."""

    samples: tuple[Sample, ...]
    label: str


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A picture on white, and its depth (z in the camera frame, `FAR` where none)."""

    color: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]


def draw_exact(
    mode: Mode,
    cells: Sequence[Cell],
    motions: Sequence[Float[Tensor, "4 4"]],
    viewpoint: Viewpoint,
    size: tuple[int, int],
    interrupted: Callable[[], bool] = lambda: False,
) -> Canvas | None:
    """Render cells, moved by `motions` (scene to world), into (height, width) `size`.

    None if `interrupted` said so on the way; it is asked every `BAND` pixels.
    """
    canvas = Canvas(torch.ones(3, *size), torch.full(size, FAR))
    spheres = [cell.samples[0].sphere for cell in cells]
    places = list(zip(cells, motions, spheres, strict=True))
    # What is near covers what is far.
    for cell, motion, sphere in sorted(
        places, key=lambda place: -_depth(viewpoint, place[1], place[2])
    ):
        window = find_window(viewpoint, motion, sphere, size)
        if window is None:
            continue
        # A latent volume makes whole pictures only.
        whole = isinstance(cell.samples[0].scene, VoxelLatentScene)
        for band in [window] if whole else window.bands(BAND):
            if interrupted():
                return None
            camera = window_camera(viewpoint, motion, sphere, size, band)
            picture = draw_picture(mode, cell.samples, camera, band.size)
            rows, columns = slice(band.top, band.bottom), slice(band.left, band.right)
            behind = canvas.color[:, rows, columns]
            if picture.opacity is None:
                behind[:] = picture.color
            else:
                # The picture is over white already: replace the white by the canvas.
                behind[:] = picture.color + (1 - picture.opacity) * (behind - 1)
            if picture.depth is not None:
                depth = canvas.depth[rows, columns]
                there = picture.depth < camera.far
                if picture.opacity is not None:
                    there = picture.opacity > 0.5
                depth[:] = torch.where(there, picture.depth, depth)
    return canvas


def _depth(viewpoint: Viewpoint, motion: Float[Tensor, "4 4"], sphere: Sphere) -> float:
    center = motion[:3, :3] @ sphere.center + motion[:3, 3]
    return float((center - viewpoint.extrinsics[:3, 3]).norm())
