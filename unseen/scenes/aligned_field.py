"""A radiance field that is aligned with the pixels of several views.

A world point is seen in every view's camera frame and picks up that view's image
feature where it projects; an MLP turns this into density, colour and features
(pixelNeRF, Yu et al. 2021, section 4; with time, DFM, Tewari et al. 2023).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.geometry.rays import PixelGrid
from unseen.networks.resnet_fc import TimeResnetFC
from unseen.rendering.interpolation import lookup, trilinear_corners


def look_up_views(
    maps: Float[Tensor, "batch view channel height width"],
    cameras: Cameras,
    local: Float[Tensor, "batch view point 3"],
    pixel_grid: PixelGrid,
) -> Float[Tensor, "batch view point channel"]:
    """Bilinear features of camera-frame points, the border's outside of the image.

    A point behind the camera gets the feature of its mirror image, as in DFM's code:
    the field sees the sign of its depth.
    """
    height, width = maps.shape[-2:]
    homogeneous = torch.einsum("bvij,bvpj->bvpi", cameras.intrinsics, local)
    depth = local[..., 2:] + 1e-9
    extent = local.new_tensor([width, height])
    xy = homogeneous[..., :2] / depth
    if pixel_grid == "corners":
        xy = (xy * (extent - 1) + 0.5) / extent
    # Clamped to the outermost pixel centres, interpolation is border padding.
    xy = torch.minimum(torch.maximum(xy, 0.5 / extent), 1 - 0.5 / extent)
    xyz = torch.cat([xy, torch.full_like(depth, 0.5)], dim=-1).flatten(0, 1)
    corners = trilinear_corners(xyz, (1, height, width))
    found = lookup(maps.flatten(0, 1)[:, :, None], corners)
    return found.unflatten(0, maps.shape[:2])


@dataclasses.dataclass(frozen=True)
class AlignedField:
    """An MLP and what it knows of the views; batched over scenes, or one scene.

    `maps` are the views' features through `TimeResnetFC.project_features`, `steps`
    the views' diffusion steps (0 for clean ones), `step` the one at which their
    average is treated. At most `max_points` points times views are evaluated at a
    time; where gradients are needed, each such piece is evaluated again in the
    backward pass.
    """

    network: TimeResnetFC
    maps: Float[Tensor, "*batch view width height_map width_map"]
    cameras: Cameras
    steps: Float[Tensor, "*batch view"]
    step: Float[Tensor, "*batch"]
    pixel_grid: PixelGrid = "centers"
    max_points: int = 65536

    def __getitem__(self, index: Any) -> AlignedField:
        """Index the batch axis."""
        return dataclasses.replace(
            self,
            maps=self.maps[index],
            cameras=self.cameras[index],
            steps=self.steps[index],
            step=self.step[index],
        )

    def sum_views(
        self, points: Float[Tensor, "batch point 3"], views: slice = slice(None)
    ) -> Float[Tensor, "batch point width"]:
        """What the chosen views say of world points, summed.

        For clean views it does not depend on the noise level of the others, so that
        a sampler can compute it once (see `query`).
        """
        cameras = self.cameras[:, views]
        local = world_to_camera(cameras, points[:, None])
        found = look_up_views(self.maps[:, views], cameras, local, self.pixel_grid)
        film = self.network.film(self.steps[:, views])
        return self.network.embed(local, found, film).sum(dim=1)

    def sum_views_in_pieces(
        self, points: Float[Tensor, "batch point 3"], views: slice
    ) -> Float[Tensor, "batch point width"]:
        """`sum_views` with bounded memory for all but its result."""
        pieces = [self.sum_views(piece, views) for piece in self._split(points)]
        return torch.cat(pieces, dim=1)

    def query_plain(
        self,
        points: Float[Tensor, "batch point 3"],
        known: Float[Tensor, "batch point width"] | None = None,
        num_known: int = 0,
    ) -> Float[Tensor, "batch point channel"]:
        """`query`, all points at once."""
        if known is None:
            total = self.sum_views(points)
        else:
            total = known + self.sum_views(points, slice(num_known, None))
        mean = total / self.steps.shape[1]
        out = self.network.decode(mean, self.network.film(self.step))
        return torch.cat(
            [out[..., 3:4].relu(), out[..., :3].sigmoid(), out[..., 4:]], dim=-1
        )

    def query(
        self,
        points: Float[Tensor, "batch point 3"],
        known: Float[Tensor, "batch point width"] | None = None,
        num_known: int = 0,
    ) -> Float[Tensor, "batch point channel"]:
        """Density (>= 0), colour in [0, 1] (3) and features at world points.

        `known` is `sum_views` of the first `num_known` views at the same points: it
        is not computed again.
        """
        split = self._split(points)
        sums = [None] * len(split) if known is None else self._split(known)
        plain = self.query_plain
        if len(split) > 1 and torch.is_grad_enabled():
            out = [
                checkpoint(plain, p, s, num_known, use_reentrant=False)
                for p, s in zip(split, sums, strict=True)
            ]
        else:
            out = [plain(p, s, num_known) for p, s in zip(split, sums, strict=True)]
        return torch.cat(out, dim=1)  # type: ignore[arg-type]

    def _split(
        self, x: Float[Tensor, "batch point channel"]
    ) -> tuple[Float[Tensor, "batch piece channel"], ...]:
        return x.split(max(1, self.max_points // self.steps.numel()), dim=1)
