"""How the rays of a conditional field are sampled and integrated."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import Measure, PixelGrid, measured, pixel_rays
from unseen.rendering.endpoint_sampling import (
    endpoint_edges,
    endpoint_importance,
    endpoint_uniform,
)
from unseen.rendering.sampling import edges_between, sample_importance, sample_uniform
from unseen.rendering.volume import RayRendering, integrate


@dataclasses.dataclass(frozen=True)
class Rays:
    """Rays of a (batch,) of scenes, ready to be sampled.

    Samples lie at `origins + position * directions`, with positions between `near`
    and `far`; `depth_per_position` converts a position into a depth.
    """

    origins: Float[Tensor, "batch ray 3"]
    directions: Float[Tensor, "batch ray 3"]
    near: Float[Tensor, "batch ray"]
    far: Float[Tensor, "batch ray"]
    depth_per_position: Float[Tensor, "batch ray"]

    @staticmethod
    def of_pixels(
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "batch view ray"],
        grid: PixelGrid,
        measure: Measure,
    ) -> Rays:
        """Rays through pixels (flat indices), those of all views one after another."""
        origins, directions = pixel_rays(cameras, size, pixels, grid)
        directions, depth_per_position = measured(directions, measure)
        near = cameras.near[..., None].expand(pixels.shape)
        far = cameras.far[..., None].expand(pixels.shape)
        parts = (origins, directions, near, far, depth_per_position)
        return Rays(*(part.flatten(1, 2) for part in parts))

    def split(self, count: int) -> list[Rays]:
        """Pieces of at most `count` rays per scene."""
        parts = (self.origins, self.directions, self.near, self.far)
        parts = (*parts, self.depth_per_position)
        pieces = zip(*(part.split(count, dim=1) for part in parts), strict=True)
        return [Rays(*piece) for piece in pieces]

    def points(
        self, positions: Float[Tensor, "batch ray sample"]
    ) -> Float[Tensor, "batch point 3"]:
        """Samples as world points."""
        offsets = positions[..., None] * self.directions[:, :, None]
        return (self.origins[:, :, None] + offsets).flatten(1, 2)


@dataclasses.dataclass(frozen=True)
class RaySampling:
    """How a conditional field is sampled. The defaults are those for new training."""

    num_uniform: int = 64
    """Samples at equal spacing between near and far; the proposal sees these."""

    num_importance: int = 64
    """Further samples, drawn from the proposal's weights; 0 for none."""

    pixel_grid: PixelGrid = "centers"
    """Where pixels lie: see `PixelGrid`."""

    measure: Measure = "depth"
    """What cameras' near and far bound and samples divide equally; the released weights
    were trained with distances."""

    quadrature: Literal["midpoint", "endpoint"] = "midpoint"
    """How samples are placed and weighed: see `rendering.sampling`, or, as the
    released weights were trained, `rendering.endpoint_sampling`."""

    proposal_loss: bool = True
    """Whether the proposal gets gradients, through its own colour. The authors' code
    leaves it at its random initialisation; its importance samples are then drawn
    from noise."""

    max_points: int = 65536
    """Points times views that are evaluated at a time: this bounds the memory."""

    max_cache_gib: float = 2.0
    """Sampling keeps what clean views say of the uniform samples from step to step
    if that takes no more than this much memory."""

    def camera_rays(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "batch view ray"],
    ) -> Rays:
        """Rays through pixels (flat indices), those of all views one after another."""
        return Rays.of_pixels(cameras, size, pixels, self.pixel_grid, self.measure)

    def uniform(
        self, rays: Rays, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch ray sample"]:
        """The samples that do not depend on the field."""
        if self.quadrature == "endpoint":
            return endpoint_uniform(rays.near, rays.far, self.num_uniform)
        return sample_uniform(rays.near, rays.far, self.num_uniform, generator)[0]

    def importance(
        self, coarse: RayRendering, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch ray fine"]:
        """Samples where a first rendering found matter."""
        if self.quadrature == "endpoint":
            return endpoint_importance(
                coarse.positions, coarse.weights, self.num_importance, generator
            )
        return sample_importance(
            coarse.edges, coarse.weights, self.num_importance, generator
        )

    def integrate(
        self,
        rays: Rays,
        positions: Float[Tensor, "batch ray sample"],
        values: Float[Tensor, "batch ray sample channel"],
        background: Float[Tensor, "3"],
    ) -> RayRendering:
        """Composite (density, colour, features); positions are the result's depths."""
        if self.quadrature == "endpoint":
            edges = endpoint_edges(positions)
        else:
            edges = edges_between(positions, rays.near, rays.far)
        density, values = values[..., 0], values[..., 1:]
        return integrate(density, values, rays.directions, positions, edges, background)
