"""Interpolated look-ups in feature volumes and images.

On a CPU `F.grid_sample` is the bottleneck of every grid-based scene. Here a volume
is a table with one row per voxel, interpolation is a weighted sum of eight rows
(one `F.embedding_bag`), and its gradient is the transposed weighted sum. On other
devices the same functions call `F.grid_sample`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class TrilinearCorners:
    """Where points lie in a voxel grid: computed once, looked up in many volumes.

    `base` is the flat index (over depth, height, width) of the voxel with the lowest
    index among a point's eight neighbours; `weights` are those of the eight, x
    fastest. In a grid of depth 1, an image, there are only the first four. Both are
    None off the CPU, where only `coordinates` are needed.
    """

    coordinates: Float[Tensor, "batch point 3"]
    grid_size: tuple[int, int, int]
    base: Int[Tensor, "batch point"] | None
    weights: Float[Tensor, "batch point neighbor"] | None

    @property
    def steps(self) -> list[int]:
        """From the base voxel to the neighbours, in the order of `weights`."""
        depth, height, width = self.grid_size
        # Along an axis with a single voxel the second neighbour does not exist: it
        # aliases the first and has weight zero.
        step_x = int(width > 1)
        step_y = width if height > 1 else 0
        layers = (0, width * height) if depth > 1 else (0,)
        return [z + y + x for z in layers for y in (0, step_y) for x in (0, step_x)]


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
    if depth * height * width >= 2**31 or 8 * points >= 2**31:
        raise ValueError("2^31 voxels or 2^28 points are too many: use fewer")

    base = torch.empty(batch, points, dtype=torch.int32)
    weights = torch.empty(batch, points, 8 if depth > 1 else 4)
    # One batch entry at a time: the temporaries stay in the cache.
    for entry in range(batch):
        x, y, z = coordinates[entry].float().unbind(-1)
        column, x0, x1 = _locate(x, width)
        row, y0, y1 = _locate(y, height)
        layer, z0, z1 = _locate(z, depth)
        column.add_(row, alpha=width).add_(layer, alpha=width * height)
        base[entry] = column
        rows = [z0 * y0, z0 * y1]
        if depth > 1:
            rows += [z1 * y0, z1 * y1]
        for k, weight in enumerate(rows):
            torch.mul(weight, x0, out=weights[entry, :, 2 * k])
            torch.mul(weight, x1, out=weights[entry, :, 2 * k + 1])
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

    `F.embedding_bag` can differentiate itself, but ten times slower than this.
    """

    @staticmethod
    def forward(ctx, table: Tensor, corners: TrilinearCorners) -> Tensor:
        assert corners.base is not None and corners.weights is not None
        ctx.corners = corners
        batch, points = corners.base.shape
        steps = torch.tensor(corners.steps, dtype=torch.int32)
        values = table.new_empty(batch, points, table.shape[-1])
        for entry in range(batch):
            values[entry] = F.embedding_bag(
                corners.base[entry, :, None] + steps,
                table[entry],
                per_sample_weights=corners.weights[entry],
                mode="sum",
            )
        return values

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        corners: TrilinearCorners = ctx.corners
        assert corners.base is not None and corners.weights is not None
        (grad_values,) = grad_outputs
        num_rows = math.prod(corners.grid_size)
        batch, _, channel = grad_values.shape
        grad_table = grad_values.new_empty(batch, num_rows, channel)
        for entry in range(batch):
            steps = corners.steps
            entries, starts = _transpose(corners.base[entry], steps, num_rows)
            grad_table[entry] = F.embedding_bag(
                (entries >> (len(steps).bit_length() - 1)).int(),
                grad_values[entry].contiguous(),
                offsets=starts,
                per_sample_weights=corners.weights[entry]
                .view(-1)
                .index_select(0, entries),
                mode="sum",
            )
        return grad_table, None


def _transpose(
    base: Int[Tensor, " point"], steps: list[int], num_rows: int
) -> tuple[Int[Tensor, " entry"], Int[Tensor, " row"]]:
    """Which points touch each voxel.

    Returns the entries `neighbours * point + neighbour` grouped by the voxel they
    touch, and where each voxel's group starts. This is a counting sort: only the points
    are sorted, by base voxel, and a voxel's group is runs of them, one per step.
    """
    base, order = base.sort(stable=True)
    count = torch.bincount(base, minlength=num_rows).int()
    first_point = count.cumsum(0, dtype=torch.int32) - count

    # Where the run of base voxel b for each step begins inside of the group of voxel
    # b + step, less the rank of b's first point.
    runs = torch.zeros(len(steps), num_rows, dtype=torch.int32)
    total = torch.zeros(num_rows, dtype=torch.int32)
    for run, step in zip(runs, steps, strict=True):
        valid = num_rows - step
        torch.sub(total[step:], first_point[:valid], out=run[:valid])
        total[step:] += count[:valid]
    starts = total.cumsum(0, dtype=torch.int32) - total

    entries = torch.empty(len(base) * len(steps), dtype=torch.int64)
    rank = torch.arange(len(base), dtype=torch.int32)
    order *= len(steps)
    for k, (run, step) in enumerate(zip(runs, steps, strict=True)):
        run[: num_rows - step] += starts[step:]
        place = run.index_select(0, base).add_(rank)
        entries.scatter_(0, place.long(), order + k)
    return entries, starts


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
        # In float32 whatever the volume's type, as below: rounded places would be off
        # by an eighth of a voxel in a bfloat16 volume of 64.
        grid = corners.coordinates.float()[:, :, None, None] * 2 - 1
        with torch.autocast(volume.device.type, enabled=False):
            values = F.grid_sample(volume.float(), grid, align_corners=False)
        return values[..., 0, 0].transpose(1, 2).to(volume.dtype)
    table = volume.permute(0, 2, 3, 4, 1).reshape(batch, -1, channel)
    values = _Lookup.apply(table.float().contiguous(), corners)
    return values.to(volume.dtype)


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
