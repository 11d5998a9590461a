"""MVDream as a frozen prior over views, for distillation."""

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

GROUP = 4
"""Views of an object that are asked about together: as many as it is trained with."""

PredictNoise = Callable[[Tensor, Tensor, Tensor, Cameras], Tensor]
"""`MVDream.predict_noise`."""


@final
class MVDreamPrior(ViewPrior):
    """What MVDream expects to see of what a text says, from four sides at once.

    Args:
        autoencoder: Leads to the latents that are diffused.
        predict: The network of the noise.
        encode_text: Texts to embeddings (text, token, channel).
        schedule: The noise.
        image_size: Side of the images in pixels.
        suffix: What the text of an object ends with.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        predict: PredictNoise,
        encode_text: Callable[[Sequence[str]], Tensor],
        schedule: Schedule,
        image_size: int,
        suffix: str,
    ) -> None:
        self._autoencoder, self._predict = autoencoder, predict
        self._encode_text, self.schedule = encode_text, schedule
        self.device = next(autoencoder.parameters()).device
        config = autoencoder.config
        side = image_size // config.factor
        self.abilities = Abilities(
            name="MVDream",
            shape=(config.latent_channels, side, side),
            image_size=image_size,
            latent=True,
            text=True,
            poses=True,
            group=GROUP,
            suffix=suffix,
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
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "text token channel"]:
        return self._encode_text(texts)

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        count, objects = len(branches), len(x_t) // GROUP
        texts = [branch.text for branch in branches if branch.text is not None]
        # A group has one noise level and one text: those of its first view.
        found = self._predict(
            x_t.unflatten(0, (objects, GROUP)).repeat(count, 1, 1, 1, 1),
            t[::GROUP].repeat(count),
            torch.cat([text[::GROUP] for text in texts]),
            Cameras.cat([cameras.reshape(objects, GROUP)] * count),
        )
        return found.flatten(0, 1).unflatten(0, (count, len(x_t)))
