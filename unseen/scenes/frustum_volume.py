"""A scene made of view frustums: each view contributes a volume in its own camera.

The volume of a view is a grid over its image and over depth, between the camera's
near and far. A world point collects what each view says of it by trilinear
interpolation of that view's volume, before any non-linearity. Evidence for density
is added; colours are averaged with the weights that the views give themselves.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.rays import pixel_rays
from unseen.rendering.compositing import composite, composite_weights
from unseen.rendering.interpolation import lookup, trilinear_corners
from unseen.rendering.rendering import Rendering
from unseen.rendering.sampling import sample_uniform
from unseen.scenes.scene import FieldScene, PixelRendering

# Density is GAIN * softplus(evidence + BIAS): an untrained volume is a thin fog
# (optical depth near 1 over the unit sphere), and moderate evidence makes a surface.
GAIN, BIAS = 20.0, -3.5
DENSITY, CONFIDENCE, COLOR = 0, 1, slice(2, 5)
"""Channels of a volume; the channels after colour are features."""


@dataclasses.dataclass(frozen=True)
class FrustumVolumeScene(FieldScene):
    """Volumes of logits in the frustums of `cameras`.

    Slices are equally spaced in depth, from near to far. Channels of `volumes` are density evidence, log confidence, colour logits (3), and
    any number of features. `num_samples` is the number of samples along a ray.
    """

    volumes: Float[Tensor, "*batch view height width slice channel"]
    cameras: Cameras
    background: Float[Tensor, "3"]
    num_samples: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.cameras.shape[:-1])

    def __getitem__(self, index: int | slice) -> FrustumVolumeScene:
        return dataclasses.replace(
            self, volumes=self.volumes[index], cameras=self.cameras[index]
        )

    def _query(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[
        Float[Tensor, "*batch point"], Float[Tensor, "*batch point value"]
    ]:
        """Density, and colour followed by features."""
        per_view = points[..., None, :, :]
        xy, depth = project(self.cameras, per_view)
        near, far = self.cameras.near[..., None], self.cameras.far[..., None]
        z = (depth - near) / (far - near)
        # The last axis of the grid is the fastest one: slices, then columns, rows.
        coordinates = torch.stack([z, xy[..., 0], xy[..., 1]], dim=-1)
        height, width, slices = self.volumes.shape[-4:-1]
        corners = trilinear_corners(
            coordinates.flatten(0, -3), (height, width, slices)
        )
        table = self.volumes.flatten(0, -5).movedim(-1, 1)
        found = lookup(table, corners)
        found = found.reshape(*coordinates.shape[:-1], -1)
        inside = ((coordinates >= 0) & (coordinates <= 1)).all(dim=-1)
        return _pool(found, inside)

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        density, values = self._query(points)
        return density, values[..., :3]

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        origins, directions = pixel_rays(cameras, size, pixels)
        # Jitter whole rays, not samples: the slices stay equally spaced, so that no
        # two samples fall into the same voxel while another is skipped.
        near, far = cameras.near, cameras.far
        depths, intervals = sample_uniform(near, far, self.num_samples, None)
        depths = depths[..., None, :].expand(*pixels.shape, -1)
        if generator is not None:
            jitter = torch.rand(pixels.shape, generator=generator).to(depths)
            depths = depths + (jitter[..., None] - 0.5) * intervals[..., None, :]
        points = origins[..., None, :] + depths[..., None] * directions[..., None, :]
        density, values = self._query(points.flatten(len(self.shape), -2))
        density = density.reshape(depths.shape)
        values = values.reshape(*depths.shape, -1)
        lengths = intervals[..., None, :] * directions.norm(dim=-1, keepdim=True)
        weights = composite_weights(density, lengths.expand_as(density))
        return self._composite(weights, values, depths, far)

    def _composite(
        self,
        weights: Float[Tensor, "*pixel sample"],
        values: Float[Tensor, "*pixel sample value"],
        depths: Float[Tensor, "*pixel sample"],
        far: Float[Tensor, "*batch"],
    ) -> PixelRendering:
        opacity = weights.sum(dim=-1)
        composited = composite(weights, values)
        missed = 1 - opacity
        color = composited[..., :3] + missed[..., None] * self.background
        depth = (weights * depths).sum(dim=-1) + missed * far[..., None]
        features = composited[..., 3:] if values.shape[-1] > 3 else None
        return PixelRendering(color, depth, opacity, features)

    def render(
        self, cameras: Cameras, size: tuple[int, int], chunk: int = 2**21
    ) -> Rendering:
        """See `Scene.render`; `chunk` bounds the number of samples held at once."""
        height, width = size
        lead = cameras.shape.numel()
        step = max(chunk // (self.num_samples * max(lead, 1)), 1)
        index = torch.arange(height * width, device=cameras.device)
        index = index.expand(*cameras.shape, -1)
        parts = [
            self.render_pixels(cameras, size, index[..., i : i + step])
            for i in range(0, height * width, step)
        ]

        def image(name: str) -> Tensor:
            return torch.cat([getattr(p, name) for p in parts], dim=len(cameras.shape))

        def channels(name: str) -> Tensor:
            return image(name).transpose(-1, -2).unflatten(-1, size)

        features = None if parts[0].features is None else channels("features")
        return Rendering(
            channels("color"),
            image("depth").unflatten(-1, size),
            image("opacity").unflatten(-1, size),
            features,
        )

    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box around the part of the world where cameras' depth ranges meet."""
        forward = self.cameras.extrinsics[..., :3, 2]
        middle = 0.5 * (self.cameras.near + self.cameras.far)
        center = self.cameras.centers + middle[..., None] * forward
        radius = 0.5 * (self.cameras.far - self.cameras.near)
        low = (center - radius[..., None]).reshape(-1, 3).amin(dim=0)
        high = (center + radius[..., None]).reshape(-1, 3).amax(dim=0)
        return torch.stack([low, high])

    def tensors(self) -> dict[str, Tensor]:
        return {
            "volumes": self.volumes,
            "extrinsics": self.cameras.extrinsics,
            "intrinsics": self.cameras.intrinsics,
            "near": self.cameras.near,
            "far": self.cameras.far,
            "background": self.background,
        }

    def config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> FrustumVolumeScene:
        cameras = Cameras(
            tensors["extrinsics"],
            tensors["intrinsics"],
            tensors["near"],
            tensors["far"],
        )
        return cls(
            tensors["volumes"], cameras, tensors["background"], config["num_samples"]
        )


def _pool(
    found: Float[Tensor, "*batch view point channel"],
    inside: Bool[Tensor, "*batch view point"],
) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point value"]]:
    """Merge what the views say of points: density, and colour with features."""
    evidence = found[..., DENSITY].sum(dim=-2)
    density = GAIN * functional.softplus(evidence + BIAS)
    density = density * inside.any(dim=-2)
    confidence = found[..., CONFIDENCE].masked_fill(~inside, -1e4)
    share = confidence.softmax(dim=-2)
    values = (share[..., None] * found[..., COLOR.start :]).sum(dim=-3)
    return density, torch.cat([values[..., :3].sigmoid(), values[..., 3:]], dim=-1)
