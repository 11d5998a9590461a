"""Scenes side by side, each as if it alone stood before the browser's camera."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.viewer.sample import Sphere

SPACING = 2.1
"""Distance between neighbours, in radii of their spheres."""


@dataclasses.dataclass(frozen=True)
class Viewpoint:
    """The browser's camera: camera-to-world (OpenCV), full vertical field of view in
    radians, and width by height of its picture."""

    extrinsics: Float[Tensor, "4 4"]
    fov: float
    aspect: float

    @property
    def intrinsics(self) -> Float[Tensor, "3 3"]:
        """Normalised, as those of `Cameras`."""
        focal = 0.5 / math.tan(0.5 * self.fov)
        rows = [[focal / self.aspect, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]
        return torch.tensor(rows, dtype=torch.float32)


def rigid(
    wxyz: Float[ndarray, "4"], position: Float[ndarray, "3"]
) -> Float[Tensor, "4 4"]:
    """A unit quaternion and a translation as a matrix."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_quat(wxyz, scalar_first=True).as_matrix()
    motion[:3, 3] = position
    return torch.from_numpy(motion).float()


def pose(
    motion: Float[Tensor, "4 4"],
) -> tuple[Float[ndarray, "4"], Float[ndarray, "3"]]:
    """The inverse of `rigid`."""
    rotation = Rotation.from_matrix(motion[:3, :3].double().numpy())
    return rotation.as_quat(scalar_first=True), motion[:3, 3].double().numpy()


def choose_columns(count: int, aspect: float) -> int:
    """Columns of a grid of `count` squares that leaves most room to each."""

    def side(columns: int) -> float:
        return min(aspect / columns, 1 / math.ceil(count / columns))

    return max(range(1, count + 1), key=lambda columns: (side(columns), -columns))


def viewing_distance(count: int, sphere: Sphere, fov: float, aspect: float) -> float:
    """How far from the middle of `count` scenes a camera sees all of them."""
    columns = choose_columns(count, aspect)
    rows = math.ceil(count / columns)
    half = 0.5 * SPACING * sphere.radius * max(columns / aspect, rows)
    return half / math.tan(0.5 * fov) + 0.5 * sphere.radius


def arrange(
    count: int, viewpoint: Viewpoint, sphere: Sphere
) -> list[Float[Tensor, "4 4"]]:
    """Motions (scene to world) of `count` scenes that fill `sphere` in their own frame.

    They stand in a grid that is parallel to the picture and centred on the sphere, and
    each is turned so that the camera sees it from the direction from which it would
    see it in the middle: whatever the camera does, all scenes show the same side.
    """
    columns = choose_columns(count, viewpoint.aspect)
    rows = math.ceil(count / columns)
    right, down = viewpoint.extrinsics[:3, 0], viewpoint.extrinsics[:3, 1]
    toward = viewpoint.extrinsics[:3, 3] - sphere.center
    motions = []
    for i in range(count):
        row, column = divmod(i, columns)
        # The last row is centred, too.
        in_row = min(columns, count - row * columns)
        offset = SPACING * sphere.radius * (column - 0.5 * (in_row - 1)) * right
        offset = offset + SPACING * sphere.radius * (row - 0.5 * (rows - 1)) * down
        motion = torch.eye(4)
        motion[:3, :3] = _turn(toward, toward - offset)
        motion[:3, 3] = sphere.center + offset - motion[:3, :3] @ sphere.center
        motions.append(motion)
    return motions


def _turn(source: Float[Tensor, "3"], target: Float[Tensor, "3"]) -> Tensor:
    """The smallest rotation from one direction to another, (3, 3)."""
    axis = torch.linalg.cross(source, target).double()
    sine, cosine = float(axis.norm()), float(source.double() @ target.double())
    if sine < 1e-9:
        return torch.eye(3)
    vector = (axis / sine * math.atan2(sine, cosine)).numpy()
    return torch.from_numpy(Rotation.from_rotvec(vector).as_matrix()).float()


@dataclasses.dataclass(frozen=True)
class Window:
    """A rectangle of pixels: rows and columns, from (inclusive) and to (exclusive)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def bands(self, pixels: int) -> list[Window]:
        """Cut into bands of rows of about `pixels` each, from the top."""
        height, width = self.size
        step = max(1, pixels // width)
        return [
            dataclasses.replace(
                self, top=self.top + i, bottom=self.top + min(i + step, height)
            )
            for i in range(0, height, step)
        ]


def find_window(
    viewpoint: Viewpoint,
    motion: Float[Tensor, "4 4"],
    sphere: Sphere,
    size: tuple[int, int],
) -> Window | None:
    """The pixels of an image of (height, width) that may show a moved sphere."""
    center = motion[:3, :3] @ sphere.center + motion[:3, 3]
    extrinsics, r = viewpoint.extrinsics, sphere.radius
    x, y, z = (extrinsics[:3, :3].T @ (center - extrinsics[:3, 3])).tolist()
    if z + r <= 0:
        return None
    ranges = []
    focals = viewpoint.intrinsics.diagonal()[:2].tolist()
    for middle, focal, count in ((y, focals[1], size[0]), (x, focals[0], size[1])):
        low, high = _interval(middle, z, r)
        first = max(0, math.floor((0.5 + focal * low) * count))
        last = min(count, math.ceil((0.5 + focal * high) * count))
        ranges += [first, last]
    found = Window(*ranges)
    return found if min(found.size) > 0 else None


def _interval(middle: float, depth: float, radius: float) -> tuple[float, float]:
    """Slopes between which a disk of `radius` at (middle, depth) is seen from 0."""
    distance = math.hypot(middle, depth)
    if distance <= radius:
        return -1e3, 1e3
    angle, half = math.atan2(middle, depth), math.asin(radius / distance)
    limit = math.pi / 2 - 1e-3
    low, high = max(angle - half, -limit), min(angle + half, limit)
    return math.tan(low), math.tan(high)


def window_camera(
    viewpoint: Viewpoint,
    motion: Float[Tensor, "4 4"],
    sphere: Sphere,
    size: tuple[int, int],
    window: Window,
) -> Cameras:
    """The camera (1,), in a scene's own frame, of a window of an image of `size`.

    Its depth range is that of the sphere.
    """
    extrinsics = torch.linalg.inv(motion) @ viewpoint.extrinsics
    (rows, columns), (height, width) = size, window.size
    cut = torch.tensor(
        [
            [columns / width, 0, -window.left / width],
            [0, rows / height, -window.top / height],
            [0, 0, 1],
        ]
    )
    depth = float(extrinsics[:3, 2] @ (sphere.center - extrinsics[:3, 3]))
    near = max(depth - sphere.radius, 0.02 * sphere.radius)
    far = max(depth + sphere.radius, near + 0.1 * sphere.radius)
    return Cameras(
        extrinsics[None],
        (cut @ viewpoint.intrinsics)[None],
        torch.tensor([near]),
        torch.tensor([far]),
    )
