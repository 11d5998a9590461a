"""Where a scene has matter, so that rendering can skip the rest."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from unseen.scenes.scene import FieldScene


def cell_centers(
    box: Float[Tensor, "2 3"], resolution: int
) -> Float[Tensor, "x y z 3"]:
    """Centres of the cells of a grid over a box."""
    step = (box[1] - box[0]) / resolution
    axes = [torch.arange(resolution, device=box.device) + 0.5] * 3
    return box[0] + torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) * step


@dataclasses.dataclass(frozen=True)
class Occupancy:
    """A grid of cells over a world box, true where density may matter."""

    cells: Bool[Tensor, "x y z"]
    box: Float[Tensor, "2 3"]

    @staticmethod
    @torch.no_grad()
    def find(
        scene: FieldScene,
        box: Float[Tensor, "2 3"],
        resolution: int = 64,
        least_opacity: float = 1e-3,
    ) -> Occupancy:
        """Evaluate one scene on a grid over a box that holds all of it.

        A cell is empty if light that crosses it at the density of its own and of its
        26 neighbours' centres loses less than `least_opacity`.
        """
        grid = cell_centers(box, resolution)
        density, _ = scene.evaluate(grid.flatten(0, 2))
        return Occupancy.of_densities(
            density.reshape(grid.shape[:3]), box, least_opacity
        )

    @staticmethod
    def of_densities(
        density: Float[Tensor, "x y z"],
        box: Float[Tensor, "2 3"],
        least_opacity: float = 1e-3,
    ) -> Occupancy:
        """See `find`; given the densities at the `cell_centers` of the box."""
        step = (box[1] - box[0]) / torch.tensor(density.shape, device=box.device)
        highest = functional.max_pool3d(density[None, None], 3, stride=1, padding=1)
        return Occupancy(highest[0, 0] * step.max() > least_opacity, box)

    def holds(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether points are in cells that are not empty."""
        low, high = self.box
        size = torch.tensor(self.cells.shape, device=points.device)
        # An empty border stands for everything outside of the box.
        bordered = functional.pad(self.cells, (1, 1, 1, 1, 1, 1))
        scale = size / (high - low)
        index = torch.addcmul(1 - low * scale, points, scale)
        index = index.clamp_(min=0).minimum(size + 1.0).int()
        row, column, _ = bordered.stride()
        x, y, z = index.unbind(dim=-1)
        flat = (x * row).add_(y, alpha=column).add_(z)
        return bordered.flatten()[flat]

    def bounds(self) -> Float[Tensor, "2 3"]:
        """The smallest box around the cells that are not empty (or else all)."""
        low, high = self.box
        size = torch.tensor(self.cells.shape, device=low.device)
        index = self.cells.nonzero()
        if len(index) == 0:
            return self.box
        step = (high - low) / size
        ends = torch.stack([index.amin(dim=0), index.amax(dim=0) + 1])
        return low + ends * step
