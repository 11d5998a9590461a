"""SRN's scenes: features of world points, found by a learned ray marcher."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.networks.predicted_mlp import PredictedMLP
from unseen.networks.ray_marcher import RayMarcher, RayMarcherConfig
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import PixelRendering, Scene
from unseen.scenes.unit_rays import PixelCenters, convention_rays

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
    pixel_centers: PixelCenters = "half"


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
            assert r.depth is not None
            return PixelRendering(r.color[0], r.depth[0])
        centers = self.marching.pixel_centers
        origins, directions = convention_rays(cameras, size, pixels, centers)
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
        axis = len(cameras.shape)
        color = torch.cat([r.color for r in found], dim=axis).clamp(0, 1)
        depths = [r.depth for r in found if r.depth is not None]
        return Rendering(
            color.movedim(-1, -2).unflatten(-1, size),
            torch.cat(depths, dim=axis).unflatten(-1, size),
        )

    def bounds(self) -> Float[Tensor, "2 3"]:
        box = self.box.reshape(-1, 2, 3)
        return torch.stack([box[:, 0].amin(dim=0), box[:, 1].amax(dim=0)])

    def tensors(self) -> dict[str, Tensor]:
        shared = {f"marcher.{k}": v for k, v in self.marcher.state_dict().items()}
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
        prefix = "marcher."
        marcher.load_state_dict(
            {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        )
        field = PredictedMLP.from_tensors(tensors, plain_last=False)
        marcher = marcher.to(field.device).eval().requires_grad_(False)
        box = tensors["box"].reshape(*field.shape, 2, 3)
        return cls(field, marcher, box, Marching(**config["marching"]))
