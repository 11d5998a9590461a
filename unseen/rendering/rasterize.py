"""Which triangle a pixel sees: a depth buffer, compiled by numba.

It shows what a mesh looks like without a graphics card; `rasterize_plain`, every
triangle at every pixel, is its twin.
"""

from __future__ import annotations

import dataclasses
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.rendering.compiled import kernel


@dataclasses.dataclass(frozen=True)
class Fragments:
    """What the pixels of one image see.

    `faces` are -1 where there is no triangle; `weights` are the barycentric
    coordinates on the triangle in space; `depth` is z, infinite where there is none.
    """

    faces: Int[Tensor, "height width"]
    weights: Float[Tensor, "height width 3"]
    depth: Float[Tensor, "height width"]


def rasterize(
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    camera: Cameras,
    size: tuple[int, int],
) -> Fragments:
    """The nearest triangle at every pixel's centre, seen by one camera, on the CPU.

    Both sides of a triangle are visible. Triangles with a corner nearer than the
    camera's near are left out.
    """
    corners, depth = _project(vertices, faces, camera, size)
    found = torch.full(size, -1)
    weights = torch.zeros(*size, 3)
    buffer = torch.full(size, torch.inf)
    _draw(
        corners.numpy(), depth.numpy(), found.numpy(), weights.numpy(), buffer.numpy()
    )
    return Fragments(found, weights, buffer)


def _project(
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    camera: Cameras,
    size: tuple[int, int],
) -> tuple[Float[Tensor, "face 3 2"], Float[Tensor, "face 3"]]:
    """Corners of the faces in pixels, and their depths (all -1 if one is too near)."""
    xy, depth = project(camera, vertices)
    corners = xy * xy.new_tensor([size[1], size[0]])
    corners, depth = corners[faces], depth[faces]
    near = (depth <= camera.near.clamp(min=1e-6)).any(dim=-1, keepdim=True)
    return corners.contiguous(), torch.where(near, -1.0, depth)


def rasterize_plain(
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    camera: Cameras,
    size: tuple[int, int],
) -> Fragments:
    """See `rasterize`."""
    corners, z = _project(vertices, faces, camera, size)
    y, x = (torch.arange(side) + 0.5 for side in size)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    to_corner = corners - grid[:, :, None, None]
    after, last = to_corner.roll(-1, dims=-2), to_corner.roll(-2, dims=-2)
    areas = after[..., 0] * last[..., 1] - after[..., 1] * last[..., 0]
    flat = areas / areas.sum(dim=-1, keepdim=True)
    # Depth is linear over an image in its inverse.
    inverse = flat / z
    depth = 1 / inverse.sum(dim=-1)
    inside = (flat >= 0).all(dim=-1) & (z[:, 0] > 0)
    depth, face = torch.where(inside, depth, torch.inf).min(dim=-1)
    index = face[..., None, None].expand(*size, 1, 3)
    chosen = inverse.gather(2, index)[:, :, 0]
    weights = chosen / chosen.sum(dim=-1, keepdim=True)
    empty = depth.isinf()
    return Fragments(
        face.masked_fill(empty, -1), weights.masked_fill(empty[..., None], 0), depth
    )


@kernel
@no_type_check
def _draw(corners, depths, found, weights, buffer):
    height, width = buffer.shape
    for f in range(len(corners)):
        if depths[f, 0] <= 0:
            continue
        ax, ay = corners[f, 0, 0], corners[f, 0, 1]
        bx, by = corners[f, 1, 0], corners[f, 1, 1]
        cx, cy = corners[f, 2, 0], corners[f, 2, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        left = max(0, np.int64(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width, np.int64(np.floor(max(ax, bx, cx) - 0.5)) + 1)
        top = max(0, np.int64(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height, np.int64(np.floor(max(ay, by, cy) - 0.5)) + 1)
        for y in range(top, bottom):
            for x in range(left, right):
                px, py = x + 0.5, y + 0.5
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                w = 1 - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                u, v, w = u / depths[f, 0], v / depths[f, 1], w / depths[f, 2]
                depth = 1 / (u + v + w)
                if depth < buffer[y, x]:
                    buffer[y, x], found[y, x] = depth, f
                    weights[y, x, 0] = u * depth
                    weights[y, x, 1] = v * depth
                    weights[y, x, 2] = w * depth
