"""Radiance fields on three feature planes, with one small network for all scenes.

A point's features are the sum of what it finds on the planes xy, xz and yz of a box
(Chan et al., "Efficient Geometry-aware 3D Generative Adversarial Networks", CVPR 2022).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.configuration import from_json, to_json
from unseen.geometry.boxes import box_around
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_rays
from unseen.networks.triplane_decoder import TriplaneDecoder, TriplaneDecoderConfig
from unseen.rendering.interpolation import lookup, trilinear_corners
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.volume import share_scenes
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.scene import FieldScene, PixelRendering, cat_pixels
from unseen.scenes.state import module_state, module_tensors
from unseen.scenes.triplane_sampling import TriplaneSampling

PLANES = ((0, 1), (0, 2), (1, 2))
"""The world axes along the width and the height of each plane: xy, xz and yz."""


@dataclasses.dataclass(frozen=True)
class TriplaneScene(FieldScene):
    """Planes that span the world box `box`, outside of which there is nothing."""

    planes: Float[Tensor, "*batch plane=3 feature height width"]
    decoder: TriplaneDecoder
    box: Float[Tensor, "2 3"]
    background: Float[Tensor, "3"]
    sampling: TriplaneSampling

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.planes.shape[:-4])

    @property
    def evaluations_per_ray(self) -> int:
        return self.sampling.num_samples

    def __getitem__(self, index: int | slice) -> TriplaneScene:
        return dataclasses.replace(self, planes=self.planes[index])

    # ---- Points ---------------------------------------------------------------------

    def features(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> Float[Tensor, "*batch point feature"]:
        """The sum of the planes' features at world points; zero far outside."""
        low, high = self.box
        planes = self.planes.reshape(-1, *self.planes.shape[-4:])
        place = (points - low) / (high - low)
        place = place.reshape(len(planes), points.shape[-2], 3)
        found = None
        for index, axes in enumerate(PLANES):
            middle = torch.full_like(place[..., :1], 0.5)
            coordinates = torch.cat([place[..., list(axes)], middle], dim=-1)
            plane = planes[:, index]
            height, width = plane.shape[-2:]
            corners = trilinear_corners(coordinates, (1, height, width))
            features = lookup(plane[:, :, None], corners)
            found = features if found is None else found + features
        assert found is not None
        return found.reshape(*points.shape[:-1], -1)

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        density, color = self._field(points)
        return density, color.clamp(0, 1)

    def _field(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        """Density and colour, which may leave [0, 1] by a thousandth."""
        density, color = self.decoder(self.features(points))
        low, high = self.box
        inside = ((points >= low) & (points <= high)).all(dim=-1)
        return torch.where(inside, density, 0.0), color

    # ---- Rays -----------------------------------------------------------------------

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; the extra "linear" is the colour unclamped."""
        origins, directions = pixel_rays(cameras, size, pixels)
        found = self.sampling.render(
            share_scenes(self._field),
            origins,
            directions,
            cameras.near,
            cameras.far,
            self.background,
            generator,
        )
        return dataclasses.replace(
            found, color=found.color.clamp(0, 1), extras={"linear": found.color}
        )

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`. Samples in empty space are skipped (`Occupancy`)."""
        if self.shape:
            return stack_renderings(
                [self[i].render(cameras[i], size) for i in range(self.shape[0])]
            )
        with torch.no_grad():
            return stack_renderings([self._render(camera, size) for camera in cameras])

    def render_plain(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """`render` with every sample evaluated: differentiable, and the twin."""
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        rays = self._rays_at_once(math.prod(cameras.shape))
        pieces = [
            self.render_pixels(cameras, size, part.expand(*cameras.shape, -1))
            for part in pixels.split(rays)
        ]
        return cat_pixels(pieces).image(size)

    def _rays_at_once(self, cameras: int) -> int:
        points = cameras * self.sampling.num_samples
        return max(1, self.sampling.max_points // points)

    def _render(self, camera: Cameras, size: tuple[int, int]) -> Rendering:
        """One view of one scene."""
        pixels = torch.arange(size[0] * size[1], device=camera.device)
        pieces = []
        # Few of the points are evaluated: four times as many fit.
        for part in pixels.split(4 * self._rays_at_once(1)):
            origins, directions = pixel_rays(camera, size, part)
            found = self.sampling.render(
                self._matter_only,
                origins,
                directions,
                camera.near,
                camera.far,
                self.background,
            )
            pieces.append(dataclasses.replace(found, color=found.color.clamp(0, 1)))
        return cat_pixels(pieces).image(size)

    def _matter_only(
        self, points: Float[Tensor, "point 3"]
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point 3"]]:
        """The field of one scene, zero where it is known to be empty."""
        kept = self.occupancy.holds(points)
        density = points.new_zeros(len(points))
        color = torch.zeros_like(points)
        if kept.any():
            density[kept], color[kept] = self._field(points[kept])
        return density, color

    @functools.cached_property
    def occupancy(self) -> Occupancy:
        """Where one scene has matter; found once, at the first rendering."""
        return Occupancy.find(self, self.box)

    def bounds(self) -> Float[Tensor, "2 3"]:
        if not self.shape:
            return self.occupancy.bounds()
        each = [self[i].bounds() for i in range(self.shape[0])]
        return box_around(torch.stack(each))

    # ---- Files ----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        return {
            "planes": self.planes,
            "box": self.box,
            "background": self.background,
            **module_tensors("decoder", self.decoder),
        }

    def config(self) -> dict[str, Any]:
        return {
            "decoder": to_json(self.decoder.config),
            "sampling": to_json(self.sampling),
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> TriplaneScene:
        settings = from_json(TriplaneDecoderConfig, config["decoder"], "its decoder")
        with torch.device("meta"):
            decoder = TriplaneDecoder(settings)
        decoder.load_state_dict(module_state("decoder", tensors), assign=True)
        return cls(
            tensors["planes"],
            decoder.eval().requires_grad_(False),
            tensors["box"],
            tensors["background"],
            from_json(TriplaneSampling, config["sampling"], "its sampling"),
        )
