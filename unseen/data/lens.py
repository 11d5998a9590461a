"""Lens distortion, and images without it.

Brown-Conrady's model as OpenCV and COLMAP have it: an ideal image point (x, y) on the
plane z = 1, r^2 = x^2 + y^2, is seen at

    x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)
    y (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p2 x y + p1 (r^2 + 2 y^2)
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Lens:
    """Coefficients of a lens's distortion; all zero is none."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    @property
    def distorts(self) -> bool:
        """Whether any coefficient is not zero."""
        return any(dataclasses.astuple(self))

    def distort(self, xy: Float[Tensor, "*point 2"]) -> Float[Tensor, "*point 2"]:
        """Where ideal points (on the plane z = 1) are seen."""
        square = xy.square().sum(dim=-1, keepdim=True)
        radial = 1 + square * (self.k1 + square * (self.k2 + square * self.k3))
        product = 2 * xy[..., :1] * xy[..., 1:]
        tangential = torch.tensor([self.p1, self.p2]).to(xy) * product
        swapped = torch.tensor([self.p2, self.p1]).to(xy)
        return xy * radial + tangential + swapped * (square + 2 * xy.square())


NO_DISTORTION = Lens()


def undistort(
    image: Float[Tensor, "channel height width"],
    intrinsics: Float[Tensor, "3 3"],
    lens: Lens,
) -> Float[Tensor, "channel height width"]:
    """What a pinhole camera of the same (normalised) intrinsics would have seen.

    Bilinear; beyond the photograph's border its outermost pixels continue.
    """
    height, width = image.shape[-2:]
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height,
        (torch.arange(width) + 0.5) / width,
        indexing="ij",
    )
    focal, center = intrinsics.diagonal()[:2].float(), intrinsics[:2, 2].float()
    ideal = (torch.stack([columns, rows], dim=-1) - center) / focal
    seen = lens.distort(ideal) * focal + center
    return torch.nn.functional.grid_sample(
        image[None],
        2 * seen[None] - 1,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[0]
