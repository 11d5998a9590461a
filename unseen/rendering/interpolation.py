"""Interpolated look-ups in feature volumes and images.

On a CPU `F.grid_sample` is the bottleneck of every grid-based scene. Here a volume
is a table with one row per voxel, interpolation is a weighted sum of eight rows
(one `F.embedding_bag`), and its gradient is the transposed weighted sum. On other
devices the same functions call `F.grid_sample`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class TrilinearCorners:
    """Where points lie in a voxel grid: computed once, looked up in many volumes.

    `base` is the flat index (over batch, depth, height, width) of the voxel with the
    lowest index among a point's eight neighbours; `weights` are those of the eight,
    x fastest. Both are None off the CPU, where only `coordinates` are needed.
    """

    coordinates: Float[Tensor, "batch point 3"]
    grid_size: tuple[int, int, int]
    base: Int[Tensor, " lookup"] | None
    weights: Float[Tensor, "lookup 8"] | None

    @property
    def num_rows(self) -> int:
        """Number of voxels over the whole batch."""
        return len(self.coordinates) * math.prod(self.grid_size)

    @property
    def offsets(self) -> list[int]:
        """Of the eight neighbours' rows from the base row, in the order of weights."""
        depth, height, width = self.grid_size
        # Along an axis with a single voxel the second neighbour does not exist: it
        # aliases the first and has weight zero.
        step_x = int(width > 1)
        step_y = width if height > 1 else 0
        step_z = width * height if depth > 1 else 0
        return [
            z + y + x for z in (0, step_z) for y in (0, step_y) for x in (0, step_x)
        ]

    @functools.cached_property
    def index(self) -> Int[Tensor, "lookup 8"]:
        """Rows of the eight neighbours."""
        assert self.base is not None
        return self.base[:, None] + torch.tensor(self.offsets, dtype=torch.int32)

    @functools.cached_property
    def transpose(
        self,
    ) -> tuple[Int[Tensor, " entry"], Int[Tensor, " row"], Float[Tensor, " entry"]]:
        """The look-up's transpose: which points touch each voxel, and how strongly.

        Points and weights sorted by voxel, with the offset of each voxel's first.
        """
        assert self.weights is not None
        rows, order = self.index.flatten().sort(stable=True)
        starts = torch.searchsorted(
            rows, torch.arange(self.num_rows, dtype=torch.int32), out_int32=True
        )
        return (order >> 3).int(), starts, self.weights.flatten()[order]


def trilinear_corners(
    coordinates: Float[Tensor, "batch point 3"], grid_size: tuple[int, int, int]
) -> TrilinearCorners:
    """Locate points in a grid of (depth, height, width) `grid_size` voxels.

    Coordinates are (x, y, z) with [0, 1] spanning the grid and voxel centres at
    (i + 0.5) / n. There is no gradient with respect to them: a ValueError is raised
    if they require one.
    """
    if coordinates.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "trilinear look-ups have no gradient with respect to coordinates: detach "
            "them, or call torch.nn.functional.grid_sample"
        )
    coordinates = coordinates.detach()
    if coordinates.device.type != "cpu":
        return TrilinearCorners(coordinates, grid_size, None, None)
    depth, height, width = grid_size
    batch, points, _ = coordinates.shape
    if batch * depth * height * width >= 2**31:
        raise ValueError("the volume has more than 2^31 voxels: split the batch")

    x, y, z = coordinates.reshape(-1, 3).float().unbind(-1)
    base, x0, x1 = _locate(x, width)
    row, y0, y1 = _locate(y, height)
    base.add_(row, alpha=width)
    row, z0, z1 = _locate(z, depth)
    base.add_(row, alpha=width * height)
    if batch > 1:
        volume = torch.arange(batch, dtype=torch.int32) * (depth * height * width)
        base.view(batch, points).add_(volume[:, None])

    weights = torch.empty(len(base), 8)
    for k, weight in enumerate([z0 * y0, z0 * y1, z1 * y0, z1 * y1]):
        torch.mul(weight, x0, out=weights[:, 2 * k])
        torch.mul(weight, x1, out=weights[:, 2 * k + 1])
    return TrilinearCorners(coordinates, grid_size, base, weights)


def _locate(
    x: Float[Tensor, " lookup"], size: int
) -> tuple[Int[Tensor, " lookup"], Float[Tensor, " lookup"], Float[Tensor, " lookup"]]:
    """Lower neighbour on an axis, and the weights of it and of the next voxel.

    The lower neighbour is kept inside of the grid. Weights are the hat function
    max(0, 1 - |x - i|), which falls off linearly outside and is exact whichever
    two neighbours inside of the grid are taken.
    """
    x = x * size - 0.5
    lower = x.floor().clamp_(0, max(size - 2, 0)).nan_to_num_(0)
    x -= lower
    first = (1 - x.abs()).clamp_(min=0)
    second = (1 - (x - 1).abs_()).clamp_(min=0) if size > 1 else torch.zeros_like(x)
    return lower.int(), first, second


class _Lookup(torch.autograd.Function):
    """Weighted sums of table rows; the gradient is the transposed weighted sum.

    `F.embedding_bag` differentiates itself, but serially and about eight times
    slower than the sort and second bag used here.
    """

    @staticmethod
    def forward(ctx, table: Tensor, corners: TrilinearCorners) -> Tensor:
        ctx.corners = corners
        return F.embedding_bag(
            corners.index, table, per_sample_weights=corners.weights, mode="sum"
        )

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        points, starts, weights = ctx.corners.transpose
        grad_table = F.embedding_bag(
            points,
            grad_outputs[0].contiguous(),
            offsets=starts,
            per_sample_weights=weights,
            mode="sum",
        )
        return grad_table, None


def lookup(
    volume: Float[Tensor, "batch channel depth height width"],
    corners: TrilinearCorners,
) -> Float[Tensor, "batch point channel"]:
    """Interpolate a volume at located points; see `trilinear`.

    Fastest when `volume` is in `torch.channels_last_3d` memory format (for example a
    permuted view of a channel-last tensor): anything else is copied first.
    """
    batch, channel, *grid_size = volume.shape
    if tuple(grid_size) != corners.grid_size or batch != len(corners.coordinates):
        raise ValueError(
            f"the points were located in {len(corners.coordinates)} grids of size "
            f"{corners.grid_size}, the volume has shape {tuple(volume.shape)}"
        )
    if corners.weights is None:
        grid = corners.coordinates.to(volume.dtype)[:, :, None, None] * 2 - 1
        values = F.grid_sample(volume, grid, align_corners=False)
        return values[..., 0, 0].transpose(1, 2)
    table = volume.permute(0, 2, 3, 4, 1).reshape(-1, channel).float().contiguous()
    values = _Lookup.apply(table, corners)
    return values.view(batch, -1, channel).to(volume.dtype)


def trilinear(
    volume: Float[Tensor, "batch channel depth height width"],
    coordinates: Float[Tensor, "batch point 3"],
) -> Float[Tensor, "batch point channel"]:
    """Interpolate a volume at points, zero outside with a linear fall-off.

    Coordinates are (x, y, z) with [0, 1] spanning the grid and voxel centres at
    (i + 0.5) / n; the result equals `F.grid_sample(mode="bilinear",
    padding_mode="zeros", align_corners=False)`. Differentiable in the volume only:
    coordinates that require a gradient raise a ValueError. For several volumes at the
    same points, share the work through `trilinear_corners` and `lookup`.
    """
    depth, height, width = volume.shape[2:]
    return lookup(volume, trilinear_corners(coordinates, (depth, height, width)))


def bilinear(
    images: Float[Tensor, "batch channel height width"],
    xy: Float[Tensor, "batch point 2"],
    padding: Literal["border", "zeros"] = "border",
) -> Float[Tensor, "batch point channel"]:
    """Interpolate images at normalised (x, y), pixel centres at (i + 0.5) / n.

    Outside of the image: the nearest border pixel, or zero with a linear fall-off.
    Differentiable in both arguments.
    """
    values = F.grid_sample(
        images, xy[:, :, None] * 2 - 1, padding_mode=padding, align_corners=False
    )
    return values[..., 0].transpose(1, 2)
