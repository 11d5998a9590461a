"""A scene whose surface, colours and renderings are known in closed form."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_rays
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import FieldScene, PixelRendering, Scene


@dataclasses.dataclass(frozen=True)
class BallScene(FieldScene):
    """A ball with a soft rim: red where x > 0, blue elsewhere, green towards +z."""

    center: Float[Tensor, "3"]
    radius: Float[Tensor, ""]
    peak: float = 60.0
    sharpness: float = 40.0
    num_samples: int = 24

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def __getitem__(self, index: int | slice) -> BallScene:
        raise IndexError("one scene, not a batch")

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        inside = self.radius - (points - self.center).norm(dim=-1)
        density = self.peak * torch.sigmoid(self.sharpness * inside)
        density = torch.where(inside > -0.15, density, 0.0)
        front = (points[..., 0] > self.center[0]).float()
        green = (0.5 + 0.5 * (points[..., 2] - self.center[2])).clamp(0, 1)
        color = torch.stack([0.9 * front, green, 0.9 * (1 - front)], dim=-1)
        return density, color

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        origins, directions = pixel_rays(cameras, size, pixels)
        near, far = cameras.near, cameras.far
        steps = (torch.arange(self.num_samples) + 0.5) / self.num_samples
        depths = near[..., None] + (far - near)[..., None] * steps
        depths = depths[..., None, :].expand(*pixels.shape, -1)
        points = origins[..., None, :] + depths[..., None] * directions[..., None, :]
        density, color = self.evaluate(points.flatten(-3, -2))
        length = ((far - near) / self.num_samples)[..., None, None]
        tau = density.reshape(depths.shape) * length
        tau = tau * directions.norm(dim=-1, keepdim=True)
        weights = torch.exp(-(tau.cumsum(-1) - tau)) * (1 - torch.exp(-tau))
        missed = 1 - weights.sum(-1)
        color = (weights[..., None] * color.reshape(*depths.shape, 3)).sum(-2)
        color = (color + missed[..., None]).clamp(0, 1)
        depth = (weights * depths).sum(-1) + missed * far[..., None]
        return PixelRendering(color, depth, 1 - missed)

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        pixels = torch.arange(size[0] * size[1]).expand(*cameras.shape, -1)
        found = self.render_pixels(cameras, size, pixels)
        assert found.depth is not None and found.opacity is not None
        return Rendering(
            found.color.transpose(-1, -2).unflatten(-1, size),
            found.depth.unflatten(-1, size),
            found.opacity.unflatten(-1, size),
        )

    def bounds(self) -> Float[Tensor, "2 3"]:
        return torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])

    def tensors(self) -> dict[str, Tensor]:
        return {"center": self.center, "radius": self.radius}

    def config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "sharpness": self.sharpness,
            "num_samples": self.num_samples,
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> BallScene:
        return cls(tensors["center"], tensors["radius"], **config)


def ball(x: float = 0.0, radius: float = 0.6, **settings: float) -> BallScene:
    """A ball on the world's x axis."""
    center = torch.tensor([x, 0.0, 0.0])
    return BallScene(center, torch.tensor(radius), **settings)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class SkyScene(Scene):
    """No field: a colour per direction, and one depth everywhere, or none.

    A pixel is `tint` times half of one plus its ray's unit direction in the world.
    """

    tint: Float[Tensor, "*batch 3"]
    distance: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tint.shape[:-1])

    def __getitem__(self, index: int | slice) -> SkyScene:
        return dataclasses.replace(self, tint=self.tint[index])

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        _, directions = pixel_rays(cameras, size, pixels)
        unit = torch.nn.functional.normalize(directions, dim=-1)
        color = self.tint[..., None, None, :] * (0.5 + 0.5 * unit)
        if self.distance is None:
            return PixelRendering(color)
        return PixelRendering(color, torch.full_like(color[..., 0], self.distance))

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        pixels = torch.arange(size[0] * size[1]).expand(*cameras.shape, -1)
        found = self.render_pixels(cameras, size, pixels)
        depth = None if found.depth is None else found.depth.unflatten(-1, size)
        return Rendering(found.color.transpose(-1, -2).unflatten(-1, size), depth)

    def bounds(self) -> Float[Tensor, "2 3"]:
        return torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])

    def tensors(self) -> dict[str, Tensor]:
        return {"tint": self.tint}

    def config(self) -> dict[str, Any]:
        return {"distance": self.distance}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> SkyScene:
        return cls(tensors["tint"], config["distance"])


def sky(red: float = 1.0, distance: float | None = None) -> SkyScene:
    return SkyScene(torch.tensor([red, 0.6, 0.3]), distance)
