"""Solids with an exact ray intersection, and paint on them.

A solid is a canonical shape under an affine map. An affine map keeps the parameter of
a ray, so rays are intersected in the canonical frame and the depth needs no way back.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray
Vector = Sequence[int | float] | Array
MISS = np.float32(np.inf)
CUBE_CORNERS = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), -1).reshape(8, 3)


def dot(
    first: Float[Array, "3 #ray"], second: Float[Array, "3 #ray"]
) -> Float[Array, " ray"]:
    """Scalar products (explicit sums: reductions over so short an axis are slow)."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def affine(
    center: Vector = (0.0, 0.0, 0.0),
    scale: Vector | float = 1.0,
    axis: Vector = (0.0, 0.0, 1.0),
    angle: float = 0.0,
) -> Float[Array, "4 4"]:
    """Scale along the axes, then turn by `angle` radians about `axis`, then shift."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # Rodrigues' formula.
    rotation = np.eye(3) + np.sin(angle) * cross
    rotation = rotation + (1 - np.cos(angle)) * cross @ cross
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.broadcast_to(np.asarray(scale, np.float64), 3)
    matrix[:3, 3] = center
    return matrix


@dataclasses.dataclass(frozen=True)
class Paint:
    """Colours every surface point of its solid inside of a region.

    The region is the image of the unit ball (`round`) or of the cube [-1, 1]^3 under
    `to_world`. Paint has no thickness, so it changes no silhouette.
    """

    to_world: Float[Array, "4 4"]
    color: tuple[float, float, float]
    round: bool = False

    def covers(self, points: Float[Array, "point 3"]) -> Bool[Array, " point"]:
        """Which world points lie in the region."""
        inverse = np.linalg.inv(self.to_world).astype(np.float32)
        local = inverse[:3, :3] @ points.T + inverse[:3, 3:]
        if self.round:
            return dot(local, local) <= 1
        x, y, z = np.abs(local) <= 1
        return x & y & z


@dataclasses.dataclass(frozen=True)
class Solid(abc.ABC):
    """A closed canonical shape under `to_world`, one colour per face."""

    to_world: Float[Array, "4 4"]
    colors: Float[Array, "face 3"]
    paints: tuple[Paint, ...] = ()

    @abc.abstractmethod
    def intersect(
        self, origins: Float[Array, "3 ray"], directions: Float[Array, "3 ray"]
    ) -> tuple[Float[Array, " ray"], Int[Array, " ray"]]:
        """First entry of canonical lines: parameter (any sign) and face.

        The parameter is infinite where the line misses. Origins should lie close to
        the solid: that is what keeps single precision exact.
        """

    @abc.abstractmethod
    def normals(
        self, points: Float[Array, "point 3"], faces: Int[Array, " point"]
    ) -> Float[Array, "point 3"]:
        """Outward canonical normals of canonical surface points (any length)."""

    @abc.abstractmethod
    def bounds(self) -> Float[Array, "2 3"]:
        """Lower and upper corner of the tight world box."""

    def corners(self) -> Float[Array, "8 3"]:
        """World corners of the image of the cube [-1, 1]^3, which holds the solid."""
        return CUBE_CORNERS @ self.to_world[:3, :3].T + self.to_world[:3, 3]

    def moved(self, motion: Float[Array, "4 4"]) -> Solid:
        """The solid and its paint under one more affine map."""
        paints = tuple(
            dataclasses.replace(p, to_world=motion @ p.to_world) for p in self.paints
        )
        return dataclasses.replace(self, to_world=motion @ self.to_world, paints=paints)

    def painted(self, *paints: Paint) -> Solid:
        """The solid with more paint; later paint lies on top."""
        return dataclasses.replace(self, paints=self.paints + paints)


class Ellipsoid(Solid):
    """The unit ball. One face."""

    def intersect(
        self, origins: Float[Array, "3 ray"], directions: Float[Array, "3 ray"]
    ) -> tuple[Float[Array, " ray"], Int[Array, " ray"]]:
        a, b = dot(directions, directions), dot(directions, origins)
        root = b * b - a * (dot(origins, origins) - 1)
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where(root > 0, t, MISS), np.zeros(t.shape, np.int64)

    def normals(
        self, points: Float[Array, "point 3"], faces: Int[Array, " point"]
    ) -> Float[Array, "point 3"]:
        return points

    def bounds(self) -> Float[Array, "2 3"]:
        half = np.linalg.norm(self.to_world[:3, :3], axis=1)
        return np.stack([-half, half]) + self.to_world[:3, 3]


@dataclasses.dataclass(frozen=True)
class Frustum(Solid):
    """A capped cone along z in [-1, 1]. Faces: side, bottom, top.

    The radius is 1 below and `taper` (0 to 1) above: 1 is a cylinder, 0 a cone.
    """

    taper: float = 1.0

    def intersect(
        self, origins: Float[Array, "3 ray"], directions: Float[Array, "3 ray"]
    ) -> tuple[Float[Array, " ray"], Int[Array, " ray"]]:
        # Side: x^2 + y^2 = (p + q z)^2.
        p, q = np.float32(0.5 * (1 + self.taper)), np.float32(0.5 * (self.taper - 1))
        dx, dy, dz = directions
        ox, oy, oz = origins
        base = p + q * oz
        a = dx * dx + dy * dy - q * q * dz * dz
        b = dx * ox + dy * oy - q * dz * base
        c = ox * ox + oy * oy - base * base
        root = b * b - a * c
        root_sqrt = np.sqrt(np.maximum(root, 0))
        best = np.full(dz.shape, MISS)
        faces = np.zeros(dz.shape, np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):
            for sign in (-1, 1):
                t = (-b + sign * root_sqrt) / a
                hit = (root > 0) & (np.abs(oz + t * dz) <= 1) & (t < best)
                np.copyto(best, t, where=hit)
            for face, z, radius in ((1, -1.0, 1.0), (2, 1.0, self.taper)):
                t = (np.float32(z) - oz) / dz
                x, y = ox + t * dx, oy + t * dy
                hit = (x * x + y * y <= radius * radius) & (t < best)
                np.copyto(best, t, where=hit)
                np.copyto(faces, face, where=hit)
        return best, faces

    def normals(
        self, points: Float[Array, "point 3"], faces: Int[Array, " point"]
    ) -> Float[Array, "point 3"]:
        p, q = 0.5 * (1 + self.taper), 0.5 * (self.taper - 1)
        side = points.copy()
        side[:, 2] = -q * (p + q * points[:, 2])
        caps = np.array([[0, 0, 0], [0, 0, -1], [0, 0, 1]], points.dtype)
        return np.where(faces[:, None] == 0, side, caps[faces])

    def bounds(self) -> Float[Array, "2 3"]:
        disc = np.linalg.norm(self.to_world[:3, :2], axis=1)
        axis, center = self.to_world[:3, 2], self.to_world[:3, 3]
        ends = [center - axis, center + axis]
        radii = [disc, self.taper * disc]
        lower = np.min([e - r for e, r in zip(ends, radii, strict=True)], axis=0)
        upper = np.max([e + r for e, r in zip(ends, radii, strict=True)], axis=0)
        return np.stack([lower, upper])


@dataclasses.dataclass(frozen=True)
class Polytope(Solid):
    """The convex set of points x with `planes[:, :3] @ x <= planes[:, 3]`.

    One face per plane. `vertices` are its corners; it lies in [-1, 1]^3.
    """

    planes: Float[Array, "face 4"] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 4))
    )
    vertices: Float[Array, "vertex 3"] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 3))
    )

    def intersect(
        self, origins: Float[Array, "3 ray"], directions: Float[Array, "3 ray"]
    ) -> tuple[Float[Array, " ray"], Int[Array, " ray"]]:
        enter = np.full(directions.shape[1], -MISS)
        leave = np.full(directions.shape[1], MISS)
        faces = np.zeros(directions.shape[1], np.int64)
        planes = self.planes.astype(np.float32)
        slopes = planes[:, :3] @ directions
        gaps = planes[:, 3:] - planes[:, :3] @ origins
        with np.errstate(divide="ignore", invalid="ignore"):
            times = gaps / slopes
        for face, (t, slope, gap) in enumerate(zip(times, slopes, gaps, strict=True)):
            later = (slope < 0) & (t > enter)
            np.copyto(enter, t, where=later)
            np.copyto(faces, face, where=later)
            np.copyto(leave, t, where=(slope > 0) & (t < leave))
            # A line parallel to the plane and outside of it misses.
            np.copyto(leave, -MISS, where=(slope == 0) & (gap < 0))
        return np.where(enter < leave, enter, MISS), faces

    def normals(
        self, points: Float[Array, "point 3"], faces: Int[Array, " point"]
    ) -> Float[Array, "point 3"]:
        return self.planes[:, :3].astype(points.dtype)[faces]

    def bounds(self) -> Float[Array, "2 3"]:
        world = self.vertices @ self.to_world[:3, :3].T + self.to_world[:3, 3]
        return np.stack([world.min(axis=0), world.max(axis=0)])
