"""A scene made of view frustums: each view contributes a volume in its own camera.

The volume of a view is a grid over its image and over depth, between the camera's
near and far. A world point collects what each view says of it by trilinear
interpolation of that view's volume, before any non-linearity. Evidence for density,
colour and features is averaged with the weights that the views give themselves: a view
that knows better (an input that sees through here) overrules one that guesses.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.boxes import box_around, frustum_box
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.rays import pixel_rays
from unseen.rendering.compositing import (
    composite,
    composite_weights,
    over_background,
)
from unseen.rendering.interpolation import lookup, trilinear_corners
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.sampling import sample_uniform
from unseen.scenes.frustum_march import MarchRays, is_compiled, march
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.scene import FieldScene, PixelRendering
from unseen.scenes.state import camera_tensors, cameras_of

# Density is GAIN * softplus(evidence + BIAS): an untrained volume is a thin fog
# (optical depth near 1 over the unit sphere), and moderate evidence makes a surface.
GAIN, BIAS = 20.0, -3.5
DENSITY, CONFIDENCE, COLOR = 0, 1, slice(2, 5)
"""Channels of a volume; the channels after colour are features."""


@dataclasses.dataclass(frozen=True)
class FrustumVolumeScene(FieldScene):
    """Volumes of logits in the frustums of `cameras`.

    Slices are equally spaced in depth, from near to far. Channels of `volumes` are
    density evidence, log confidence, colour logits (3), and any number of features.
    `num_samples` is the number of samples along a ray.
    """

    volumes: Float[Tensor, "*batch view height width slice channel"]
    cameras: Cameras
    background: Float[Tensor, "3"]
    num_samples: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.cameras.shape[:-1])

    @property
    def evaluations_per_ray(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int | slice) -> FrustumVolumeScene:
        return dataclasses.replace(
            self, volumes=self.volumes[index], cameras=self.cameras[index]
        )

    def look_up(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[
        Float[Tensor, "*batch view point channel"], Bool[Tensor, "*batch view point"]
    ]:
        """What each view's volume says of world points, and whether it holds them."""
        return look_up_frustums(self.volumes, self.cameras, points)

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        density, values = pool_views(*self.look_up(points))
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
        steps = (cameras.far - cameras.near)[..., None] / self.num_samples
        shift = torch.full(pixels.shape, 0.5, device=steps.device)
        if generator is not None:
            shift = torch.rand(pixels.shape, generator=generator).to(steps)
        starts = cameras.near[..., None] + shift * steps
        lengths = steps * directions.norm(dim=-1)
        samples = torch.arange(self.num_samples, device=steps.device)
        depths = starts[..., None] + samples * steps[..., None]
        if is_compiled(self.volumes.device):
            rays = MarchRays(origins, directions, starts, steps, lengths)
            weights, values = self._march(rays)
        else:
            points = (
                origins[..., None, :] + depths[..., None] * directions[..., None, :]
            )
            found = self.look_up(points.flatten(len(self.shape), -2))
            density, values = pool_views(*found)
            density = density.reshape(depths.shape)
            weights = composite_weights(density, lengths[..., None].expand_as(depths))
            values = composite(weights, values.reshape(*depths.shape, -1))
        return finish_pixels(
            weights, values, depths, cameras.far[..., None], self.background
        )

    def _march(
        self, rays: MarchRays, occupancy: Occupancy | None = None
    ) -> tuple[Float[Tensor, "*batch ray sample"], Float[Tensor, "*batch ray value"]]:
        """Weights of samples and composited values: the torch code, compiled."""
        count = self.num_samples
        return march(self.volumes, self.cameras, rays, count, (GAIN, BIAS), occupancy)

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`. Samples in empty space are skipped (`Occupancy`)."""
        if self.shape:
            return stack_renderings(
                [self[i].render(cameras[i], size) for i in range(self.shape[0])]
            )
        return stack_renderings([self._render(camera, size) for camera in cameras])

    def _render(self, camera: Cameras, size: tuple[int, int]) -> Rendering:
        """One view of one scene."""
        pixels = torch.arange(size[0] * size[1], device=camera.device)
        origins, directions = pixel_rays(camera, size, pixels)
        depths, intervals = sample_uniform(camera.near, camera.far, self.num_samples)
        lengths = intervals * directions.norm(dim=-1, keepdim=True)
        if is_compiled(self.volumes.device):
            steps = (camera.far - camera.near)[None] / self.num_samples
            starts = depths[:1].expand(len(pixels))
            rays = MarchRays(origins, directions, starts, steps, lengths[:, 0])
            weights, values = self._march(rays, self.occupancy)
            r = finish_pixels(weights, values, depths, camera.far, self.background)
        else:
            points = origins[:, None, :] + depths[:, None] * directions[:, None, :]
            kept = self.occupancy.holds(points)
            density = points.new_zeros(kept.shape)
            values = points.new_zeros(*kept.shape, self.volumes.shape[-1] - COLOR.start)
            density[kept], values[kept] = pool_views(*self.look_up(points[kept]))
            r = composite_pixels(
                density, values, depths, lengths, camera.far, self.background
            )
        return r.image(size)

    @functools.cached_property
    def occupancy(self) -> Occupancy:
        """Where one scene has matter; found once, at the first rendering."""
        return Occupancy.find(self, frustum_box(self.cameras))

    def bounds(self) -> Float[Tensor, "2 3"]:
        if not self.shape:
            return self.occupancy.bounds()
        each = [self[i].bounds() for i in range(self.shape[0])]
        return box_around(torch.stack(each))

    def tensors(self) -> dict[str, Tensor]:
        return {
            "volumes": self.volumes,
            **camera_tensors(self.cameras),
            "background": self.background,
        }

    def config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> FrustumVolumeScene:
        return cls(
            tensors["volumes"],
            cameras_of(tensors),
            tensors["background"],
            config["num_samples"],
        )


def look_up_frustums(
    volumes: Float[Tensor, "*batch view height width slice channel"],
    cameras: Cameras,
    points: Float[Tensor, "*batch point 3"],
) -> tuple[
    Float[Tensor, "*batch view point channel"], Bool[Tensor, "*batch view point"]
]:
    """What volumes in the frustums of cameras (*batch view) say of world points.

    Trilinear, and zero outside with a linear fall-off. Also says whether a volume holds
    a point.
    """
    xy, depth = project(cameras, points[..., None, :, :])
    near, far = cameras.near[..., None], cameras.far[..., None]
    z = (depth - near) / (far - near)
    # The last axis of the grid is the fastest one: slices, then columns, rows.
    coordinates = torch.stack([z, xy[..., 0], xy[..., 1]], dim=-1)
    height, width, slices = volumes.shape[-4:-1]
    corners = trilinear_corners(coordinates.flatten(0, -3), (height, width, slices))
    table = volumes.flatten(0, -5).movedim(-1, 1)
    found = lookup(table, corners).reshape(*coordinates.shape[:-1], -1)
    return found, ((coordinates >= 0) & (coordinates <= 1)).all(dim=-1)


def pool_views(
    found: Float[Tensor, "*batch view point channel"],
    inside: Bool[Tensor, "*batch view point"],
) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point value"]]:
    """Merge what the views say of points: density, and colour with features."""
    confidence = found[..., CONFIDENCE].masked_fill(~inside, -1e4)
    share = confidence.softmax(dim=-2)
    evidence = (share * found[..., DENSITY]).sum(dim=-2)
    density = GAIN * functional.softplus(evidence + BIAS)
    density = density * inside.any(dim=-2)
    values = (share[..., None] * found[..., COLOR.start :]).sum(dim=-3)
    return density, torch.cat([values[..., :3].sigmoid(), values[..., 3:]], dim=-1)


def transmittance(
    volumes: Float[Tensor, "*batch height width slice channel"],
    cameras: Cameras,
) -> Float[Tensor, "*batch height width slice"]:
    """How much of a view's light reaches each voxel of its own volume, in [0, 1].

    The transmittance in front of the voxel, along the optical axis's spacing of slices.
    """
    density = GAIN * functional.softplus(volumes[..., DENSITY] + BIAS)
    spacing = (cameras.far - cameras.near) / volumes.shape[-2]
    optical_depth = density * spacing[..., None, None, None]
    return torch.exp(optical_depth - optical_depth.cumsum(dim=-1))


def composite_pixels(
    density: Float[Tensor, "*pixel sample"],
    values: Float[Tensor, "*pixel sample value"],
    depths: Float[Tensor, "*#pixel sample"],
    lengths: Float[Tensor, "*#pixel sample"],
    far: Float[Tensor, "*#pixel"],
    background: Float[Tensor, "3"],
) -> PixelRendering:
    """Volume-render samples; see `finish_pixels`."""
    weights = composite_weights(density, lengths.expand_as(density))
    return finish_pixels(weights, composite(weights, values), depths, far, background)


def finish_pixels(
    weights: Float[Tensor, "*pixel sample"],
    composited: Float[Tensor, "*pixel value"],
    depths: Float[Tensor, "*#pixel sample"],
    far: Float[Tensor, "*#pixel"],
    background: Float[Tensor, "3"],
) -> PixelRendering:
    """Colour over the background, depth, opacity and features of composited values.

    `extras` are the "weights" of the samples and, between 0 and 1, their "edges".
    """
    opacity = weights.sum(dim=-1)
    color = over_background(composited[..., :3], opacity, background)
    depth = (weights * depths).sum(dim=-1) + (1 - opacity) * far
    features = composited[..., 3:] if composited.shape[-1] > 3 else None
    edges = torch.linspace(0, 1, weights.shape[-1] + 1, device=weights.device)
    extras = {"weights": weights, "edges": edges.expand(*opacity.shape, -1)}
    return PixelRendering(color, depth, opacity, features, extras)
