"""Priors whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unseen.diffusion.prediction import eps_from_x0
from unseen.diffusion.schedules import (
    ScaledLinearSchedule,
    Schedule,
    unsqueeze_like,
)
from unseen.distillation.prior import Abilities, Branch, ViewPrior
from unseen.geometry.cameras import Cameras


class ExactPrior(ViewPrior):
    """Gaussians around the pictures of some scenes: the exact score of their mixture.

    `pictures` gives, for cameras (view), images (component, view, 3, side, side); every
    branch has the same answer, so guidance changes nothing. It counts how often it was
    asked and what it was told.
    """

    schedule: Schedule = ScaledLinearSchedule()
    device = torch.device("cpu")

    def __init__(
        self,
        pictures: Callable[[Cameras], Tensor],
        side: int,
        spread: float = 0.1,
        **abilities: Any,
    ) -> None:
        self._pictures, self._spread = pictures, spread
        self.abilities = Abilities(
            "a prior of the tests", (3, side, side), side, **abilities
        )
        self.asked = 0
        self.texts: list[Tensor | None] = []

    def encode(self, images: Tensor, generator: torch.Generator) -> Tensor:
        size = self.abilities.shape[1:]
        if images.shape[-2:] != size:
            images = torch.nn.functional.interpolate(images, size, mode="bilinear")
        return 2 * images - 1

    def decode(self, clean: Tensor) -> Tensor:
        return 0.5 * (clean + 1)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Every text as the number of its letters."""
        lengths = torch.tensor([float(len(text)) for text in texts])
        return lengths[:, None, None].expand(-1, 1, 2)

    def denoise(self, x_t: Tensor, t: Tensor, cameras: Cameras) -> Tensor:
        """E[x_0 | x_t]."""
        scales = self.schedule.alpha_sigma(t.double())
        alpha, sigma = (unsqueeze_like(x, x_t) for x in scales)
        means = 2 * self._pictures(cameras).double() - 1
        variance = sigma**2 + (alpha * self._spread) ** 2
        residual = x_t - alpha * means
        logits = -0.5 * (residual**2 / variance).flatten(2).sum(-1)
        gain = alpha * self._spread**2 / variance
        estimates = means + gain * residual
        share = logits.softmax(dim=0)[..., None, None, None]
        return (share * estimates).sum(dim=0).to(x_t.dtype)

    def predict_noise(
        self,
        x_t: Tensor,
        t: Tensor,
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Tensor:
        self.asked += 1
        self.texts = [branch.text for branch in branches]
        alpha, sigma = (
            unsqueeze_like(x, x_t) for x in self.schedule.alpha_sigma(t.double())
        )
        x_0 = self.denoise(x_t, t, cameras)
        eps = eps_from_x0(x_t.double(), x_0.double(), alpha, sigma).to(x_t.dtype)
        return torch.stack([eps] * len(branches))
