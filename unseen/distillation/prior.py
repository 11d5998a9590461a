"""What distillation asks of a frozen diffusion model of views."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.diffusion.schedules import Schedule
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras


@dataclasses.dataclass(frozen=True)
class Branch:
    """One condition under which a prior is asked about the same noisy views.

    `conditional` is False for a prior's own null condition; a prior of text is given
    `text` (its embeddings, one per view) either way.
    """

    conditional: bool = True
    text: Float[Tensor, "view token channel"] | None = None


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What a prior is, and what it can be told.

    `name` is what people call it. `shape` is that of a diffused view (channel, height,
    width); `image_size` the side in pixels of the images that it stands for. `latent`
    says that the two differ by an autoencoder. A prior takes `text`, or the `image`
    that it was made with, or both; `poses` says whether it is told the cameras. `group`
    views of one object are always asked about together, at one noise level. What is
    wanted is said in words that end with `suffix`.
    """

    name: str
    shape: tuple[int, int, int]
    image_size: int
    latent: bool = False
    text: bool = False
    image: bool = False
    poses: bool = False
    group: int = 1
    suffix: str = ""


class ViewPrior(abc.ABC):
    """A frozen model of the noise in views; images are in [0, 1] at its boundary.

    Its diffused space is that of `encode`. Weights need no gradients; gradients flow
    through `encode` alone.
    """

    schedule: Schedule
    """The noise that it was trained with."""

    abilities: Abilities
    """What it is, and what it can be told."""

    device: torch.device
    """Where it lives."""

    @abc.abstractmethod
    def encode(
        self,
        images: Float[Tensor, "view 3 height width"],
        generator: torch.Generator,
    ) -> Float[Tensor, "view channel diffused_height diffused_width"]:
        """Images of any size as clean diffused views; differentiable."""

    @abc.abstractmethod
    def decode(
        self, clean: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view 3 image_height image_width"]:
        """Clean diffused views as images."""

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "text token channel"]:
        """Embeddings of texts. Raises UserError if it takes none."""
        raise UserError(f"{self.abilities.name} takes no text: name an image.")

    @abc.abstractmethod
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        """eps in views (view) seen by `cameras`, under every branch's condition."""


class PixelPrior(ViewPrior):
    """A prior over the images themselves, in [-1, 1]."""

    def encode(
        self,
        images: Float[Tensor, "view 3 height width"],
        generator: torch.Generator,
    ) -> Float[Tensor, "view channel diffused_height diffused_width"]:
        return 2 * resize(images, self.abilities.image_size) - 1

    def decode(
        self, clean: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view 3 image_height image_width"]:
        return (0.5 * (clean + 1)).clamp(0, 1)


def remember_last(look: Callable[[Cameras], Tensor]) -> Callable[[Cameras], Tensor]:
    """A function of cameras that answers the cameras of the call before at once.

    Several steps of denoising ask about the very same ones.
    """
    last: list[tuple[Cameras, Tensor]] = []

    def remembered(cameras: Cameras) -> Tensor:
        if not last or last[0][0] is not cameras:
            last[:] = [(cameras, look(cameras))]
        return last[0][1]

    return remembered


def resize(
    images: Float[Tensor, "view channel height width"], side: int
) -> Float[Tensor, "view channel side side"]:
    """Images with another number of pixels; differentiable."""
    if images.shape[-2:] == (side, side):
        return images
    return functional.interpolate(images, (side, side), mode="bilinear")
