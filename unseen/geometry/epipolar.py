"""Two-view geometry in normalised image coordinates."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras


def fundamental_matrices(
    first: Cameras, second: Cameras
) -> Float[Tensor, "*batch 3 3"]:
    """Fundamental matrices F with x2^T F x1 = 0 for corresponding points.

    Points are homogeneous normalised image points (x, y, 1) of the two cameras
    (Hartley and Zisserman, equation 9.1, with F = K2^-T [t]_x R K1^-1). F is zero
    where the cameras share their centre.
    """
    rotation_second = second.extrinsics[..., :3, :3].transpose(-1, -2)
    rotation = rotation_second @ first.extrinsics[..., :3, :3]
    offset = (first.centers - second.centers)[..., None]
    translation = (rotation_second @ offset).squeeze(-1)
    # Column k of [t]_x R is t x (column k of R).
    essential = torch.linalg.cross(
        translation[..., None].expand_as(rotation), rotation, dim=-2
    )
    inverse_first = torch.linalg.inv(first.intrinsics)
    inverse_second = torch.linalg.inv(second.intrinsics)
    return inverse_second.transpose(-1, -2) @ essential @ inverse_first


def epipolar_lines(
    fundamental: Float[Tensor, "*batch 3 3"], xy: Float[Tensor, "*batch point 2"]
) -> Float[Tensor, "*batch point 3"]:
    """Lines a x + b y + c = 0 in the second image of points in the first.

    Scaled such that a^2 + b^2 = 1; all zero for a point whose line is not defined.
    """
    homogeneous = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)
    lines = torch.einsum("...ij,...pj->...pi", fundamental, homogeneous)
    return lines / lines[..., :2].norm(dim=-1, keepdim=True).clamp(min=1e-12)


def epipolar_distance(
    first: Cameras,
    second: Cameras,
    xy_first: Float[Tensor, "*batch point 2"],
    xy_second: Float[Tensor, "*batch point 2"],
) -> Float[Tensor, "*batch point"]:
    """Distance of points in the second image from the epipolar lines of the first's.

    In normalised image units: 1 is the image's width and height. Zero for the images
    of one world point.
    """
    lines = epipolar_lines(fundamental_matrices(first, second), xy_first)
    return ((lines[..., :2] * xy_second).sum(dim=-1) + lines[..., 2]).abs()
