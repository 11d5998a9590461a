"""3DiM as a frozen prior over views, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.noise import normal_like
from unseen.diffusion.schedules import Schedule
from unseen.distillation.prior import (
    Abilities,
    Branch,
    PixelPrior,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.method import check_given

PredictNoise = Callable[[Views, Tensor, Cameras, Tensor, Tensor, Tensor], Tensor]
"""`ThreeDiM.predict_noise`."""


@final
class ThreeDiMPrior(PixelPrior):
    """What 3DiM expects to see, given views (view) of an object.

    Every view that is asked about is conditioned on a given one, drawn anew each time.
    """

    def __init__(
        self, predict: PredictNoise, given: Views, schedule: Schedule, image_size: int
    ) -> None:
        check_given("3DiM", given, image_size)
        self._predict, self.schedule = predict, schedule
        self.device = given.cameras.device
        self._given = Views(given.images, given.cameras)
        self.abilities = Abilities(
            name="3DiM",
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
        views, count = len(x_t), len(branches)
        chosen = torch.randint(len(self._given), (views,), generator=generator)
        clean = self._given[chosen.to(x_t.device)]
        kept = [torch.full((views,), branch.conditional) for branch in branches]
        found = self._predict(
            Views.cat([clean] * count),
            x_t.repeat(count, 1, 1, 1),
            Cameras.cat([cameras] * count),
            t.repeat(count),
            torch.cat(kept).to(x_t.device),
            normal_like(x_t.repeat(count, 1, 1, 1), generator),
        )
        return found.unflatten(0, (count, views))
