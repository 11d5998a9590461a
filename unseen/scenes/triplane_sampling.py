"""How the rays of a triplane are sampled and integrated."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.rendering.compositing import composite, composite_weights, over_background
from unseen.rendering.endpoint_sampling import edge_quantiles, endpoint_uniform
from unseen.rendering.sampling import edges_between
from unseen.rendering.volume import Field, render_rays
from unseen.scenes.scene import PixelRendering


@dataclasses.dataclass(frozen=True)
class _Rays:
    """Rays, directions with z = 1 in their camera, and the depths of their ends."""

    origins: Float[Tensor, "*batch ray 3"]
    directions: Float[Tensor, "*batch ray 3"]
    near: Float[Tensor, "*batch ray"]
    far: Float[Tensor, "*batch ray"]


@dataclasses.dataclass(frozen=True)
class TriplaneSampling:
    """Samples along rays. The defaults are those for new training."""

    num_uniform: int = 64
    """Samples at equal spacing in depth between near and far."""

    num_importance: int = 64
    """Further samples, drawn where the first ones found matter; 0 for none."""

    quadrature: Literal["midpoint", "endpoint"] = "midpoint"
    """Samples in the middle of intervals that fill the ray and have Euclidean lengths
    (see `rendering.volume`), or, as in the public implementation, from near to far,
    each for the interval up to the next one, with lengths in depth."""

    max_points: int = 2**18
    """Points that are evaluated at a time where no gradient is recorded: this bounds
    the memory."""

    @property
    def num_samples(self) -> int:
        """Per ray, in all."""
        return self.num_uniform + self.num_importance

    def render(
        self,
        field: Field,
        origins: Float[Tensor, "*batch ray 3"],
        directions: Float[Tensor, "*batch ray 3"],
        near: Float[Tensor, "*batch"],
        far: Float[Tensor, "*batch"],
        background: Float[Tensor, "3"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """What rays see of a field, over a background; see `render_rays`."""
        if self.quadrature == "endpoint":
            rays = _Rays(
                origins,
                directions,
                near[..., None].expand(origins.shape[:-1]),
                far[..., None].expand(origins.shape[:-1]),
            )
            return self._render_endpoint(field, rays, background, generator)
        found = render_rays(
            field,
            origins,
            directions,
            near,
            far,
            self.num_uniform,
            num_fine=self.num_importance,
            background=background.expand(*near.shape, 3),
            generator=generator,
        )
        return PixelRendering(found.color, found.depth, found.opacity)

    def _render_endpoint(
        self,
        field: Field,
        rays: _Rays,
        background: Float[Tensor, "3"],
        generator: torch.Generator | None,
    ) -> PixelRendering:
        positions = self._positions(field, rays, generator)
        weights, colors = self._march(field, rays, positions)
        opacity = weights.sum(dim=-1)
        color = over_background(composite(weights, colors), opacity, background)
        depth = (weights * positions).sum(dim=-1) + (1 - opacity) * rays.far
        return PixelRendering(color, depth, opacity)

    def _positions(
        self, field: Field, rays: _Rays, generator: torch.Generator | None
    ) -> Float[Tensor, "*batch ray sample"]:
        """Sorted depths; jittered, and drawn by chance, with a generator."""
        near, far = rays.near, rays.far
        positions = endpoint_uniform(near, far, self.num_uniform)
        shape = (*near.shape, self.num_importance)
        if generator is None:
            quantiles = torch.linspace(0, 1, self.num_importance, device=near.device)
            quantiles = quantiles.expand(shape)
        else:
            step = (far - near)[..., None] / (self.num_uniform - 1)
            jitter = torch.rand(positions.shape, generator=generator).to(positions)
            positions = positions + step * (jitter - 0.5)
            positions = positions.clamp(near[..., None], far[..., None])
            quantiles = torch.rand(shape, generator=generator).to(positions)
        if self.num_importance == 0:
            return positions
        with torch.no_grad():
            weights, _ = self._march(field, rays, positions)
        edges = edges_between(positions, near, far)
        fine = edge_quantiles(edges, weights, quantiles)
        return torch.cat([positions, fine], dim=-1).sort(dim=-1).values

    def _march(
        self, field: Field, rays: _Rays, positions: Float[Tensor, "*batch ray sample"]
    ) -> tuple[
        Float[Tensor, "*batch ray sample"], Float[Tensor, "*batch ray sample 3"]
    ]:
        """Weights and colours of samples."""
        points = torch.addcmul(
            rays.origins[..., None, :],
            positions[..., None],
            rays.directions[..., None, :],
        )
        density, colors = field(points.flatten(-3, -2))
        # The last sample stands for one step of the first samples.
        last = ((rays.far - rays.near) / self.num_uniform)[..., None]
        lengths = torch.cat([positions.diff(dim=-1), last], dim=-1)
        weights = composite_weights(density.reshape(positions.shape), lengths)
        return weights, colors.reshape(*positions.shape, 3)
