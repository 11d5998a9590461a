"""GeNVS as a frozen prior over views, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.noise import normal_like
from unseen.diffusion.prediction import eps_from_x0
from unseen.diffusion.schedules import EDMSchedule, unsqueeze_like
from unseen.distillation.prior import Abilities, Branch, ViewPrior, resize
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`GeNVS.denoise`: of x_t, sigma and features to x_0."""


@final
class GeNVSPrior(ViewPrior):
    """What GeNVS expects to see, given the features of all given views together.

    Args:
        denoise: The network of the clean images in [-1, 1].
        render: Images of features at cameras (view,): (view, feature, height, width).
        schedule: The noise.
        image_size: Side of the images in pixels.
        device: Where all of it lives.
    """

    def __init__(
        self,
        denoise: Denoise,
        render: Callable[[Cameras], Tensor],
        schedule: EDMSchedule,
        image_size: int,
        device: torch.device,
    ) -> None:
        self._denoise, self._render = denoise, render
        self.schedule: EDMSchedule = schedule
        self.device = device
        self._seen: tuple[Cameras, Tensor] | None = None
        self.abilities = Abilities(
            shape=(3, image_size, image_size),
            image_size=image_size,
            image=True,
            poses=True,
        )

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

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "text token channel"]:
        raise UserError("GeNVS takes no text: name an image.")

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        # Several steps of denoising ask about the same cameras.
        if self._seen is None or self._seen[0] is not cameras:
            self._seen = (cameras, self._render(cameras))
        features, count = self._seen[1], len(branches)
        # Without the condition it sees noise.
        shown = [
            features if branch.conditional else normal_like(features, generator)
            for branch in branches
        ]
        sigma = self.schedule.sigma(t).to(x_t).repeat(count)
        noisy = x_t.repeat(count, 1, 1, 1)
        clean = self._denoise(noisy, sigma, torch.cat(shown))
        sigma = unsqueeze_like(sigma, noisy)
        eps = eps_from_x0(noisy, clean, torch.ones_like(sigma), sigma)
        return eps.unflatten(0, (count, len(x_t)))
