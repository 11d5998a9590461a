"""A grid of density and of values, colours or latents: the scene of Score Jacobian
Chaining (Wang et al., "Score Jacobian Chaining", CVPR 2023)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.rendering.interpolation import bilinear, trilinear
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.scenes.look import LitField, Look, see_field
from unseen.scenes.scene import FieldScene, PixelRendering

SHIFT = -1.0
"""Added to the grid before the softplus that makes it density."""


@dataclasses.dataclass(frozen=True)
class ValueGridScene(FieldScene):
    """One scene; the axes of its grids are the world's z, y and x and span `box`.

    Density is softplus(density exp(log_gain) - 1). Three values are logits of colour;
    any other number of them are a prior's latents v, and `to_color` makes colours
    clamp(to_color (v, 1)) of them. `sky` are the values behind everything, over azimuth
    (width) and polar angle (height).
    """

    density: Float[Tensor, "depth height width"]
    values: Float[Tensor, "channel depth height width"]
    sky: Float[Tensor, "channel polar azimuth"]
    log_gain: Float[Tensor, ""]
    to_color: Float[Tensor, "3 channel+1"]
    box: Float[Tensor, "2 3"]
    num_samples: int = 128

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def evaluations_per_ray(self) -> int:
        return self.num_samples

    @property
    def holds_latents(self) -> bool:
        """Whether the values are a prior's latents, and no colours."""
        return len(self.values) != 3

    def __getitem__(self, index: int | slice) -> ValueGridScene:
        raise IndexError("this is one scene, not a batch")

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        flat = points.reshape(-1, 3)
        density, values = self._field(flat)
        inside = ((flat >= self.box[0]) & (flat <= self.box[1])).all(dim=-1)
        density = torch.where(inside, density, 0.0)
        color = self.colors(values.T[None, :, None])[0, :, 0].T
        return density.reshape(points.shape[:-1]), color.reshape(points.shape)

    def _field(
        self, points: Float[Tensor, "point 3"]
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point channel"]]:
        low, high = self.box
        grid = torch.cat([self.density[None], self.values])[None]
        found = trilinear(grid, ((points - low) / (high - low))[None])[0]
        density = functional.softplus(found[:, 0] * self.log_gain.exp() + SHIFT)
        values = found[:, 1:]
        return density, values if self.holds_latents else values.sigmoid()

    def colors(
        self, values: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view 3 height width"]:
        """Colours in [0, 1] of composited values."""
        if not self.holds_latents:
            return values
        matrix, offset = self.to_color[:, :-1], self.to_color[:, -1]
        found = torch.einsum("ck,vkhw->vchw", matrix, values)
        return (found + offset[:, None, None]).clamp(0, 1)

    def see(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Look:
        """Views (view) of the values; see `see_field`."""
        field = LitField(self._field, lambda values: values, None, self.box)
        return see_field(
            field, self._behind, cameras, size, self.num_samples, generator=generator
        )

    def _behind(
        self, directions: Float[Tensor, "ray 3"]
    ) -> Float[Tensor, "ray channel"]:
        azimuth = torch.atan2(directions[:, 1], directions[:, 0]) / (2 * math.pi) + 0.5
        polar = torch.acos(directions[:, 2].clamp(-1, 1)) / math.pi
        # One more column on either side closes the seam.
        sky = torch.cat([self.sky[..., -1:], self.sky, self.sky[..., :1]], dim=-1)
        width = self.sky.shape[-1]
        place = torch.stack([(azimuth * width + 1) / (width + 2), polar], dim=-1)
        values = bilinear(sky[None], place[None])[0]
        return values if self.holds_latents else values.sigmoid()

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`; latents are the rendering's features."""
        pieces = []
        for i in range(len(cameras)):
            look = self.see(cameras[i : i + 1], size)
            features = look.image[0] if self.holds_latents else None
            color = self.colors(look.image)[0]
            pieces.append(Rendering(color, look.depth[0], look.opacity[0], features))
        return stack_renderings(pieces)

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Any,
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; whole images are rendered."""
        look = self.see(cameras, size, generator)
        color = self.colors(look.image)
        index = pixels[..., None].expand(*pixels.shape, 3)
        return PixelRendering(
            color.flatten(-2).transpose(-1, -2).gather(-2, index),
            look.depth.flatten(-2).gather(-1, pixels),
            look.opacity.flatten(-2).gather(-1, pixels),
        )

    def bounds(self) -> Float[Tensor, "2 3"]:
        return self.box

    def tensors(self) -> dict[str, Tensor]:
        return {
            "density": self.density,
            "values": self.values,
            "sky": self.sky,
            "log_gain": self.log_gain,
            "to_color": self.to_color,
            "box": self.box,
        }

    def config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> ValueGridScene:
        if tensors["values"].shape[1:] != tensors["density"].shape:
            raise ValueError("the grids of density and values have different sizes")
        return cls(**tensors, **config)
