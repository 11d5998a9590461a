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
from unseen.distillation.prior import Abilities, Branch, PixelPrior, remember_last
from unseen.geometry.cameras import Cameras

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`GeNVS.denoise`: of x_t, sigma and features to x_0."""


@final
class GeNVSPrior(PixelPrior):
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
        self._denoise, self._render = denoise, remember_last(render)
        self.schedule: EDMSchedule = schedule
        self.device = device
        self.abilities = Abilities(
            name="GeNVS",
            shape=(3, image_size, image_size),
            image_size=image_size,
            image=True,
            poses=True,
        )

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        features, count = self._render(cameras), len(branches)
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
