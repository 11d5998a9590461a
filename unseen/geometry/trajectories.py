"""Camera paths, and random cameras.

Azimuth 0 is on the +x side of what is looked at, and grows counter-clockwise seen
from +z; elevation is the angle above the horizontal plane. Angles are in radians.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at


def sphere_cameras(
    azimuth: Float[Tensor, "*batch"],
    elevation: Float[Tensor, "*batch"],
    distance: Float[Tensor, "*batch"],
    fov: float,
    near: float,
    far: float,
    center: float | Float[Tensor, "3"] = 0.0,
) -> Cameras:
    """Cameras that look at `center` from given directions and distances.

    `fov` is the full field of view of the (square) image, `near` and `far` are depths.
    """
    outward = torch.stack(
        [
            elevation.cos() * azimuth.cos(),
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
        ],
        dim=-1,
    )
    targets = torch.as_tensor(center, device=outward.device, dtype=outward.dtype)
    targets = targets.expand(outward.shape)
    extrinsics = look_at(targets + distance[..., None] * outward, targets)
    return Cameras(
        extrinsics,
        intrinsics_from_fov(torch.full_like(azimuth, fov)),
        torch.full_like(azimuth, near),
        torch.full_like(azimuth, far),
    )


def orbit(
    num_views: int,
    elevation: float,
    distance: float,
    fov: float,
    near: float,
    far: float,
    azimuth_start: float = 0.0,
    turns: float = 1.0,
    center: float | Float[Tensor, "3"] = 0.0,
) -> Cameras:
    """Cameras (view) on a circle around the z axis through `center`, looking at it.

    They are evenly spaced and the end is left out, so that a whole number of turns
    plays as a loop. Negative `turns` go clockwise seen from +z.
    """
    azimuth = azimuth_start + 2 * math.pi * turns * torch.arange(num_views) / num_views
    return sphere_cameras(
        azimuth,
        torch.full_like(azimuth, elevation),
        torch.full_like(azimuth, distance),
        fov,
        near,
        far,
        center,
    )


def spiral(
    num_views: int,
    elevation_range: tuple[float, float],
    distance: float,
    fov: float,
    near: float,
    far: float,
    azimuth_start: float = 0.0,
    turns: float = 2.0,
    center: float | Float[Tensor, "3"] = 0.0,
) -> Cameras:
    """Cameras (view) that circle while their elevation sweeps, looking at `center`.

    The first view has the first elevation of the range and the last view the second;
    height grows evenly, so that views are spread evenly over the sphere, as in the
    test views of ShapeNet-SRN (Sitzmann et al., 2019).
    """
    low, high = (math.sin(elevation) for elevation in elevation_range)
    progress = torch.linspace(0, 1, num_views)
    azimuth = azimuth_start + 2 * math.pi * turns * progress
    elevation = torch.asin((low + (high - low) * progress).clamp(-1, 1))
    return sphere_cameras(
        azimuth,
        elevation,
        torch.full_like(azimuth, distance),
        fov,
        near,
        far,
        center,
    )


def random_sphere_cameras(
    num_views: int,
    elevation_range: tuple[float, float],
    distance_range: tuple[float, float],
    fov: float,
    near: float,
    far: float,
    generator: torch.Generator,
    center: float | Float[Tensor, "3"] = 0.0,
) -> Cameras:
    """Cameras (view) at random on the part of a sphere between two elevations.

    Directions are uniform in area, distances uniform in their range.
    """
    draws = torch.rand(3, num_views, generator=generator, device=generator.device)
    low, high = (math.sin(elevation) for elevation in elevation_range)
    nearest, furthest = distance_range
    return sphere_cameras(
        2 * math.pi * draws[0],
        torch.asin((low + (high - low) * draws[1]).clamp(-1, 1)),
        nearest + (furthest - nearest) * draws[2],
        fov,
        near,
        far,
        center,
    )


def interpolate(cameras: Cameras, num_views: int) -> Cameras:
    """A smooth path of `num_views` cameras (view) through given ones (view).

    Centres follow a Catmull-Rom spline and rotations the shortest arcs. Times are
    evenly spaced from the first to the last camera; where they fall on a given camera
    (all of them, if num_views - 1 is a multiple of len(cameras) - 1) the path passes
    exactly through it. Intrinsics, near and far change linearly.
    """
    if cameras.near.ndim != 1 or len(cameras) == 0:
        raise ValueError(
            f"interpolate needs cameras with one view axis, they have batch shape "
            f"{tuple(cameras.shape)}"
        )
    last = len(cameras) - 1
    # Integer arithmetic makes the times of given cameras exact.
    ticks = torch.arange(num_views, device=cameras.device) * last
    spacing = max(num_views - 1, 1)
    start = (ticks // spacing).clamp(0, max(last - 1, 0))
    t = (ticks - start * spacing).to(cameras.extrinsics.dtype) / spacing
    stop = (start + 1).clamp(max=last)

    def mix(values: Float[Tensor, "view *rest"]) -> Float[Tensor, "path *rest"]:
        weight = t.reshape(-1, *[1] * (values.ndim - 1))
        return (1 - weight) * values[start] + weight * values[stop]

    rotations = cameras.extrinsics[:, :3, :3]
    extrinsics = cameras.extrinsics[start].clone()
    extrinsics[:, :3, :3] = _slerp(rotations[start], rotations[stop], t)
    extrinsics[:, :3, 3] = _catmull_rom(cameras.centers, start, t)
    return Cameras(
        extrinsics, mix(cameras.intrinsics), mix(cameras.near), mix(cameras.far)
    )


def _catmull_rom(
    knots: Float[Tensor, "knot 3"],
    start: torch.Tensor,
    t: Float[Tensor, " path"],
) -> Float[Tensor, "path 3"]:
    """Uniform Catmull-Rom spline between knots `start` and `start + 1` at times t.

    The ends are continued by reflection, which makes the outer segments quadratic.
    """
    if len(knots) == 1:
        return knots[start]
    before, after = 2 * knots[:1] - knots[1:2], 2 * knots[-1:] - knots[-2:-1]
    padded = torch.cat([before, knots, after])
    a, b, c, d = (padded[start + k] for k in range(4))
    t = t[:, None]
    linear, square = c - a, 2 * a - 5 * b + 4 * c - d
    cubic = 3 * (b - c) + d - a
    curve = b + 0.5 * t * (linear + t * (square + t * cubic))
    # Rounding must not move the given cameras.
    return torch.where(t == 1, c, curve)


def _slerp(
    first: Float[Tensor, "path 3 3"],
    second: Float[Tensor, "path 3 3"],
    t: Float[Tensor, " path"],
) -> Float[Tensor, "path 3 3"]:
    """Rotate from one rotation to another at constant speed by the shortest arc."""
    axis, angle = _axis_angle(first.transpose(-1, -2) @ second)
    mixed = first @ _rotation(axis, t * angle)
    # Rounding must not move the given cameras.
    mixed = torch.where((t == 0)[:, None, None], first, mixed)
    return torch.where((t == 1)[:, None, None], second, mixed)


def _axis_angle(
    rotation: Float[Tensor, "path 3 3"],
) -> tuple[Float[Tensor, "path 3"], Float[Tensor, " path"]]:
    """Unit axis and angle in [0, pi] of rotations (any axis for the identity)."""
    antisymmetric = rotation - rotation.transpose(-1, -2)
    vector = 0.5 * torch.stack(
        [antisymmetric[:, 2, 1], antisymmetric[:, 0, 2], antisymmetric[:, 1, 0]], dim=-1
    )
    sine = vector.norm(dim=-1)
    cosine = 0.5 * (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)
    angle = torch.atan2(sine, cosine)

    # Near half a turn the antisymmetric part vanishes: there the symmetric part is
    # cos I + (1 - cos) a a^T, whose largest column is along the axis.
    symmetric = 0.5 * (rotation + rotation.transpose(-1, -2))
    outer = symmetric - cosine[:, None, None] * torch.eye(3).to(rotation)
    column = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    half_turn = outer[torch.arange(len(outer)), :, column]
    sign = torch.where((half_turn * vector).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    axis = torch.where(cosine[:, None] < -0.5, sign * half_turn, vector)
    return torch.nn.functional.normalize(axis, dim=-1), angle


def _rotation(
    axis: Float[Tensor, "path 3"], angle: Float[Tensor, " path"]
) -> Float[Tensor, "path 3 3"]:
    """Rotation matrices about unit axes (Rodrigues' formula)."""
    identity = torch.eye(3).to(axis).expand(len(axis), 3, 3)
    # Column k of [a]_x is a x e_k.
    cross = torch.linalg.cross(axis[:, :, None].expand_as(identity), identity, dim=1)
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return identity + sine * cross + (1 - cosine) * (cross @ cross)
