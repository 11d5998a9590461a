"""Zero-1-to-3 as a frozen prior over views, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.schedules import Schedule
from unseen.distillation.prior import Abilities, Branch, ViewPrior, resize
from unseen.geometry.cameras import Cameras
from unseen.networks.latent import Autoencoder

PredictNoise = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""`Zero123.predict_noise`."""


@final
class Zero123Prior(ViewPrior):
    """What Zero-1-to-3 expects to see around a given view.

    Args:
        autoencoder: Leads to the latents that are diffused.
        predict: The network of the noise.
        tokens: What the network is told of cameras (view,): (view, 1, context).
        latent: The given view's, (1, channel, height, width).
        schedule: The noise.
        image_size: Side of the images in pixels.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        predict: PredictNoise,
        tokens: Callable[[Cameras], Tensor],
        latent: Float[Tensor, "1 channel height width"],
        schedule: Schedule,
        image_size: int,
    ) -> None:
        self._autoencoder, self._predict, self._tokens = autoencoder, predict, tokens
        self._latent, self.schedule = latent, schedule
        self.device = latent.device
        channels, height, width = latent.shape[1:]
        self.abilities = Abilities(
            name="Zero-1-to-3",
            shape=(channels, height, width),
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
        images = resize(images, self.abilities.image_size)
        return self._autoencoder.draw(2 * images - 1, generator)

    @torch.no_grad()
    def decode(
        self, clean: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view 3 image_height image_width"]:
        images = self._autoencoder.decode(clean / self._autoencoder.config.scale)
        return (0.5 * (images + 1)).clamp(0, 1)

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        views, count = len(x_t), len(branches)
        # Without the condition it sees zeros in place of the token and of the latent.
        kept = torch.tensor([float(branch.conditional) for branch in branches])
        kept = kept.to(x_t).repeat_interleave(views)
        found = self._predict(
            x_t.repeat(count, 1, 1, 1),
            t.repeat(count),
            self._tokens(cameras).repeat(count, 1, 1) * kept[:, None, None],
            self._latent * kept[:, None, None, None],
        )
        return found.unflatten(0, (count, views))
