"""The loops of `compiled_splats`: tiles of an image and the Gaussians on them.

They run in the precision of their arrays, which tests use for exact comparisons.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from unseen.rendering.compiled import inlined, kernel

TILE = 16
"""Side of a tile in pixels."""


@inlined
@no_type_check
def _pixel_range(center, extent, first, last):
    """The pixels of first <= i < last whose centres lie within an extent."""
    low = max(first, np.int64(np.ceil(center - extent - 0.5)))
    high = min(last, np.int64(np.floor(center + extent - 0.5)) + 1)
    return low, high


@inlined
@no_type_check
def _box(centers, extents, g, height, width):
    """The tiles that a Gaussian's box touches: rows and columns, ends excluded."""
    if extents[g, 0] < 0:
        return 0, 0, 0, 0
    # Boxes far larger than the image must not overflow the integers.
    x = min(max(centers[g, 0], -1e6), 1e6)
    y = min(max(centers[g, 1], -1e6), 1e6)
    x0, x1 = _pixel_range(x, min(extents[g, 0], 1e6), 0, width)
    y0, y1 = _pixel_range(y, min(extents[g, 1], 1e6), 0, height)
    if x0 >= x1 or y0 >= y1:
        return 0, 0, 0, 0
    return y0 // TILE, (y1 - 1) // TILE + 1, x0 // TILE, (x1 - 1) // TILE + 1


@kernel
@no_type_check
def count_tiles(centers, extents, height, width, counts):
    """Add up how many Gaussians touch tile t in counts[t + 1]."""
    columns = (width + TILE - 1) // TILE
    for g in range(len(centers)):
        top, bottom, left, right = _box(centers, extents, g, height, width)
        for row in range(top, bottom):
            for column in range(left, right):
                counts[row * columns + column + 1] += 1


@kernel
@no_type_check
def list_tiles(centers, extents, height, width, places, entries):
    """Fill the tiles' lists in the Gaussians' order; `places` are the free ones."""
    columns = (width + TILE - 1) // TILE
    for g in range(len(centers)):
        top, bottom, left, right = _box(centers, extents, g, height, width)
        for row in range(top, bottom):
            for column in range(left, right):
                tile = row * columns + column
                entries[places[tile]] = g
                places[tile] += 1


@kernel
@no_type_check
def splat_forward(
    starts, entries, centers, conics, opacities, values, extents, images, passed, last,
    faintest, max_alpha, opaque, row,
):  # fmt: skip
    """Composite one row of tiles; `last` becomes the last entry that a pixel used."""
    height, width, channels = images.shape
    kind = images.dtype.type
    half, one = kind(0.5), kind(1)
    faintest, max_alpha, opaque = kind(faintest), kind(max_alpha), kind(opaque)
    columns = (width + TILE - 1) // TILE
    bottom = min(height, (row + 1) * TILE)
    for column in range(columns):
        tile = row * columns + column
        right = min(width, (column + 1) * TILE)
        open_pixels = (bottom - row * TILE) * (right - column * TILE)
        for e in range(starts[tile], starts[tile + 1]):
            g = entries[e]
            x0, x1 = _pixel_range(centers[g, 0], extents[g, 0], column * TILE, right)
            y0, y1 = _pixel_range(centers[g, 1], extents[g, 1], row * TILE, bottom)
            a, b, c, opacity = conics[g, 0], conics[g, 1], conics[g, 2], opacities[g]
            for y in range(y0, y1):
                dy = kind(y) + half - centers[g, 1]
                for x in range(x0, x1):
                    before = passed[y, x]
                    if before < opaque:
                        continue
                    dx = kind(x) + half - centers[g, 0]
                    exponent = half * (a * dx * dx + c * dy * dy) + b * dx * dy
                    alpha = min(opacity * np.exp(-exponent), max_alpha)
                    if alpha < faintest:
                        continue
                    weight = alpha * before
                    for k in range(channels):
                        images[y, x, k] += weight * values[g, k]
                    after = before * (one - alpha)
                    passed[y, x], last[y, x] = after, e
                    if after < opaque:
                        open_pixels -= 1
            if open_pixels == 0:
                break


@kernel
@no_type_check
def splat_back(  # noqa: C901
    # length: one walk over a tile; numba has no closures to split it with.
    starts, entries, centers, conics, opacities, values, extents, passed, last,
    image_gradients, passed_gradients, gradients, faintest, max_alpha, opaque, row,
):  # fmt: skip
    """Gradients of one row of tiles: columns x, y, conic 3, opacity, values."""
    height, width, channels = image_gradients.shape
    kind = passed.dtype.type
    half, one = kind(0.5), kind(1)
    faintest, max_alpha = kind(faintest), kind(max_alpha)
    columns = (width + TILE - 1) // TILE
    bottom = min(height, (row + 1) * TILE)
    arriving = np.empty((TILE, TILE), passed.dtype)
    behind = np.empty((TILE, TILE), passed.dtype)
    for column in range(columns):
        tile = row * columns + column
        right = min(width, (column + 1) * TILE)
        top, left = row * TILE, column * TILE
        for y in range(top, bottom):
            for x in range(left, right):
                arriving[y - top, x - left] = passed[y, x]
                behind[y - top, x - left] = passed[y, x] * passed_gradients[y, x]
        for e in range(starts[tile + 1] - 1, starts[tile] - 1, -1):
            g = entries[e]
            x0, x1 = _pixel_range(centers[g, 0], extents[g, 0], left, right)
            y0, y1 = _pixel_range(centers[g, 1], extents[g, 1], top, bottom)
            a, b, c, opacity = conics[g, 0], conics[g, 1], conics[g, 2], opacities[g]
            for y in range(y0, y1):
                dy = kind(y) + half - centers[g, 1]
                for x in range(x0, x1):
                    if e > last[y, x]:
                        continue
                    dx = kind(x) + half - centers[g, 0]
                    exponent = half * (a * dx * dx + c * dy * dy) + b * dx * dy
                    shape = np.exp(-exponent)
                    alpha = min(opacity * shape, max_alpha)
                    if alpha < faintest:
                        continue
                    # What reaches this Gaussian, from what left it.
                    before = arriving[y - top, x - left] / (one - alpha)
                    arriving[y - top, x - left] = before
                    weight, worth = alpha * before, kind(0)
                    for k in range(channels):
                        gradient = image_gradients[y, x, k]
                        worth += gradient * values[g, k]
                        gradients[e, 6 + k] += weight * gradient
                    later = behind[y - top, x - left]
                    behind[y - top, x - left] = later + weight * worth
                    if opacity * shape > max_alpha:
                        continue
                    slope = before * worth - later / (one - alpha)
                    gradients[e, 5] += shape * slope
                    slope *= -alpha
                    gradients[e, 0] -= slope * (a * dx + b * dy)
                    gradients[e, 1] -= slope * (b * dx + c * dy)
                    gradients[e, 2] += slope * half * dx * dx
                    gradients[e, 3] += slope * dx * dy
                    gradients[e, 4] += slope * half * dy * dy
