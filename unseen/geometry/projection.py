"""World points to image points."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras


def world_to_camera(
    cameras: Cameras, points: Float[Tensor, "*#batch point 3"]
) -> Float[Tensor, "*batch point 3"]:
    """World points in the camera frame (z is the depth)."""
    rotation = cameras.extrinsics[..., :3, :3]
    offset = points - cameras.centers[..., None, :]
    return torch.einsum("...ji,...pj->...pi", rotation, offset)


def project(
    cameras: Cameras, points: Float[Tensor, "*#batch point 3"]
) -> tuple[Float[Tensor, "*batch point 2"], Float[Tensor, "*batch point"]]:
    """Normalised image points and depths (z, world units) of world points.

    Points at or behind the camera plane (depth <= 0) project nowhere: their image
    point is put far outside of the image, at -10.
    """
    local = world_to_camera(cameras, points)
    depth = local[..., 2]
    front = depth > 1e-6
    safe = torch.where(front, depth, torch.ones_like(depth))[..., None]
    homogeneous = torch.einsum("...ij,...pj->...pi", cameras.intrinsics, local / safe)
    xy = torch.where(front[..., None], homogeneous[..., :2], -10.0)
    return xy, depth
