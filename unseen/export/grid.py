"""A field sampled on a regular grid: what meshes and splats are made from."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.errors import UserError
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.scene import FieldScene, Scene

CHUNK = 2**17
"""Points that are evaluated at once, which bounds the memory."""


@dataclasses.dataclass(frozen=True)
class DensityGrid:
    """Densities at the centres of cubic voxels; x, y, z are the tensor's axes.

    `low` is the lower corner of the grid in the world, `voxel` the side of a voxel.
    """

    density: Float[Tensor, "x y z"]
    low: Float[Tensor, "3"]
    voxel: float

    def centers(self, index: Int[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
        """World points of voxels' centres."""
        return self.low + (index + 0.5) * self.voxel


def require_field(scene: Scene) -> FieldScene:
    """The scene itself; UserError if it is no field, ValueError if it is a batch."""
    if isinstance(scene, GaussianScene):
        raise UserError(
            "these are splats, which have no surface: render them, or write them as "
            "ply or splat."
        )
    if not isinstance(scene, FieldScene):
        raise UserError(
            f"a {type(scene).__name__} has no density that a mesh or splats could be "
            "made from: render it instead."
        )
    if scene.shape != ():
        raise ValueError(f"expected one scene, not a batch {scene.shape}: index it")
    return scene


@torch.no_grad()
def sample_density(scene: FieldScene, resolution: int) -> DensityGrid:
    """Density over `scene.bounds()`, `resolution` voxels along the longest side."""
    low, high = scene.bounds()
    extent = high - low
    voxel = float(extent.max()) / resolution
    x, y, z = (max(1, math.ceil(float(side) / voxel - 1e-4)) for side in extent)
    grid = DensityGrid(torch.zeros(x, y, z), low.cpu(), voxel)
    axes = [torch.arange(n) for n in (x, y, z)]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    density, _ = evaluate(scene, grid.centers(index))
    return dataclasses.replace(grid, density=density.reshape(x, y, z))


@torch.no_grad()
def evaluate(
    scene: FieldScene, points: Float[Tensor, "point 3"]
) -> tuple[Float[Tensor, "point"], Float[Tensor, "point 3"]]:
    """Density and colour at world points, in chunks; the result is on the CPU."""
    device = scene.bounds().device
    found = [scene.evaluate(part.to(device)) for part in points.split(CHUNK)]
    if not found:
        return torch.zeros(0), torch.zeros(0, 3)
    density = torch.cat([density.cpu() for density, _ in found])
    return density, torch.cat([color.cpu() for _, color in found])


def surface_level(grid: DensityGrid) -> float:
    """The density at which matter counts as solid.

    Matter of that density is half opaque over 3 percent of the grid's longest side;
    in a scene that is thinner than this everywhere, half of its highest density is
    taken. Raises UserError if the densest matter is a fog through which one sees: a
    path across the whole scene would be less than half opaque.
    """
    side = max(grid.density.shape) * grid.voxel
    peak = float(grid.density.max())
    if peak * side < math.log(2):
        raise UserError(
            "the scene is empty: it has no surface that a mesh or splats could be "
            "made from."
        )
    return min(math.log(2) / (0.03 * side), 0.5 * peak)
