"""Compositing of projected Gaussians, compiled by numba, for the CPU.

The twin is `splatting.composite_plain`. The image is cut into tiles, and every tile
lists the Gaussians that touch it, from front to back. A Gaussian visits the pixels of
its box only, and a tile ends when nothing shines through. The backward pass walks the
same lists from back to front, dividing out what each Gaussian lets pass.

Tiles write to places of their own, so results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unseen.rendering.compiled import run_tasks
from unseen.rendering.splat_kernels import (
    TILE,
    count_tiles,
    list_tiles,
    splat_back,
    splat_forward,
)
from unseen.rendering.splatting import FAINTEST, MAX_ALPHA, OPAQUE, Projected


def composite_compiled(
    projected: Projected, size: tuple[int, int]
) -> tuple[Float[Tensor, "height width value"], Float[Tensor, "height width"]]:
    """See `composite_plain`. Differentiable in all but the extents."""
    return _Composite.apply(
        projected.centers,
        projected.conics,
        projected.opacities,
        projected.values,
        projected.extents,
        size,
    )


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments: Any) -> Any:
        *tensors, size = arguments
        tensors = [x.detach().contiguous() for x in tensors]
        *inputs, extents = [x.numpy() for x in tensors]
        starts, entries = _tile_lists(inputs[0], extents, size)
        values = tensors[0].new_zeros(*size, inputs[3].shape[1])
        passed = tensors[0].new_ones(size)
        last = np.full(size, -1, np.int64)
        arrays = (starts, entries, *inputs, extents, values.numpy(), passed.numpy())
        _run_rows(splat_forward, (*arrays, last), size)
        ctx.save_for_backward(*tensors, passed)
        ctx.lists = starts, entries, last
        return values, passed

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Any:
        *tensors, passed = ctx.saved_tensors
        starts, entries, last = ctx.lists
        size = tuple(passed.shape)
        *inputs, extents = [x.numpy() for x in tensors]
        given = [x.detach().contiguous().numpy() for x in gradients]
        # Each place of a tile's list has a row of its own, added up afterwards.
        found = tensors[0].new_zeros(len(entries), 6 + inputs[3].shape[1])
        arrays = (starts, entries, *inputs, extents, passed.numpy(), last, *given)
        _run_rows(splat_back, (*arrays, found.numpy()), size)
        total = found.new_zeros(len(tensors[0]), found.shape[1])
        total.index_add_(0, torch.from_numpy(entries), found)
        centers, conics, opacities, values = (
            total[:, :2], total[:, 2:5], total[:, 5], total[:, 6:],
        )  # fmt: skip
        return centers, conics, opacities, values, None, None


def _run_rows(function: Any, arrays: tuple[Any, ...], size: tuple[int, int]) -> None:
    """Run a kernel on each row of tiles."""
    limits = (FAINTEST, MAX_ALPHA, OPAQUE)
    rows = -(-size[0] // TILE)
    run_tasks(function, [(*arrays, *limits, row) for row in range(rows)])


def _tile_lists(
    centers: np.ndarray, extents: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where each tile's list starts, and the lists one after another, row by row."""
    rows, columns = (-(-side // TILE) for side in size)
    counts = np.zeros(rows * columns + 1, np.int64)
    count_tiles(centers, extents, *size, counts)
    starts = counts.cumsum()
    entries = np.empty(starts[-1], np.int64)
    list_tiles(centers, extents, *size, starts[:-1].copy(), entries)
    return starts, entries
