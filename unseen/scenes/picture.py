"""Scenes that are no place, but make a picture: what a still camera sees."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import PixelRendering, Scene


@dataclasses.dataclass(frozen=True)
class PictureScene(Scene):
    """A known picture, and unknowns that make another picture of it.

    Subclasses are dataclasses of tensors that all begin with the batch shape, and say
    how the picture is made. `image` is in [0, 1]. The scene is seen by the camera that
    took it: `render` shows every camera the same.

    Raises:
        ValueError: a tensor has another batch shape than `image`.
    """

    image: Float[Tensor, "*batch 3 height width"]

    def __post_init__(self) -> None:
        for name, tensor in self.tensors().items():
            if tensor.shape[: len(self.shape)] != self.shape:
                raise ValueError(f"{name} and image are not of the same scenes")

    @abc.abstractmethod
    def picture(self) -> Float[Tensor, "*batch 3 height width"]:
        """What the camera sees, differentiably, about in [0, 1]."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.image.shape[:-3])

    def __getitem__(self, index: int | slice) -> PictureScene:
        if not self.shape:
            raise IndexError("this is one scene, not a batch")
        return type(self)(**{name: x[index] for name, x in self.tensors().items()})

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`; the same picture for every camera."""
        picture = self.picture()
        if size != tuple(picture.shape[-2:]):
            flat = picture.reshape(-1, *picture.shape[-3:])
            flat = functional.interpolate(flat, size, mode="bilinear", antialias=True)
            picture = flat.reshape(*self.shape, 3, *size)
        return Rendering(
            picture.clamp(0, 1).unsqueeze(-4).expand(*cameras.shape, 3, *size)
        )

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; of the whole picture, without random numbers."""
        color = self.render(cameras, size).color.flatten(-2).transpose(-1, -2)
        index = pixels[..., None].expand(*pixels.shape, 3)
        return PixelRendering(color.gather(-2, index))

    def bounds(self) -> Float[Tensor, "2 3"]:
        """The unit cube about the origin: a picture is at no place."""
        return self.image.new_tensor([[-0.5] * 3, [0.5] * 3])

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> PictureScene:
        return cls(**tensors)
