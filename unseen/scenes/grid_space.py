"""Radiance fields on a voxel grid as numbers in [-1, 1], which can be diffused."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.scenes.voxel_radiance import VoxelRadianceScene


@dataclasses.dataclass(frozen=True)
class GridSpace:
    """What grids of shape (4, resolution, resolution, resolution) mean.

    Raises:
        ValueError: a size or range is not positive.
    """

    resolution: int = 32
    """Voxels along a side."""

    extent: float = 2.0
    """Side of the cube about the world's origin, in world units."""

    density_range: float = 12.0
    color_range: float = 5.0
    """What 1 stands for: evidence of density, and logits of colour, of a
    `VoxelRadianceScene`."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""

    num_samples: int = 64
    """Samples along a ray."""

    def __post_init__(self) -> None:
        positive = (self.extent, self.density_range, self.color_range)
        if min(*positive, self.resolution, self.num_samples) <= 0:
            raise ValueError("sizes and ranges of a grid must be positive")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of a grid: channels, then the world's z, y and x."""
        return (4, self.resolution, self.resolution, self.resolution)

    def _box(self, like: Tensor) -> Float[Tensor, "2 3"]:
        half = 0.5 * self.extent
        return like.new_tensor([[-half] * 3, [half] * 3])

    def _ranges(self, like: Tensor) -> Float[Tensor, "4 1 1 1"]:
        ranges = like.new_tensor([self.density_range, *[self.color_range] * 3])
        return ranges[:, None, None, None]

    def scene(
        self, grids: Float[Tensor, "batch 4 depth height width"]
    ) -> VoxelRadianceScene:
        """The scenes (batch,) of grids in [-1, 1], differentiable."""
        background = grids.new_tensor(self.background)
        evidence = self._ranges(grids) * grids
        box = self._box(grids)
        return VoxelRadianceScene(evidence, box, background, self.num_samples)

    def grids(
        self, scene: VoxelRadianceScene
    ) -> Float[Tensor, "batch 4 depth height width"]:
        """The grids in [-1, 1] of scenes (batch,), or of one scene.

        Raises:
            UserError: the scene's grid has another size, or lies elsewhere.
        """
        size, box = tuple(scene.grid.shape[-3:]), self._box(scene.grid)
        if size != self.shape[1:] or not torch.allclose(scene.box, box):
            raise UserError(
                f"the scene is a grid of {_size(size)} voxels from "
                f"{_corner(scene.box[0])} to {_corner(scene.box[1])}, and this model "
                f"knows grids of {_size(self.shape[1:])} voxels from "
                f"{_corner(box[0])} to {_corner(box[1])}: give a scene of its own."
            )
        evidence = scene.grid if scene.shape else scene.grid[None]
        return (evidence / self._ranges(evidence)).clamp(-1, 1)


def _size(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def _corner(point: Float[Tensor, "3"]) -> str:
    return f"({', '.join(f'{x:g}' for x in point.tolist())})"
