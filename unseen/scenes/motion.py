"""A picture and how it moves: the unknown of DFM where the forward model is a warp."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.geometry.rays import pixel_centers
from unseen.scenes.picture import PictureScene


@dataclasses.dataclass(frozen=True)
class MotionScene(PictureScene):
    """A picture that moves, in one way or (undecided) in several at once.

    `flows` say, for each pixel of the moved picture, where what it shows was before: an
    offset (x, y) in image widths and heights. There are several of them, whose pictures
    are averaged with the softmax of `logits`: as a volume is half transparent where it
    does not know, a motion is several where it does not. Their shares are those of
    whole pictures, so that nothing can vanish on the way.
    """

    flows: Float[Tensor, "*batch layer 2 height width"]
    logits: Float[Tensor, "*batch layer"]

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

    def picture(self) -> Float[Tensor, "*batch 3 height width"]:
        """The moved picture."""
        layers = self.flows.shape[-4]
        images = self.image.unsqueeze(-4).expand(*self.shape, layers, -1, -1, -1)
        moved = warp(images.flatten(0, -4), self.flows.flatten(0, -4))
        return (self.weights * moved.reshape(images.shape)).sum(dim=-4)


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
