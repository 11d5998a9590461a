"""SparseFusion's diffusion model as a frozen prior over views, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.schedules import Schedule
from unseen.distillation.prior import (
    Abilities,
    Branch,
    ViewPrior,
    remember_last,
    resize,
)
from unseen.geometry.cameras import Cameras
from unseen.networks.image_latents import Latents

PredictNoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`SparseFusion.predict_noise`."""


@final
class SparseFusionPrior(ViewPrior):
    """What SparseFusion expects to see, given a few views of a scene.

    Args:
        latents: The space in which views are diffused.
        predict: The network of the noise.
        look: What the given views show at cameras (view,), as features
            (view, feature, height, width).
        schedule: The noise.
        side: Of the latents.
        image_size: Side of the images in pixels.
        device: Where all of it lives.
    """

    def __init__(
        self,
        latents: Latents,
        predict: PredictNoise,
        look: Callable[[Cameras], Tensor],
        schedule: Schedule,
        side: int,
        image_size: int,
        device: torch.device,
    ) -> None:
        self._latents, self._predict = latents, predict
        self._look = remember_last(look)
        self.schedule, self.device = schedule, device
        self.abilities = Abilities(
            name="SparseFusion",
            shape=(latents.channels, side, side),
            image_size=image_size,
            latent=True,
            image=True,
            poses=True,
        )

    def encode(
        self,
        images: Float[Tensor, "view 3 height width"],
        generator: torch.Generator,
    ) -> Float[Tensor, "view channel diffused_height diffused_width"]:
        return self._latents.encode(2 * resize(images, self.abilities.image_size) - 1)

    @torch.no_grad()
    def decode(
        self, clean: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view 3 image_height image_width"]:
        return (0.5 * (self._latents.decode(clean) + 1)).clamp(0, 1)

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        features, count = self._look(cameras), len(branches)
        # Without the condition it sees zeros.
        kept = [features * float(branch.conditional) for branch in branches]
        found = self._predict(
            x_t.repeat(count, 1, 1, 1), t.repeat(count), torch.cat(kept)
        )
        return found.unflatten(0, (count, len(x_t)))
