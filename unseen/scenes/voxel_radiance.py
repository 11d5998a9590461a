"""A radiance field in a grid of voxels, without a network, fitted to posed images.

Density and colour are interpolated before their non-linearities, which lets a surface
be sharper than a voxel (Sun et al., "Direct Voxel Grid Optimization", CVPR 2022). It is
the scene to fit where only images are known and seconds count.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.boxes import box_around
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_rays
from unseen.rendering.interpolation import trilinear
from unseen.rendering.rendering import Rendering
from unseen.rendering.volume import render_image, render_rays, share_scenes
from unseen.scenes.scene import FieldScene, PixelRendering

# An untrained grid absorbs one hundredth of the light per voxel.
BIAS = -4.6


@dataclasses.dataclass(frozen=True)
class VoxelRadianceScene(FieldScene):
    """A grid of evidence in a box; shape is () or (batch,).

    Channels of `grid` are evidence of density and logits of colour (3); its axes are
    the world's z, y and x, and span `box`. Outside of the box there is nothing.
    `num_samples` is the number of samples along a ray.
    """

    grid: Float[Tensor, "*batch 4 depth height width"]
    box: Float[Tensor, "2 3"]
    background: Float[Tensor, "3"]
    num_samples: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.grid.shape[:-4])

    @property
    def evaluations_per_ray(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int | slice) -> VoxelRadianceScene:
        return dataclasses.replace(self, grid=self.grid[index])

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        low, high = self.box
        place = (points - low) / (high - low)
        grid = self.grid if self.shape else self.grid[None]
        found = trilinear(grid, place.reshape(len(grid), -1, 3))
        found = found.reshape(*points.shape[:-1], 4)
        voxel = (high - low).amin() / self.grid.shape[-1]
        density = functional.softplus(found[..., 0] + BIAS) / voxel
        inside = ((place >= 0) & (place <= 1)).all(dim=-1)
        return torch.where(inside, density, 0.0), found[..., 1:].sigmoid()

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        found = render_rays(
            share_scenes(self.evaluate),
            *pixel_rays(cameras, size, pixels),
            cameras.near,
            cameras.far,
            self.num_samples,
            background=self._background(cameras),
            generator=generator,
        )
        return PixelRendering(found.color, found.depth, found.opacity)

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        return render_image(
            share_scenes(self.evaluate),
            cameras,
            size,
            self.num_samples,
            background=self._background(cameras),
        )

    def _background(self, cameras: Cameras) -> Float[Tensor, "*batch 3"]:
        return self.background.expand(*cameras.shape, 3)

    def bounds(self) -> Float[Tensor, "2 3"]:
        return box_around(self.box)

    def tensors(self) -> dict[str, Tensor]:
        return {"grid": self.grid, "box": self.box, "background": self.background}

    def config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> VoxelRadianceScene:
        return cls(tensors["grid"], tensors["box"], tensors["background"], **config)
