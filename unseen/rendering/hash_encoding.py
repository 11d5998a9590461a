"""Features of points in a multi-resolution hash grid (Mueller et al., 2022).

"Instant Neural Graphics Primitives with a Multiresolution Hash Encoding": every level
is a grid of another resolution whose vertices hold features; a coarse level stores all
of its vertices, a fine one shares a table of limited size by hashing them. A point's
features are interpolated trilinearly in every level. `encode_plain` is the obvious twin
of the loops in `hash_kernels.py`, which run on a CPU, and of `encode_gathered`, which
runs elsewhere.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.rendering.compiled import run_tasks
from unseen.rendering.hash_kernels import PRIMES, gather_level, scatter_level


@dataclasses.dataclass(frozen=True)
class HashLayout:
    """Sizes of a hash grid; the defaults are those of Instant-NGP for radiance fields.

    `levels` grids, the coarsest with `coarsest` cells along each axis and each next one
    `growth` times as many; at most 2^`log2_rows` vertices are stored per level, with
    `features` numbers each.
    """

    levels: int = 16
    features: int = 2
    log2_rows: int = 19
    coarsest: int = 16
    growth: float = 1.447269237440378

    @property
    def channels(self) -> int:
        """Features of a point, over all levels."""
        return self.levels * self.features

    def cells(self, level: int) -> float:
        """Cells along an axis; vertices lie half a cell off, as in Instant-NGP."""
        return self.coarsest * self.growth**level - 1

    def side(self, level: int) -> int:
        """Vertices along an axis."""
        return math.ceil(self.cells(level)) + 1

    def rows(self, level: int) -> int:
        """Vertices that a level stores."""
        return min(self.side(level) ** 3, 2**self.log2_rows)

    def hashed(self, level: int) -> bool:
        """Whether vertices share rows."""
        return self.side(level) ** 3 > 2**self.log2_rows

    def start(self, level: int) -> int:
        """The first row of a level in the table of all."""
        return sum(self.rows(i) for i in range(level))

    @property
    def total_rows(self) -> int:
        """Rows of the table."""
        return self.start(self.levels)


def encode(
    table: Float[Tensor, "row feature"],
    points: Float[Tensor, "point 3"],
    layout: HashLayout,
    active: int | None = None,
) -> Float[Tensor, "point channel"]:
    """Features at points of the unit cube; those outside are moved to its border.

    Channels are ordered by level. Levels from `active` on give zeros (by default all
    are active). The fast ways are differentiable in the table only: points that require
    a gradient are given to `encode_plain`.
    """
    active = layout.levels if active is None else active
    if points.requires_grad:
        return encode_plain(table, points, layout, active)
    if table.device.type != "cpu":
        return encode_gathered(table, points, layout, active)
    return _Encode.apply(table, points, layout, active)


def encode_gathered(
    table: Float[Tensor, "row feature"],
    points: Float[Tensor, "point 3"],
    layout: HashLayout,
    active: int | None = None,
) -> Float[Tensor, "point channel"]:
    """See `encode`; one call per level, which keeps nothing but the points.

    `encode_plain` keeps some 1.5 kB per point for its gradient, which is gigabytes for
    a step of distillation.
    """
    active = layout.levels if active is None else active
    return _Gathered.apply(table, points, layout, active)


def encode_plain(
    table: Float[Tensor, "row feature"],
    points: Float[Tensor, "point 3"],
    layout: HashLayout,
    active: int | None = None,
) -> Float[Tensor, "point channel"]:
    """See `encode`; twice differentiable, in the table and in the points."""
    active = layout.levels if active is None else active
    points = points.clamp(0, 1)
    found = [
        _encode_level(table, points, layout, level)
        for level in range(min(active, layout.levels))
    ]
    missing = layout.channels - layout.features * len(found)
    return torch.cat([*found, points.new_zeros(len(points), missing)], dim=-1)


def _encode_level(
    table: Float[Tensor, "row feature"],
    points: Float[Tensor, "point 3"],
    layout: HashLayout,
    level: int,
) -> Float[Tensor, "point feature"]:
    lower, share = _locate(points, layout, level)
    total = torch.zeros(len(points), layout.features).to(table)
    for corner in itertools.product((0, 1), repeat=3):
        offset = torch.tensor(corner, device=points.device)
        weight = torch.where(offset == 1, share, 1 - share).prod(dim=-1)
        row = _row(lower + offset, layout, level)
        total = total + weight[:, None] * table[layout.start(level) + row]
    return total


def _locate(
    points: Float[Tensor, "point 3"], layout: HashLayout, level: int
) -> tuple[Int[Tensor, "point 3"], Float[Tensor, "point 3"]]:
    """The lower vertex of the cell of every point, and how far beyond it that lies."""
    place = points * layout.cells(level) + 0.5
    lower = place.detach().floor()
    return lower.long(), place - lower


def _row(
    vertex: Int[Tensor, "*point 3"], layout: HashLayout, level: int
) -> Int[Tensor, "*point"]:
    x, y, z = vertex.clamp(max=layout.side(level) - 1).unbind(dim=-1)
    if not layout.hashed(level):
        side = layout.side(level)
        return x + side * (y + side * z)
    return (x * PRIMES[0] ^ y * PRIMES[1] ^ z * PRIMES[2]) % layout.rows(level)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments: Any) -> Any:
        table, points, layout, active = arguments
        ctx.layout, ctx.active, ctx.rows = layout, active, table.shape
        ctx.points = points.clamp(0, 1)
        values = table.new_zeros(len(points), layout.channels)
        for level, part, channels in _levels(ctx):
            rows, weights = _corners(ctx.points, layout, level)
            values[:, channels] = functional.embedding_bag(
                rows, table[part], mode="sum", per_sample_weights=weights.to(table)
            )
        return values

    @staticmethod
    def backward(ctx, *grads: Any) -> Any:
        gradient = grads[0].new_zeros(ctx.rows)
        for level, part, channels in _levels(ctx):
            rows, weights = _corners(ctx.points, ctx.layout, level)
            given = weights.to(gradient)[..., None] * grads[0][:, None, channels]
            gradient[part].index_add_(0, rows.flatten(), given.flatten(0, 1))
        return gradient, None, None, None


def _levels(ctx: Any) -> Iterator[tuple[int, slice, slice]]:
    """Active levels, their rows in the table, and their channels."""
    layout: HashLayout = ctx.layout
    for level in range(min(ctx.active, layout.levels)):
        start, channel = layout.start(level), level * layout.features
        part = slice(start, start + layout.rows(level))
        yield level, part, slice(channel, channel + layout.features)


def _corners(
    points: Float[Tensor, "point 3"], layout: HashLayout, level: int
) -> tuple[Int[Tensor, "point 8"], Float[Tensor, "point 8"]]:
    """Rows, within the level, of the vertices around points, and their weights."""
    lower, share = _locate(points, layout, level)
    offsets = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    offsets = offsets.to(points.device)
    share = share[:, None]
    weights = torch.where(offsets == 1, share, 1 - share).prod(dim=-1)
    return _row(lower[:, None] + offsets, layout, level), weights


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments: Any) -> Any:
        table, points, layout, active = arguments
        ctx.layout, ctx.active, ctx.rows = layout, active, table.shape
        ctx.points = points.float().contiguous()
        values = table.new_zeros(len(points), layout.channels)
        _run_levels(gather_level, ctx, table.detach().contiguous(), values)
        return values

    @staticmethod
    def backward(ctx, *grads: Any) -> Any:
        gradient = grads[0].new_zeros(ctx.rows)
        _run_levels(scatter_level, ctx, gradient, grads[0].contiguous())
        return gradient, None, None, None


def _run_levels(function: Any, ctx: Any, table: Tensor, values: Tensor) -> None:
    """Run a kernel on every active level; levels share no rows and no channels."""
    layout: HashLayout = ctx.layout
    tasks = []
    for level in range(min(ctx.active, layout.levels)):
        start, rows = layout.start(level), layout.rows(level)
        tasks.append(
            (
                ctx.points.numpy(),
                table.numpy()[start : start + rows],
                values.numpy(),
                level * layout.features,
                np.float32(layout.cells(level)),
                layout.side(level),
                layout.hashed(level),
            )
        )
    run_tasks(function, tasks)
