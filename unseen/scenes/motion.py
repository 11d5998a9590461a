"""A picture and how it moves: the unknown of DFM where the forward model is a warp."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_centers
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import PixelRendering, Scene


@dataclasses.dataclass(frozen=True)
class MotionScene(Scene):
    """A picture that moves, in one way or (undecided) in several at once.

    `image` is in [0, 1]. `flows` say, for each pixel of the moved picture, where what
    it shows was before: an offset (x, y) in image widths and heights. There are several
    layers of them, whose pictures are averaged with the softmax of `logits`: as a
    volume is half transparent where it does not know, a motion is several where it does
    not.

    It is seen by the camera that took the picture, standing still: `render` shows every
    camera the same. `features` of a rendering are the mean flow. It is at no place in
    the world.
    """

    image: Float[Tensor, "*batch 3 height width"]
    flows: Float[Tensor, "*batch layer 2 height width"]
    logits: Float[Tensor, "*batch layer"]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.image.shape[:-3])

    def __getitem__(self, index: int | slice) -> MotionScene:
        if not self.shape:
            raise IndexError("this is one scene, not a batch")
        return MotionScene(self.image[index], self.flows[index], self.logits[index])

    @property
    def weights(self) -> Float[Tensor, "*batch layer 1 1 1"]:
        """The share of each layer."""
        return self.logits.softmax(dim=-1)[..., None, None, None]

    @property
    def flow(self) -> Float[Tensor, "*batch 2 height width"]:
        """The mean flow of all layers."""
        return (self.weights * self.flows).sum(dim=-4)

    def at(self, share: float) -> MotionScene:
        """The scene when a share of the motion is done: 0 is the picture itself."""
        return dataclasses.replace(self, flows=share * self.flows)

    def moved(self) -> Float[Tensor, "*batch 3 height width"]:
        """The moved picture, differentiably."""
        layers = self.flows.shape[-4]
        images = self.image.unsqueeze(-4).expand(*self.shape, layers, -1, -1, -1)
        moved = warp(images.flatten(0, -4), self.flows.flatten(0, -4))
        return (self.weights * moved.reshape(images.shape)).sum(dim=-4)

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`; the moved picture, for every camera."""
        planes = torch.cat([self.moved(), self.flow], dim=-3)
        if size != tuple(self.image.shape[-2:]):
            flat = planes.reshape(-1, *planes.shape[-3:])
            flat = functional.interpolate(flat, size, mode="bilinear", antialias=True)
            planes = flat.reshape(*planes.shape[:-2], *size)
        planes = planes.unsqueeze(-4).expand(*cameras.shape, 5, *size)
        color, flow = planes.split([3, 2], dim=-3)
        return Rendering(color.clamp(0, 1), features=flow)

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; whole pictures are moved, nothing is random."""
        color = self.render(cameras, size).color.flatten(-2).transpose(-1, -2)
        index = pixels[..., None].expand(*pixels.shape, 3)
        return PixelRendering(color.gather(-2, index))

    def bounds(self) -> Float[Tensor, "2 3"]:
        """The unit cube about the origin: a motion is at no place."""
        return self.image.new_tensor([[-0.5] * 3, [0.5] * 3])

    def tensors(self) -> dict[str, Tensor]:
        return {"image": self.image, "flows": self.flows, "logits": self.logits}

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> MotionScene:
        image, flows = tensors["image"], tensors["flows"]
        size = image.shape[-2:]
        layers = (*image.shape[:-3], flows.shape[-4])
        if flows.shape != (*layers, 2, *size) or tensors["logits"].shape != layers:
            raise ValueError("image, flows and logits do not fit together")
        return cls(image, flows, tensors["logits"])


def warp(
    images: Float[Tensor, "batch channel height width"],
    flows: Float[Tensor, "batch 2 height width"],
) -> Float[Tensor, "batch channel height width"]:
    """What was at a pixel's place plus its flow; beyond an image its border goes on.

    Flows are in image widths and heights.
    """
    size = (images.shape[-2], images.shape[-1])
    source = pixel_centers(size, images.device) + flows.movedim(1, -1)
    return functional.grid_sample(
        images, 2 * source - 1, padding_mode="border", align_corners=False
    )
