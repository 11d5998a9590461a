"""LFN's scenes: the colour of every ray, by one evaluation of a predicted MLP."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.boxes import box_around
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import PixelGrid, pixel_rays, plucker
from unseen.networks.predicted_mlp import PredictedMLP, PreparedMLP
from unseen.rendering.light_field import (
    light_field_distance,
    pencil_tangents,
    perpendicular,
    render_where_needed,
)
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import PixelRendering, Scene

DEPTH_RAYS = 512
"""Rays whose derivatives are taken at once."""


@dataclasses.dataclass(frozen=True)
class LightFieldScene(Scene):
    """A predicted MLP from Pluecker coordinates to colours; shape is () or (batch,).

    There is no density and no opacity. Depth is not part of the representation, but
    follows from its derivatives (`depth_map`); `render` returns it only where
    `with_depth` is set, because it costs several times the colour. The MLP sees rays in
    the world, or after the rigid motion `frame` (world to its own frame).

    `render_pixels` returns colours as the network has them; `render` clamps them to
    [0, 1].

    Without gradients `render` takes the fast path (`PreparedMLP`); `precision`
    "bf16" lets it compute the hidden layers in bfloat16. With `flat` above 0, pixels
    between others that differ by at most as much are interpolated
    (`render_where_needed`).
    """

    field: PredictedMLP
    box: Float[Tensor, "*batch 2 3"]
    pixel_grid: PixelGrid = "centers"
    with_depth: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    flat: float = 0.0
    frame: Float[Tensor, "*batch 4 4"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.field.shape

    @property
    def evaluations_per_ray(self) -> int:
        return 1

    def __getitem__(self, index: int | slice | None) -> LightFieldScene:
        return dataclasses.replace(
            self,
            field=self.field[index],
            box=self.box[index],
            frame=None if self.frame is None else self.frame[index],
        )

    def detach(self) -> LightFieldScene:
        """The same scene, cut off from the network that made it."""
        return dataclasses.replace(self, field=self.field.detach())

    def _rays(
        self, cameras: Cameras, size: tuple[int, int], pixels: Int[Tensor, "*batch ray"]
    ) -> tuple[Float[Tensor, "*batch ray 3"], Float[Tensor, "*batch ray 3"]]:
        return pixel_rays(cameras, size, pixels, self.pixel_grid)

    def _in_frame(self, cameras: Cameras) -> Cameras:
        """World cameras (*batch view) in the MLP's own frame."""
        if self.frame is None:
            return cameras
        return cameras.transform(self.frame[..., None, :, :])

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; nothing is random, and there is no depth."""
        coordinates = plucker(*self._rays(self._in_frame(cameras), size, pixels))
        flat = coordinates.flatten(len(self.shape), -2)
        color = 0.5 * (self.field(flat) + 1)
        return PixelRendering(color.reshape(*pixels.shape, 3))

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`."""
        if torch.is_grad_enabled() and self.field.requires_grad:
            pixels = torch.arange(size[0] * size[1], device=cameras.device)
            pixels = pixels.expand(*cameras.shape, -1)
            color = self.render_pixels(cameras, size, pixels).color
            color = color.unflatten(-2, size).clamp(0, 1)
        elif self.shape:
            seen, each = self._in_frame(cameras), enumerate(self.prepared)
            color = torch.stack([self._frames(m, seen[i], size) for i, m in each])
        else:
            color = self._frames(self.prepared[0], self._in_frame(cameras), size)
        depth = self.depth_map(cameras, size) if self.with_depth else None
        return Rendering(color.movedim(-1, -3), depth)

    def _frames(
        self, mlp: PreparedMLP, cameras: Cameras, size: tuple[int, int]
    ) -> Float[Tensor, "view height width 3"]:
        """Frames of one scene, fast and without gradients; its frame's cameras."""
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        rays = self._rays(cameras, size, pixels.expand(*cameras.shape, -1))
        coordinates = plucker(*rays).flatten(0, 1)
        if self.flat:
            return render_where_needed(
                lambda index: _color(mlp(coordinates[index])),
                len(cameras),
                size,
                self.flat,
            )
        return _color(mlp(coordinates)).reshape(len(cameras), *size, 3)

    @functools.cached_property
    def prepared(self) -> list[PreparedMLP]:
        """The MLP of every scene, laid out for rendering; made once."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        if not self.shape:
            return [PreparedMLP(self.field, dtype)]
        return [PreparedMLP(self.field[i], dtype) for i in range(self.shape[0])]

    @torch.no_grad()
    def depth_map(
        self, cameras: Cameras, size: tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Depth of the surfaces that the light field shows, from its derivatives.

        Sparse by nature: a ray in a patch of one colour says nothing of depth. Such
        rays are given the camera's far, and what there is stays within near and far;
        see `light_field_distance`, which also says how exact it is.
        """
        if not self.shape:
            return self[None].depth_map(cameras[None], size)[0]
        cameras = self._in_frame(cameras)
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        pieces = []
        for piece in pixels.split(DEPTH_RAYS):
            rays = self._rays(cameras, size, piece.expand(*cameras.shape, -1))
            lengths = rays[1].norm(dim=-1)
            far = cameras.far[..., None] * lengths
            origins, directions = (x.flatten(1, -2) for x in rays)
            distance = self._distance(origins, directions, far.flatten(1))
            depth = distance.reshape(lengths.shape) / lengths
            near, far = cameras.near[..., None], cameras.far[..., None]
            pieces.append(depth.clamp(near, far))
        return torch.cat(pieces, dim=-1).unflatten(-1, size)

    def _distance(
        self,
        origins: Float[Tensor, "batch ray 3"],
        directions: Float[Tensor, "batch ray 3"],
        far: Float[Tensor, "batch ray"],
    ) -> Float[Tensor, "batch ray"]:
        unit = functional.normalize(directions, dim=-1)
        moved, turned = pencil_tangents(origins, unit, perpendicular(unit))
        tangents = torch.cat([moved, turned], dim=-3)
        slopes = self.field.push_forward(plucker(origins, unit), tangents)
        by_origin, by_direction = slopes.chunk(2, dim=-3)
        return light_field_distance(by_origin, by_direction, far)

    def bounds(self) -> Float[Tensor, "2 3"]:
        return box_around(self.box)

    def tensors(self) -> dict[str, Tensor]:
        frame = {} if self.frame is None else {"frame": self.frame}
        return {**self.field.tensors(), "box": self.box, **frame}

    def config(self) -> dict[str, Any]:
        return {
            "pixel_grid": self.pixel_grid,
            "with_depth": self.with_depth,
            "precision": self.precision,
            "flat": self.flat,
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> LightFieldScene:
        field = PredictedMLP.from_tensors(tensors, plain_last=True)
        box, frame = tensors["box"], tensors.get("frame")
        if frame is not None:
            frame = frame.reshape(*field.shape, 4, 4)
        return cls(field, box.reshape(*field.shape, 2, 3), **config, frame=frame)


def _color(signed: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
    """Colours in [-1, 1] to [0, 1], clamped; in place."""
    return signed.add_(1).mul_(0.5).clamp_(0, 1)
