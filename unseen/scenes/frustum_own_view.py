"""Rendering frustum volumes at the camera of one of their own views, fast.

If rays go through the pixel centres of a view and samples lie on its slices, they are
the voxels of its volume: nothing has to be looked up. What the other views say at
those points does not change while the view is denoised: it is looked up once.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.rendering.sampling import sample_uniform
from unseen.scenes.frustum_volume import (
    FrustumVolumeScene,
    composite_pixels,
    pool_views,
)
from unseen.scenes.scene import PixelRendering


@dataclasses.dataclass(frozen=True)
class OwnView:
    """The sample points of a view's own voxels, and what the other views say there."""

    found: Float[Tensor, "batch view point channel"]
    inside: Bool[Tensor, "batch view point"]
    depths: Float[Tensor, "batch 1 sample"]
    lengths: Float[Tensor, "batch pixel sample"]
    far: Float[Tensor, "batch 1"]
    background: Float[Tensor, "3"]

    @staticmethod
    def prepare(
        others: FrustumVolumeScene, cameras: Cameras, size: tuple[int, int]
    ) -> OwnView:
        """For the views `cameras` (batch,), beside the views of the scenes `others`.

        `size` is the (height, width) of the volumes; they have as many slices as the
        others' have.
        """
        slices = others.volumes.shape[-2]
        origins, directions = image_rays(cameras, size)
        depths, intervals = sample_uniform(cameras.near, cameras.far, slices)
        points = origins[:, :, None] + depths[:, None, :, None] * directions[:, :, None]
        found, inside = others.look_up(points.flatten(1, 2))
        lengths = intervals[:, None] * directions.norm(dim=-1, keepdim=True)
        return OwnView(
            found,
            inside,
            depths[:, None],
            lengths,
            cameras.far[:, None],
            others.background,
        )

    def render(
        self, volume: Float[Tensor, "batch height width slice channel"]
    ) -> PixelRendering:
        """All pixels, row by row, of the others' scenes joined by the own volume."""
        own = volume.flatten(1, 3)[:, None]
        found = torch.cat([self.found, own], dim=1)
        inside = torch.cat([self.inside, torch.ones_like(self.inside[:, :1])], dim=1)
        density, values = pool_views(found, inside)
        density = density.unflatten(1, self.lengths.shape[1:])
        values = values.unflatten(1, self.lengths.shape[1:])
        return composite_pixels(
            density, values, self.depths, self.lengths, self.far, self.background
        )
