"""SRN's scenes: features of world points, found by a learned ray marcher."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.boxes import box_around
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import PixelGrid, pixel_rays
from unseen.networks.predicted_mlp import PredictedMLP
from unseen.networks.ray_marcher import RayMarcher, RayMarcherConfig
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import PixelRendering, Scene, cat_pixels
from unseen.scenes.state import module_state, module_tensors

RAYS = 8192
"""Rays that `render` marches at once."""


@dataclasses.dataclass(frozen=True)
class Marching:
    """How rays start."""

    start_depth: float | None = 0.05
    """Depth in world units (0.05 in SRN); None starts at each camera's near."""
    start_std: float = 5e-4
    """Standard deviation of the start depth where it is random."""
    start: Literal["fixed", "random"] = "fixed"
    """Whether renderings start at the same depth everywhere, or, as those of the
    authors, at random ones. Ours come from a set seed: a scene renders the same twice.
    Training starts at random depths in either case."""
    pixel_grid: PixelGrid = "centers"
    """Where pixels lie; the authors have "integer"."""


@dataclasses.dataclass(frozen=True)
class RayMarchedScene(Scene):
    """A predicted MLP from world points to features; shape is () or (batch,).

    The ray marcher and the network that colours are shared by all scenes of a model,
    and saved with each. There is no density and no opacity; every ray ends somewhere,
    and what lies there may be the background. Depth is where it ends. `render_pixels`
    returns colours as the network has them, not clamped, so that training sees its
    errors; `render` clamps them to [0, 1].
    """

    field: PredictedMLP
    marcher: RayMarcher
    box: Float[Tensor, "*batch 2 3"]
    marching: Marching = dataclasses.field(default_factory=Marching)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.field.shape

    @property
    def evaluations_per_ray(self) -> int:
        return self.marcher.config.num_steps + 1

    def __getitem__(self, index: int | slice | None) -> RayMarchedScene:
        return dataclasses.replace(self, field=self.field[index], box=self.box[index])

    def detach(self) -> RayMarchedScene:
        """The same scene, cut off from the networks that made it."""
        marcher = copy.deepcopy(self.marcher).eval().requires_grad_(False)
        return dataclasses.replace(self, field=self.field.detach(), marcher=marcher)

    def start_depths(
        self, near: Float[Tensor, "*batch ray"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch ray"]:
        """Depths at which rays start, of cameras with `near`."""
        m = self.marching
        start = near if m.start_depth is None else torch.full_like(near, m.start_depth)
        if generator is None and m.start == "random":
            generator = torch.Generator().manual_seed(0)
        if generator is None:
            return start
        noise = torch.randn(start.shape, generator=generator)
        return start + m.start_std * noise.to(start)

    def shoot(
        self,
        origins: Float[Tensor, "batch ray 3"],
        directions: Float[Tensor, "batch ray 3"],
        start: Float[Tensor, "batch ray"],
    ) -> tuple[Float[Tensor, "batch ray 3"], Float[Tensor, "batch ray"]]:
        """Colours (not clamped) and depths of rays whose directions have z = 1."""
        color, depth = self.marcher(self.field, origins, directions, start)
        return 0.5 * (color + 1), depth

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; with a generator, start depths are random."""
        if not self.shape:
            r = self[None].render_pixels(cameras[None], size, pixels[None], generator)
            return r[0]
        grid = self.marching.pixel_grid
        origins, directions = pixel_rays(cameras, size, pixels, grid)
        near = cameras.near[..., None].expand(pixels.shape)
        start = self.start_depths(near, generator)
        color, depth = self.shoot(
            origins.flatten(1, -2), directions.flatten(1, -2), start.flatten(1)
        )
        return PixelRendering(
            color.reshape(*pixels.shape, 3), depth.reshape(pixels.shape)
        )

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        rays = size[0] * size[1]
        pixels = torch.arange(rays, device=cameras.device)
        if self.marching.start == "random":
            # In one piece, or the pieces would start at the same depths.
            pieces = [pixels]
        else:
            pieces = pixels.split(max(1, RAYS // max(1, cameras.near.numel())))
        found = [
            self.render_pixels(cameras, size, piece.expand(*cameras.shape, -1))
            for piece in pieces
        ]
        frames = cat_pixels(found).image(size)
        return dataclasses.replace(frames, color=frames.color.clamp(0, 1))

    def bounds(self) -> Float[Tensor, "2 3"]:
        return box_around(self.box)

    def tensors(self) -> dict[str, Tensor]:
        shared = module_tensors("marcher", self.marcher)
        return {**self.field.tensors(), **shared, "box": self.box}

    def config(self) -> dict[str, Any]:
        return {
            "marcher": dataclasses.asdict(self.marcher.config),
            "marching": dataclasses.asdict(self.marching),
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> RayMarchedScene:
        marcher = RayMarcher(RayMarcherConfig(**config["marcher"]))
        marcher.load_state_dict(module_state("marcher", tensors))
        field = PredictedMLP.from_tensors(tensors, plain_last=False)
        marcher = marcher.to(field.device).eval().requires_grad_(False)
        box = tensors["box"].reshape(*field.shape, 2, 3)
        return cls(field, marcher, box, Marching(**config["marching"]))
