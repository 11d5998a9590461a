"""The pose that CodeNeRF fits together with the codes.

What is fitted is one rigid motion for each object, from the user's world into the frame
that the network was trained in, so that several views of one object stay a rigid rig.
For one view that is the same as the camera's pose.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry.cameras import look_at
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class PoseConfig:
    """Whether and how the pose is fitted. The released code takes it as given."""

    mode: Literal["given", "refine", "sphere"] = "given"
    """"given": cameras are right. "refine": they are nearly right; a rotation about the
    world's origin and a shift are fitted. "sphere": the first camera looks at the
    middle of the object from an unknown direction and distance."""

    rate: float = 1.0
    """Step length relative to that of the codes: radians, and units of length."""

    radius: float | None = None
    """"sphere": first guess of the distance (the authors': 1.3); None is the middle of
    the camera's depth range."""

    elevation: float = 0.5
    """"sphere": first guess of the elevation, in radians (the authors': 0.5)."""

    azimuths: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)
    """"sphere": guesses of the azimuth, in degrees. Each is tried, and the one that
    ends with the smallest loss is kept."""


def pose_start(
    config: PoseConfig, context: Views
) -> Float[Tensor, "batch start parameter"] | None:
    """Where the pose's parameters start; None where the pose is given.

    They are (rotation vector, shift) in "refine" mode, and (azimuth, elevation, log
    distance) of the first camera in "sphere" mode.

    Raises:
        UserError: there is no azimuth to start from.
    """
    images, batch = context.images, context.shape[0]
    if config.mode == "given":
        return None
    if config.mode == "refine":
        return images.new_zeros(batch, 1, 6)
    if not config.azimuths:
        raise UserError("name at least one azimuth to start the camera's pose from.")
    first = context.cameras[:, 0]
    distance = 0.5 * (first.near + first.far)
    if config.radius is not None:
        distance = torch.full_like(distance, config.radius)
    azimuths = images.new_tensor([math.radians(a) for a in config.azimuths])
    shape = (batch, len(azimuths))
    return torch.stack(
        [
            azimuths.expand(shape),
            torch.full_like(azimuths, config.elevation).expand(shape),
            distance.log()[:, None].expand(shape),
        ],
        dim=-1,
    )


def placed(
    config: PoseConfig,
    views: Views,
    base: Float[Tensor, "batch parameter"] | None,
    offset: Float[Tensor, "batch parameter"] | None,
) -> Float[Tensor, "batch 4 4"]:
    """The motions from the world of `views` into the network's frame.

    `offset` is what is added to the starting parameters `base`: weight decay pulls it
    back to where it started.
    """
    identity = torch.eye(4).to(views.images).expand(views.shape[0], 4, 4)
    if base is None or offset is None:
        return identity
    parameters = base + offset
    if config.mode == "refine":
        top = torch.cat([rotation(parameters[:, :3]), parameters[:, 3:, None]], dim=-1)
        return torch.cat([top, identity[:, 3:]], dim=1)
    azimuth, elevation, log_distance = parameters.unbind(dim=-1)
    outward = torch.stack(
        [
            elevation.cos() * azimuth.cos(),
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
        ],
        dim=-1,
    )
    centers = log_distance.exp()[:, None] * outward
    cameras = look_at(centers, torch.zeros_like(centers))
    return cameras @ torch.linalg.inv(views.cameras.extrinsics[:, 0])


def rotation(vectors: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """Rotation matrices of rotation vectors (axis times angle in radians)."""
    x, y, z = vectors.unbind(dim=-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.linalg.matrix_exp(torch.stack(rows, dim=-1).unflatten(-1, (3, 3)))
