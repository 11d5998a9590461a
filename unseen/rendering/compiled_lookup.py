"""Trilinear look-ups compiled by numba, for the CPU; optional.

Gathering eight voxels per point, or scattering a gradient to them, is a dozen lines
of loops and touches nothing twice. As a sequence of torch operations (the twin in
`interpolation.py`) the same work is bound by memory traffic and sorting, and several
times slower. Threads share out the entries of a batch, and points only where nothing
is summed, so results do not depend on how many there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

POINTS_PER_TASK = 16_384

# What is infinite or not a number stays what it is; the rest of rounding is free.
_settings = {"nogil": True, "cache": True, "error_model": "numpy"}
_settings["fastmath"] = {"contract", "arcp", "nsz", "reassoc"}
kernel = numba.njit(**_settings)
"""Compiles a function that runs without the interpreter's lock."""
inlined = numba.njit(**_settings, inline="always")
"""Compiles a function into its callers."""


def gather(
    tables: Float[Tensor, "batch row channel"],
    coordinates: Float[Tensor, "batch point 3"],
    grid_size: tuple[int, int, int],
) -> Float[Tensor, "batch point channel"]:
    """Interpolate tables of (depth, height, width) voxels at points; see `trilinear`.

    Both are contiguous and float32, as is the result.
    """
    batch, points, _ = coordinates.shape
    values = tables.new_empty(batch, points, tables.shape[-1])
    arrays = [x.detach().numpy() for x in (tables, coordinates, values)]
    tasks = [
        (*(x[entry] for x in arrays), *grid_size, start, start + POINTS_PER_TASK)
        for entry in range(batch)
        for start in range(0, points, POINTS_PER_TASK)
    ]
    run_tasks(_gather, tasks)
    return values


def scatter(
    gradients: Float[Tensor, "batch point channel"],
    coordinates: Float[Tensor, "batch point 3"],
    grid_size: tuple[int, int, int],
) -> Float[Tensor, "batch row channel"]:
    """The transpose of `gather`: gradients with respect to the tables."""
    batch, _, channel = gradients.shape
    depth, height, width = grid_size
    tables = gradients.new_zeros(batch, depth * height * width, channel)
    arrays = [x.detach().numpy() for x in (tables, coordinates, gradients)]
    tasks = [(*(x[entry] for x in arrays), *grid_size) for entry in range(batch)]
    run_tasks(_scatter, tasks)
    return tables


def run_tasks(kernel: Callable[..., None], tasks: list[tuple[Any, ...]]) -> None:
    """Run a kernel, which does not hold the interpreter's lock, on all tasks."""
    workers = min(torch.get_num_threads(), len(tasks))
    if workers <= 1:
        for task in tasks:
            kernel(*task)
        return
    list(_pool(workers).map(lambda task: kernel(*task), tasks))


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="unseen-lookup")


@inlined
@no_type_check
def locate(x, size):
    """Lower neighbour on an axis, and the weights of it and of the next voxel.

    See `interpolation._locate`. Not a number gives weights that are none either.
    """
    x = x * np.float32(size) - np.float32(0.5)
    highest = max(size - 2, 0)
    lower = np.int64(0)
    if x >= highest + 1:
        lower = np.int64(highest)
    elif x > 0:
        lower = min(np.int64(np.floor(x)), np.int64(highest))
    x = x - np.float32(lower)
    first = np.float32(1) - abs(x)
    second = np.float32(1) - abs(x - np.float32(1))
    # Comparisons with what is not a number are false: it stays what it is.
    if first < 0:
        first = np.float32(0)
    if second < 0:
        second = np.float32(0)
    if size == 1:
        second = second * np.float32(0)
    return lower, first, second


@inlined
@no_type_check
def corners(x, y, z, depth, height, width, rows, weights):
    """Rows and weights of the eight voxels around a point, x fastest."""
    x, x0, x1 = locate(x, width)
    y, y0, y1 = locate(y, height)
    z, z0, z1 = locate(z, depth)
    step_x = 1 if width > 1 else 0
    step_y = width if height > 1 else 0
    step_z = width * height if depth > 1 else 0
    row = (z * height + y) * width + x
    k = 0
    for i in range(2):
        for j in range(2):
            weight = (z1 if i else z0) * (y1 if j else y0)
            place = row + i * step_z + j * step_y
            rows[k], weights[k] = place, weight * x0
            rows[k + 1], weights[k + 1] = place + step_x, weight * x1
            k += 2


@kernel
@no_type_check
def _gather(table, coordinates, values, depth, height, width, start, stop):
    channels = table.shape[1]
    weights = np.empty(8, np.float32)
    rows = np.empty(8, np.int64)
    for point in range(start, min(stop, coordinates.shape[0])):
        x, y, z = coordinates[point]
        corners(x, y, z, depth, height, width, rows, weights)
        for c in range(channels):
            total = np.float32(0)
            for k in range(8):
                total += weights[k] * table[rows[k], c]
            values[point, c] = total


@kernel
@no_type_check
def _scatter(table, coordinates, gradients, depth, height, width):
    channels = table.shape[1]
    weights = np.empty(8, np.float32)
    rows = np.empty(8, np.int64)
    for point in range(coordinates.shape[0]):
        x, y, z = coordinates[point]
        corners(x, y, z, depth, height, width, rows, weights)
        for k in range(8):
            weight, row = weights[k], rows[k]
            if weight != 0:
                for c in range(channels):
                    table[row, c] += weight * gradients[point, c]
