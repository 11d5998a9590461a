"""From the worlds of other data sets to ours: right-handed, z up."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Y_UP: Float[ndarray, "4 4"] = np.array(
    [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64
)
"""Turns a y-up world (ShapeNet) into ours: x stays, y becomes z, z becomes -y."""

OPENCV_CAMERA: Float[ndarray, "4 4"] = np.array(
    [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64
)
"""Turns a world with the axes of an upright OpenCV camera (x right, y down, z forward:
that of the first frame, as trackers have it) into ours: x stays, z becomes y, y -z."""

ROLL_TRUST = 0.01
"""How far cameras' sideways axes speak for the horizon; see `leveling_rotation`."""


def leveling_rotation(
    extrinsics: Float[ndarray, "view 4 4"],
) -> Float[ndarray, "4 4"]:
    """The rotation of an arbitrary world that makes z the upward axis of its cameras.

    A camera that is held level has its x axis in the horizontal plane, and its -y
    axis points upwards more than downwards. So up is u = (X + c)^-1 m, normalised,
    with the mean m of the cameras' -y axes, X the mean of x x^T over their x axes and
    c = 0.01: where the cameras go round the object, u is perpendicular to their x
    axes; where they stay on one side, which tells little, it is near m.
    """
    sideways, upward = extrinsics[:, :3, 0], -extrinsics[:, :3, 1]
    spread = sideways.T @ sideways / len(extrinsics)
    up = np.linalg.solve(spread + ROLL_TRUST * np.eye(3), upward.mean(0))
    up = up / max(np.linalg.norm(up), 1e-12)
    axis = np.cross(up, [0.0, 0.0, 1.0])
    sine, cosine = np.linalg.norm(axis), up[2]
    turn = np.eye(4)
    if sine > 1e-9:
        x, y, z = axis / sine
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        # Rodrigues' formula.
        turn[:3, :3] += sine * cross + (1 - cosine) * cross @ cross
    elif cosine < 0:
        turn = np.diag([1.0, -1.0, -1.0, 1.0])
    return turn
