"""A prior whose denoiser is exact: a mixture of Gaussians on the line."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from unseen.diffusion.schedules import Schedule, unsqueeze_like


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Components with means, standard deviations and weights."""

    means: tuple[float, ...] = (-1.0, 0.2, 1.1)
    stds: tuple[float, ...] = (0.2, 0.3, 0.25)
    weights: tuple[float, ...] = (0.3, 0.4, 0.3)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        values = torch.tensor([self.means, self.stds, self.weights]).double()
        return values[0], values[1], values[2]

    def denoiser(self, schedule: Schedule):
        """E[x_0 | x_t] in float64, for x_t of shape (batch, 1)."""
        mean, std, weight = self._tensors()

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            scales = schedule.alpha_sigma(t.double())
            alpha, sigma = (unsqueeze_like(scale, x_t) for scale in scales)
            variance = sigma**2 + alpha**2 * std**2
            residual = x_t - alpha * mean
            logits = weight.log() - 0.5 * (variance.log() + residual**2 / variance)
            estimate = mean + alpha * std**2 / variance * residual
            x_0 = (logits.softmax(-1) * estimate).sum(-1, keepdim=True)
            return x_0.to(x_t.dtype)

        return denoise

    def noised(
        self, schedule: Schedule, t: float, number: int, generator: torch.Generator
    ) -> Tensor:
        """Draws of x_t, (number, 1)."""
        mean, std, weight = self._tensors()
        component = weight.multinomial(number, replacement=True, generator=generator)
        z = torch.randn(2, number, generator=generator, dtype=torch.float64)
        x_0 = mean[component] + std[component] * z[0]
        level = torch.full((number,), t, dtype=torch.float64)
        return schedule.add_noise(x_0, z[1], level)[:, None]

    def cdf(self, x: Tensor, alpha: float = 1.0, sigma: float = 0.0) -> Tensor:
        """The exact distribution function of x_t at points (number,)."""
        mean, std, weight = self._tensors()
        spread = (sigma**2 + alpha**2 * std**2).sqrt()
        normal = torch.special.ndtr((x[:, None] - alpha * mean) / spread)
        return (normal * weight).sum(-1)

    def quantiles(
        self, ranks: Tensor, alpha: float = 1.0, sigma: float = 0.0
    ) -> Tensor:
        """The inverse of `cdf`, by bisection.

        The probability flow on the line is monotone: it carries every quantile of
        x_t to the same quantile at any other t.
        """
        low = torch.full_like(ranks, -10 * (alpha + sigma))
        high = -low
        for _ in range(64):
            middle = (low + high) / 2
            below = self.cdf(middle, alpha, sigma) < ranks
            low = torch.where(below, middle, low)
            high = torch.where(below, high, middle)
        return (low + high) / 2
