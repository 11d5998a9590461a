"""Loops of `hash_encoding` over the points of one level, compiled by numba."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from unseen.rendering.compiled import inlined, kernel

PRIMES = (1, 2654435761, 805459861)
"""Factors of the spatial hash (Mueller et al., 2022, Eq. 4)."""


@inlined
@no_type_check
def _row(x, y, z, side, hashed, rows):
    x, y, z = min(x, side - 1), min(y, side - 1), min(z, side - 1)
    if hashed:
        return (x ^ y * 2654435761 ^ z * 805459861) % rows
    return x + side * (y + side * z)


@inlined
@no_type_check
def _place(x, cells):
    return min(max(x, np.float32(0)), np.float32(1)) * cells + np.float32(0.5)


@inlined
@no_type_check
def _share(u, upper):
    return u if upper else np.float32(1) - u


@kernel
@no_type_check
def gather_level(points, table, values, channel, cells, side, hashed):
    """Interpolate a level's `table` into `values[:, channel:]` at every point."""
    rows, features = table.shape
    for p in range(len(points)):
        x = _place(points[p, 0], cells)
        y = _place(points[p, 1], cells)
        z = _place(points[p, 2], cells)
        i, j, k = np.int64(x), np.int64(y), np.int64(z)
        u, v, w = x - np.float32(i), y - np.float32(j), z - np.float32(k)
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = _share(u, a) * _share(v, b) * _share(w, c)
            row = _row(i + a, j + b, k + c, side, hashed, rows)
            for f in range(features):
                values[p, channel + f] += weight * table[row, f]


@kernel
@no_type_check
def scatter_level(points, table, values, channel, cells, side, hashed):
    """The transpose of `gather_level`: add `values[:, channel:]` to `table`."""
    rows, features = table.shape
    for p in range(len(points)):
        x = _place(points[p, 0], cells)
        y = _place(points[p, 1], cells)
        z = _place(points[p, 2], cells)
        i, j, k = np.int64(x), np.int64(y), np.int64(z)
        u, v, w = x - np.float32(i), y - np.float32(j), z - np.float32(k)
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = _share(u, a) * _share(v, b) * _share(w, c)
            row = _row(i + a, j + b, k + c, side, hashed, rows)
            for f in range(features):
                table[row, f] += weight * values[p, channel + f]
