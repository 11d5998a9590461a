"""Ray casting of solids: exact depth, Lambert shading, supersampled colour."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from unseen.data.primitives import MISS, Array, Solid, dot
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views

LIGHT = np.array([0.45, -0.55, 0.70], np.float32)
"""World direction towards the light (near unit length), the same for all objects."""

AMBIENT, SKY, SUN = 0.68, 0.08, 0.34


def render_solids(
    solids: Sequence[Solid],
    cameras: Cameras,
    size: tuple[int, int],
    supersample: int = 2,
) -> Views:
    """Render closed, opaque solids at `cameras` (view); `size` is (height, width).

    Images are composited on white and `masks` is the coverage, both the mean of
    supersample x supersample rays per pixel. `depths` is exact at the pixel's centre:
    z in the camera frame, 0 where the centre's ray misses. Cameras stand outside of
    every solid.
    """
    images, masks, depths = [], [], []
    fine = (size[0] * supersample, size[1] * supersample)
    for index in range(len(cameras)):
        color, depth = _cast(solids, cameras[index], fine, shade=True)
        cover = np.isfinite(depth).astype(np.float32)
        images.append(_pool(color * cover[..., None] + 1 - cover[..., None], size))
        masks.append(_pool(cover[..., None], size)[..., 0])
        if supersample % 2:
            middle = supersample // 2
            depth = depth[middle::supersample, middle::supersample]
        else:
            depth = _cast(solids, cameras[index], size, shade=False)[1]
        depths.append(np.where(np.isfinite(depth), depth, np.float32(0)))
    return Views(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        cameras,
        torch.from_numpy(np.stack(masks)),
        torch.from_numpy(np.stack(depths)),
    )


def _pool(
    image: Float[Array, "fine_height fine_width channel"], size: tuple[int, int]
) -> Float[Array, "height width channel"]:
    """Mean over blocks."""
    factor = image.shape[0] // size[0]
    offsets = itertools.product(range(factor), repeat=2)
    parts = [image[row::factor, column::factor] for row, column in offsets]
    return sum(parts[1:], start=parts[0]) / np.float32(factor**2)


def _cast(
    solids: Sequence[Solid], camera: Cameras, size: tuple[int, int], shade: bool
) -> tuple[Float[Array, "height width 3"], Float[Array, "height width"]]:
    """Colour and depth (infinite where nothing is) of one ray per pixel centre."""
    rays = image_rays(camera[None], size)[1]
    directions = np.ascontiguousarray(rays[0].numpy().T).reshape(3, *size)
    pose = camera.extrinsics.numpy().astype(np.float64)
    intrinsics = camera.intrinsics.numpy().astype(np.float64)
    depth = np.full(size, MISS)
    color = np.zeros((*size, 3), np.float32)
    for solid in solids:
        rows, columns = _window(solid, pose, intrinsics, size)
        part = directions[:, rows, columns]
        shape = part.shape[1:]
        if part.size == 0:
            continue
        inverse = np.linalg.inv(solid.to_world)
        to_local = inverse[:3, :3].astype(np.float32)
        local_origin = inverse[:3, :3] @ pose[:3, 3] + inverse[:3, 3]
        local_origin = local_origin.astype(np.float32)[:, None]
        local_directions = to_local @ part.reshape(3, -1)
        # Start every ray where it passes closest to the solid's centre.
        square = dot(local_directions, local_directions)
        start = -dot(local_directions, local_origin) / square
        local_origins = local_origin + start * local_directions
        t, faces = solid.intersect(local_origins, local_directions)
        reach = start + t
        seen = depth[rows, columns]
        closer = (reach > 0) & (reach < seen.reshape(-1))
        if not closer.any():
            continue
        inside = closer.reshape(shape)
        seen[inside] = reach[closer]
        if shade:
            points = local_origins[:, closer] + t[closer] * local_directions[:, closer]
            shaded = _shade(solid, points.T, faces[closer], to_local)
            color[rows, columns][inside] = shaded
    return color, depth


def _shade(
    solid: Solid,
    points: Float[Array, "point 3"],
    faces: Int[Array, " point"],
    to_local: Float[Array, "3 3"],
) -> Float[Array, "point 3"]:
    """Lambert under one sun, with an ambient term that is brighter from above."""
    # Normals go to the world by the transpose of the inverse map.
    normals = solid.normals(points, faces) @ to_local
    normals = normals / np.sqrt(dot(normals.T, normals.T))[:, None]
    albedo = solid.colors.astype(np.float32)[faces]
    if solid.paints:
        to_world = solid.to_world.astype(np.float32)
        world = points @ to_world[:3, :3].T + to_world[:3, 3]
        for paint in solid.paints:
            albedo[paint.covers(world)] = paint.color
    sun = np.maximum(normals @ LIGHT, 0)
    light = AMBIENT + SKY * normals[:, 2] + SUN * sun
    return np.minimum(albedo * light[:, None], 1).astype(np.float32)


def _window(
    solid: Solid,
    pose: Float[Array, "4 4"],
    intrinsics: Float[Array, "3 3"],
    size: tuple[int, int],
) -> tuple[slice, slice]:
    """The pixel rectangle outside of which no ray can hit the solid."""
    corners = (solid.corners() - pose[:3, 3]) @ pose[:3, :3]
    if corners[:, 2].min() <= 1e-6:
        return slice(None), slice(None)
    image = (corners / corners[:, 2:]) @ intrinsics.T
    low, high = image.min(axis=0), image.max(axis=0)
    # Pixel i has its centre at (i + 0.5) / width; one pixel more for rounding.
    rows, columns = (
        slice(
            max(math.floor(low[axis] * count - 0.5) - 1, 0),
            max(math.ceil(high[axis] * count - 0.5) + 2, 0),
        )
        for axis, count in ((1, size[0]), (0, size[1]))
    )
    return rows, columns
