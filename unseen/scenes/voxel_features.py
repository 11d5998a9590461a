"""A volume of features with the network that decodes them: HoloDiffusion's scenes.

Karnewar et al., CVPR 2023. Features are interpolated, then decoded into density and
colour. `voxel_radiance` has the scene whose voxels hold density and colour themselves.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.configuration import from_json, to_json
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import measured, pixel_rays
from unseen.networks.render_mlp import RenderMLP, RenderMLPConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.rendering.endpoint_sampling import endless_edges
from unseen.rendering.interpolation import trilinear
from unseen.rendering.rendering import Rendering
from unseen.rendering.volume import RayRendering, integrate
from unseen.scenes.scene import FieldScene, PixelRendering, cat_pixels
from unseen.scenes.state import module_state, module_tensors

RAYS = 4096
"""Rays that `render` renders at once."""

VOXEL_SAMPLING = CoarseFineSampling("endpoints", 64, 64, 0)
"""The authors' samples along a ray."""


@dataclasses.dataclass(frozen=True)
class VoxelFeatureScene(FieldScene):
    """Features in a cube of side `extent` about the origin; shape is () or (batch,).

    The axes of `grid` after the channels are the world's z, y and x. Outside of the
    cube features are zero, and what the network makes of zero is there, out to the
    ball around the cube's middle that the cube's side is the diameter of: there rays
    begin and end, whatever the cameras' near and far. The last sample of a ray stands
    for all that follows.

    `density_noise` is the standard deviation of what is added to densities where
    there is a generator. `render_pixels` reports "coarse_color" in `extras`: the
    rendering of the samples that do not depend on the field.
    """

    grid: Float[Tensor, "*batch feature depth height width"]
    decoder: RenderMLP
    extent: float
    background: Float[Tensor, "3"]
    sampling: CoarseFineSampling = VOXEL_SAMPLING
    density_noise: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.grid.shape[:-4])

    @property
    def evaluations_per_ray(self) -> int:
        return self.sampling.num_samples

    def __getitem__(self, index: int | slice | None) -> VoxelFeatureScene:
        return dataclasses.replace(self, grid=self.grid[index])

    def detach(self) -> VoxelFeatureScene:
        """The same scene, cut off from the network that decodes it."""
        decoder = copy.deepcopy(self.decoder).eval().requires_grad_(False)
        return dataclasses.replace(
            self, grid=self.grid.detach(), decoder=decoder, density_noise=0.0
        )

    def query(
        self,
        points: Float[Tensor, "*batch point 3"],
        directions: Float[Tensor, "*batch point 3"],
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        """Density before its ReLU, and colour in [0, 1], seen along unit directions."""
        if not self.shape:
            density, color = self[None].query(points[None], directions[None])
            return density[0], color[0]
        features = trilinear(self.grid, points / self.extent + 0.5)
        return self.decoder(features, directions)

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        """Density and colour, as seen on the way to the cube's middle."""
        density, color = self.query(points, -functional.normalize(points, dim=-1))
        inside = (points.abs() <= 0.5 * self.extent).all(dim=-1)
        return torch.where(inside, density.relu(), 0.0), color

    # ---- Rays -----------------------------------------------------------------------

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        if not self.shape:
            r = self[None].render_pixels(cameras[None], size, pixels[None], generator)
            return r[0]
        origins, directions = pixel_rays(cameras, size, pixels)
        directions, depth_per_position = measured(directions, "distance")
        near, far = ball_range(cameras, 0.5 * self.extent)
        near = near[..., None].expand(pixels.shape)
        far = far[..., None].expand(pixels.shape)
        shape, sampling = tuple(pixels.shape), self.sampling
        numbers = (
            sampling.middle(shape, pixels.device)
            if generator is None
            else sampling.draw(shape, generator, pixels.device)
        )
        first = sampling.coarse_positions(near, far, numbers)
        density, color = self._along(origins, directions, first)
        coarse = self._integrate(density, color, directions, first, generator)
        merged = sampling.fine_positions(first, coarse.weights, near, far, numbers)
        # Those of the first samples are known already; what is new is evaluated.
        order, new = _new_positions(first, merged)
        more_density, more_color = self._along(origins, directions, new)
        density = torch.cat([density, more_density], dim=-1).gather(-1, order)
        color = torch.cat([color, more_color], dim=-2)
        color = color.gather(-2, order[..., None].expand(*order.shape, 3))
        fine = self._integrate(density, color, directions, merged, generator)
        depth = (fine.weights * merged).sum(dim=-1) + (1 - fine.opacity) * far
        return PixelRendering(
            fine.color,
            depth * depth_per_position,
            fine.opacity,
            extras={"coarse_color": coarse.color},
        )

    def _along(
        self,
        origins: Float[Tensor, "batch *view ray 3"],
        directions: Float[Tensor, "batch *view ray 3"],
        positions: Float[Tensor, "batch *view ray sample"],
    ) -> tuple[
        Float[Tensor, "batch *view ray sample"],
        Float[Tensor, "batch *view ray sample 3"],
    ]:
        """The field, density before its ReLU, at distances along rays."""
        along = directions[..., None, :]
        points = origins[..., None, :] + positions[..., None] * along
        looking = along.expand(points.shape)
        density, color = self.query(points.flatten(1, -2), looking.flatten(1, -2))
        return density.reshape(positions.shape), color.reshape(points.shape)

    def _integrate(
        self,
        density: Float[Tensor, "*batch ray sample"],
        color: Float[Tensor, "*batch ray sample 3"],
        directions: Float[Tensor, "*batch ray 3"],
        positions: Float[Tensor, "*batch ray sample"],
        generator: torch.Generator | None,
    ) -> RayRendering:
        if generator is not None and self.density_noise > 0:
            noise = torch.randn(density.shape, generator=generator).to(density)
            density = density + self.density_noise * noise
        edges = endless_edges(positions)
        background = self.background.expand(*density.shape[:-2], 3)
        return integrate(
            density.relu(), color, directions, positions, edges, background
        )

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        found = [
            self.render_pixels(cameras, size, piece.expand(*cameras.shape, -1))
            for piece in pixels.split(max(1, RAYS // max(1, cameras.near.numel())))
        ]
        return cat_pixels(found).image(size)

    # ---- State ----------------------------------------------------------------------

    def bounds(self) -> Float[Tensor, "2 3"]:
        corner = 0.5 * self.extent * torch.ones_like(self.background)
        return torch.stack([-corner, corner])

    def tensors(self) -> dict[str, Tensor]:
        decoder = module_tensors("decoder", self.decoder)
        return {"grid": self.grid, "background": self.background, **decoder}

    def config(self) -> dict[str, Any]:
        return {
            "decoder": to_json(self.decoder.config),
            "extent": self.extent,
            "sampling": to_json(self.sampling),
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> VoxelFeatureScene:
        where = "the scene's network"
        network = from_json(RenderMLPConfig, config["decoder"], where)
        with torch.device("meta"):
            decoder = RenderMLP(network)
        # As copies, tensors lie in memory as they did before they were saved.
        state = {k: x.clone() for k, x in module_state("decoder", tensors).items()}
        decoder.load_state_dict(state, assign=True)
        sampling = from_json(CoarseFineSampling, config["sampling"], "the sampling")
        decoder = decoder.eval().requires_grad_(False)
        grid, background = tensors["grid"].clone(), tensors["background"]
        return cls(grid, decoder, float(config["extent"]), background, sampling)


def ball_range(
    cameras: Cameras, radius: float
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Distances between which rays meet a ball about the origin, by its radius.

    Those of the ray through the middle; a camera inside begins next to itself.
    """
    distance = cameras.centers.norm(dim=-1).clamp(min=radius + 1e-3)
    return distance - radius, distance + radius


def _new_positions(
    first: Float[Tensor, "*batch sample"], merged: Float[Tensor, "*batch more"]
) -> tuple[Int[Tensor, "*batch more"], Float[Tensor, "*batch new"]]:
    """The sorted positions that are not among the `first`, and how to merge values.

    Values at (first, new) positions, one after the other, belong to the positions
    `merged` after gathering with the returned index.
    """
    count = first.shape[-1]
    # Each first position is in `merged`: it is found, and what remains is new.
    place = torch.searchsorted(merged.contiguous(), first.contiguous())
    is_new = torch.ones_like(merged, dtype=torch.bool).scatter(-1, place, False)
    new = merged[is_new].reshape(*merged.shape[:-1], -1)
    order = is_new.long().cumsum(dim=-1) - 1 + count
    own = torch.arange(count, device=first.device).expand(first.shape)
    return order.scatter(-1, place, own), new
