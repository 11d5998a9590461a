"""From the camera axes and worlds of other formats to ours.

Ours: camera to world, OpenCV's axes (x right, y down, z forward), world z up.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

NEAREST = 0.02
"""near is at least this share of far: a frustum that begins at the eye is useless."""

RELATIVE_RADIUS = 0.5 / 1.3
"""Radius of an object over the camera's distance where nothing states it.

The bounds in use for the released ShapeNet-SRN sets are 0.8 and 1.8 at distance 1.3
for cars, 1.25 and 2.75 at distance 2 for chairs: one ratio fits both.
"""


Y_UP: Float[np.ndarray, "4 4"] = np.array(
    [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64
)
"""Turns a y-up world (ShapeNet) into ours: x stays, y becomes z, z becomes -y."""

OPENCV_CAMERA: Float[np.ndarray, "4 4"] = np.array(
    [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64
)
"""Turns a world with the axes of an upright OpenCV camera (x right, y down, z forward:
that of the first frame, as trackers have it) into ours: x stays, z becomes y, y -z."""


def from_opengl(
    poses: Float[Tensor, "*batch 4 4"],
) -> Float[Tensor, "*batch 4 4"]:
    """Camera to world with OpenGL's camera axes (x right, y up, z back) to OpenCV's.

    Blender has the same camera axes.
    """
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0]).to(poses)
    return poses * flip


def from_llff(poses: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Camera to world with LLFF's camera axes (x down, y right, z back) to OpenCV's."""
    down, right, back, center = poses.unbind(dim=-1)
    return torch.stack([right, down, -back, center], dim=-1)


def invert(poses: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """World to camera to camera to world, or back, by transposing the rotation."""
    rotation = poses[..., :3, :3].mT
    result = poses.clone()
    result[..., :3, :3] = rotation
    result[..., :3, 3:] = -rotation @ poses[..., :3, 3:]
    return result


def turn_upright(
    poses: Float[Tensor, "view 4 4"],
) -> Float[Tensor, "4 4"] | None:
    """The smallest rotation of the world that makes the mean up vector of cameras +z.

    None where the cameras have no common up (the mean of their unit up vectors is
    shorter than 0.1), as for a camera that rolled all around.
    """
    mean = -poses[:, :3, 1].mean(dim=0)
    length = float(mean.norm())
    if not length > 0.1:
        return None
    up, vertical = mean / length, torch.tensor([0.0, 0.0, 1.0]).to(mean)
    axis = torch.linalg.cross(up, vertical)
    sine, cosine = float(axis.norm()), float(up @ vertical)
    if sine < 1e-9:
        # Already upright, or upside down: then half a turn around x.
        axis, sine = torch.tensor([1.0, 0.0, 0.0]).to(mean), 0.0
    else:
        axis = axis / sine
    cross = torch.zeros(3, 3).to(mean)
    cross[0, 1], cross[0, 2], cross[1, 2] = -axis[2], axis[1], -axis[0]
    cross = cross - cross.T
    # Rodrigues' formula.
    motion = torch.eye(4).to(mean)
    motion[:3, :3] += sine * cross + (1 - cosine) * cross @ cross
    return motion


def focus_point(poses: Float[Tensor, "view 4 4"]) -> Float[Tensor, "3"] | None:
    """The point nearest (in least squares) to all optical axes.

    None where the axes are nearly parallel, or where the point is behind most of the
    cameras: then they do not look at one thing.
    """
    directions, centers = poses[:, :3, 2], poses[:, :3, 3]
    identity = torch.eye(3).to(poses)
    away = identity - directions[:, :, None] * directions[:, None, :]
    system = away.mean(dim=0)
    # Smallest eigenvalue: the mean squared sine between the axes and their bundle.
    if float(torch.linalg.eigvalsh(system)[0]) < math.sin(math.radians(2)) ** 2:
        return None
    point = torch.linalg.solve(system, (away @ centers[:, :, None]).mean(dim=0))[:, 0]
    depths = ((point - centers) * directions).sum(dim=1)
    return point if float(depths.median()) > 0 else None


def bounds_around(
    poses: Float[Tensor, "view 4 4"], center: Float[Tensor, "3"], radius: float
) -> tuple[Float[Tensor, "view"], Float[Tensor, "view"]]:
    """near and far (depths) of a ball; near is at least `NEAREST` of far."""
    offset = center - poses[:, :3, 3]
    depth = (offset * poses[:, :3, 2]).sum(dim=1)
    # A camera that looks away from the ball still gets a frustum that can be used.
    far = torch.where(depth > 0, depth, offset.norm(dim=1)) + radius
    return torch.maximum(depth - radius, NEAREST * far), far


def bounds_of_cameras(
    poses: Float[Tensor, "view 4 4"], share: float
) -> tuple[Float[Tensor, "view"], Float[Tensor, "view"], str | None] | None:
    """near and far where no file states them, and a sentence if they are a guess.

    Cameras that look at one point (see `focus_point`): its depth -+ `share` of its
    mean distance. Others: a tenth and ten times the spread of the cameras around
    their mean, which is a guess. None for cameras at one place.
    """
    center = focus_point(poses)
    if center is not None:
        distance = (center - poses[:, :3, 3]).norm(dim=1).mean()
        near, far = bounds_around(poses, center, share * float(distance))
        return near, far, None
    centers = poses[:, :3, 3]
    spread = float((centers - centers.mean(dim=0)).norm(dim=1).max())
    if not spread > 1e-9:
        return None
    ones = torch.ones(len(poses)).to(poses)
    guess = "the cameras do not look at one point, so near and far are guesses"
    return 0.1 * spread * ones, 10 * spread * ones, guess


def pose_matrix(numbers: object) -> Float[Tensor, "4 4"] | None:
    """A pose from 3x4 or 4x4 numbers, completed to 4x4; None where it is no matrix."""
    try:
        array = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if array.shape not in ((3, 4), (4, 4)):
        return None
    result = torch.eye(4, dtype=torch.float64)
    result[: len(array)] = torch.from_numpy(array)
    return result
