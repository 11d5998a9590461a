"""The loops of `compiled_frustum`: one ray from its first sample to its last."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from unseen.rendering.compiled import inlined, kernel, locate

EMPTY = np.float32(-13.8)
"""Logits below this are no matter: the softplus and its slope are under 1e-6."""
OPAQUE = np.float32(1e-5)
"""A ray ends where less than this share of the light passes."""

# Everything below works on flat arrays and unsigned places: slicing an array counts
# references, and a place that could be negative is compared with zero at every read.


@kernel
@no_type_check
def _offsets(height, width, slices, channels):
    """From the place of the lowest voxel to those of its eight neighbours."""
    offsets = np.zeros(8, np.uint64)
    for k in range(8):
        slice_step = channels if k & 1 and slices > 1 else 0
        column_step = slices * channels if k & 2 and width > 1 else 0
        row_step = width * slices * channels if k & 4 and height > 1 else 0
        offsets[k] = slice_step + column_step + row_step
    return offsets


@inlined
@no_type_check
def _find(lines, at, depth, ranges, v, size, places, shares):
    """The voxels of view `v` around a sample; False where it does not hold it."""
    line = at + np.uint64(6 * v)
    z = lines[line + 2] + depth * lines[line + 5]
    if z <= np.float32(1e-6):
        return False
    x = (lines[line] + depth * lines[line + 3]) / z
    y = (lines[line + 1] + depth * lines[line + 4]) / z
    near = ranges[np.uint64(2 * v)]
    s = (z - near) / (ranges[np.uint64(2 * v + 1)] - near)
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 <= s <= 1):
        return False
    height, width, slices, channels = size
    layer, s0, s1 = locate(s, slices)
    column, x0, x1 = locate(x, width)
    row, y0, y1 = locate(y, height)
    voxel = ((v * height + row) * width + column) * slices + layer
    places[np.uint64(v)] = np.uint64(voxel * channels)
    k = np.uint64(8 * v)
    a, b, c, d = y0 * x0, y0 * x1, y1 * x0, y1 * x1
    shares[k], shares[k + np.uint64(1)] = a * s0, a * s1
    shares[k + np.uint64(2)], shares[k + np.uint64(3)] = b * s0, b * s1
    shares[k + np.uint64(4)], shares[k + np.uint64(5)] = c * s0, c * s1
    shares[k + np.uint64(6)], shares[k + np.uint64(7)] = d * s0, d * s1
    return True


@inlined
@no_type_check
def _read(volumes, place, offsets, shares, v, channel):
    """One channel, interpolated between the eight voxels."""
    first, start = place + np.uint64(channel), np.uint64(8 * v)
    total = np.float32(0)
    for k in range(8):
        corner = np.uint64(k)
        total += shares[start + corner] * volumes[first + offsets[corner]]
    return total


@inlined
@no_type_check
def _pool(
    volumes, lines, at, depth, ranges, views, size, offsets, places, shares, evidence,
    trust,
):  # fmt: skip
    """Locate a sample in all views; returns whether one holds it, and the evidence.

    `trust` becomes the views' shares, 0 for those that do not hold it.
    """
    none = np.float32(-np.inf)
    best = none
    for v in range(views):
        trust[v] = none
        evidence[v] = np.float32(0)
        if _find(lines, at, depth, ranges, v, size, places, shares):
            place = places[np.uint64(v)]
            evidence[v] = _read(volumes, place, offsets, shares, v, 0)
            trust[v] = _read(volumes, place, offsets, shares, v, 1)
            best = max(best, trust[v])
    total, pooled = np.float32(0), np.float32(0)
    if best == none:
        return False, pooled
    for v in range(views):
        share = np.float32(0)
        if trust[v] != none:
            share = np.exp(trust[v] - best)
        trust[v] = share
        total += share
    for v in range(views):
        trust[v] /= total
        pooled += trust[v] * evidence[v]
    return True, pooled


@inlined
@no_type_check
def _matter(cells, path, depth):
    """Whether the cell that holds a sample is true."""
    i = np.floor(path[0] + depth * path[3])
    j = np.floor(path[1] + depth * path[4])
    k = np.floor(path[2] + depth * path[5])
    inside = (
        0 <= i < cells.shape[0] and 0 <= j < cells.shape[1] and 0 <= k < cells.shape[2]
    )
    return inside and cells[np.uint64(i), np.uint64(j), np.uint64(k)]


@inlined
@no_type_check
def _softplus(x):
    return x if x > np.float32(20) else np.log1p(np.exp(x))


@inlined
@no_type_check
def _sigmoid(x):
    return np.float32(1) / (np.float32(1) + np.exp(-x))


@kernel
@no_type_check
def march_forward(
    volumes, lines, starts, steps, lengths, ranges, cells, paths, weights, values, size,
    gain, bias, first, last,
):  # fmt: skip
    views, channels = len(ranges) // 2, size[3]
    offsets = _offsets(*size)
    places = np.empty(views, np.uint64)
    shares = np.empty(8 * views, np.float32)
    evidence = np.empty(views, np.float32)
    trust = np.empty(views, np.float32)
    gain, bias = np.float32(gain), np.float32(bias)
    for r in range(first, min(last, len(starts))):
        passed = np.float32(1)
        at = np.uint64(6 * views * r)
        for s in range(weights.shape[1]):
            depth = starts[r] + np.float32(s) * steps[r]
            if cells.size > 0 and not _matter(cells, paths[r], depth):
                continue
            held, logit = _pool(
                volumes, lines, at, depth, ranges, views, size, offsets, places, shares,
                evidence, trust,
            )  # fmt: skip
            if not held or logit + bias < EMPTY:
                continue
            left = passed * np.exp(-gain * _softplus(logit + bias) * lengths[r])
            weight = passed - left
            passed = left
            weights[r, s] = weight
            for c in range(channels - 2):
                value = np.float32(0)
                for v in range(views):
                    if trust[v] > 0:
                        found = _read(
                            volumes, places[np.uint64(v)], offsets, shares, v, c + 2
                        )
                        value += trust[v] * found
                values[r, c] += weight * (_sigmoid(value) if c < 3 else value)
            if passed < OPAQUE:
                break


@kernel
@no_type_check
def march_back(  # noqa: C901
    # length: one walk along a ray and back; numba has no closures to split it with.
    volumes, lines, starts, steps, lengths, ranges, cells, paths, weight_gradients,
    value_gradients, gradients, size, gain, bias,
):  # fmt: skip
    views, channels = len(ranges) // 2, size[3]
    samples, extra = weight_gradients.shape[1], channels - 2
    offsets = _offsets(*size)
    places = np.empty((samples, views), np.uint64)
    shares = np.empty((samples, 8 * views), np.float32)
    evidence = np.empty((samples, views), np.float32)
    trust = np.empty((samples, views), np.float32)
    found = np.empty((samples, views, extra), np.float32)
    pooled = np.empty((samples, extra), np.float32)
    kept = np.empty(samples, np.int64)
    slopes = np.empty(samples, np.float32)
    weights = np.empty(samples, np.float32)
    after = np.empty(samples, np.float32)
    arriving = np.empty(extra, np.float32)
    gain, bias = np.float32(gain), np.float32(bias)
    for r in range(len(starts)):
        passed, count = np.float32(1), 0
        at = np.uint64(6 * views * r)
        for s in range(samples):
            depth = starts[r] + np.float32(s) * steps[r]
            if cells.size > 0 and not _matter(cells, paths[r], depth):
                continue
            held, logit = _pool(
                volumes, lines, at, depth, ranges, views, size, offsets, places[count],
                shares[count], evidence[count], trust[count],
            )  # fmt: skip
            if not held or logit + bias < EMPTY:
                continue
            left = passed * np.exp(-gain * _softplus(logit + bias) * lengths[r])
            slopes[count] = gain * _sigmoid(logit + bias) * lengths[r]
            weights[count], after[count], kept[count] = passed - left, left, s
            passed = left
            for c in range(extra):
                total = np.float32(0)
                for v in range(views):
                    if trust[count, v] > 0:
                        found[count, v, c] = _read(
                            volumes, places[count, v], offsets, shares[count], v, c + 2
                        )
                        total += trust[count, v] * found[count, v, c]
                pooled[count, c] = _sigmoid(total) if c < 3 else total
            count += 1
            if passed < OPAQUE:
                break
        # d w_j / d tau_s is the light left after s if j = s, and -w_j if j > s.
        behind = np.float32(0)
        for i in range(count - 1, -1, -1):
            gained = weight_gradients[r, kept[i]]
            for c in range(extra):
                gained += value_gradients[r, c] * pooled[i, c]
                arriving[c] = value_gradients[r, c] * weights[i]
                if c < 3:
                    arriving[c] *= pooled[i, c] * (np.float32(1) - pooled[i, c])
            logit = (gained * after[i] - behind) * slopes[i]
            behind += gained * weights[i]
            # Shares are a softmax of the views' trust.
            mean = np.float32(0)
            for v in range(views):
                if trust[i, v] > 0:
                    worth = evidence[i, v] * logit
                    for c in range(extra):
                        worth += found[i, v, c] * arriving[c]
                    evidence[i, v] = worth
                    mean += trust[i, v] * worth
            for v in range(views):
                share = trust[i, v]
                if share > 0:
                    confidence = share * (evidence[i, v] - mean)
                    for k in range(8):
                        part = shares[i, 8 * v + k]
                        place = places[i, v] + offsets[k]
                        gradients[place] += part * share * logit
                        gradients[place + np.uint64(1)] += part * confidence
                        for c in range(extra):
                            gradients[place + np.uint64(c + 2)] += (
                                part * share * arriving[c]
                            )
