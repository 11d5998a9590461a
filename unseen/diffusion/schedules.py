"""The noise schedules: cosine, linear, scaled linear, log-SNR, EDM, flow, tables."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.schedule import Schedule, SteppedSchedule, unsqueeze_like

__all__ = [
    "CosineSchedule",
    "DiscreteSchedule",
    "EDMSchedule",
    "FlowSchedule",
    "LinearSchedule",
    "LogSNRSchedule",
    "ScaledLinearSchedule",
    "Schedule",
    "SteppedSchedule",
    "TabulatedSchedule",
    "unsqueeze_like",
]


@final
@dataclasses.dataclass(frozen=True)
class CosineSchedule(SteppedSchedule):
    """Cosine schedule, variance preserving (Nichol & Dhariwal 2021, Eq. 17).

    alpha^2 = f(t) / f(0), f(t) = cos^2(pi/2 (t + offset) / (1 + offset)). The
    discrete form clips its betas to `max_beta`, which only concerns the last step;
    the continuous form has the same floor, hence agrees with the table at every
    step, and alpha is never 0.
    """

    offset: float = 0.008
    max_beta: float = 0.999
    num_steps: int = 1000

    @property
    def _angle_0(self) -> float:
        return 0.5 * math.pi * self.offset / (1 + self.offset)

    @property
    def _rate(self) -> float:
        return 0.5 * math.pi / (1 + self.offset)

    @property
    def _floor(self) -> float:
        """alpha at t = 1: the last but one step's times the clipped sqrt(1 - beta)."""
        last = math.sin(self._rate / self.num_steps) / math.cos(self._angle_0)
        return last * math.sqrt(1 - self.max_beta)

    def alpha(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        # cos(u) = sin(pi/2 - u), which keeps its digits near t = 1.
        alpha = torch.sin(self._rate * (1 - t)) / math.cos(self._angle_0)
        return alpha.clamp(min=self._floor, max=1.0)

    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        # cos^2 a - cos^2 b = sin(b - a) sin(b + a), which keeps its digits near 0.
        moved = self._rate * t
        product = torch.sin(moved) * torch.sin(moved + 2 * self._angle_0)
        sigma = product.clamp(min=0).sqrt() / math.cos(self._angle_0)
        return sigma.clamp(max=math.sqrt(1 - self._floor**2))

    def t_from_log_snr(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        signal, noise = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
        cos = signal.sqrt() * math.cos(self._angle_0)
        sin = (noise + signal * math.sin(self._angle_0) ** 2).sqrt()
        angle = torch.atan2(sin, cos)
        return ((angle - self._angle_0) / self._rate).clamp(0, 1)

    def discrete_alphas_cumprod(
        self, num_steps: int | None = None
    ) -> Float[Tensor, "step"]:
        """The table of `num_steps` steps (by default the schedule's own)."""
        num_steps = self.num_steps if num_steps is None else num_steps
        t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
        cumprod = torch.cos(self._rate * t + self._angle_0) ** 2
        betas = (1 - cumprod[1:] / cumprod[:-1]).clamp(max=self.max_beta)
        return torch.cumprod(1 - betas, dim=0)


class TabulatedSchedule(SteppedSchedule):
    """Variance-preserving schedules that are defined by a table of alpha^2.

    Between the steps, and between step 0 and clean data, log alpha^2 is linear in t
    (the rate of noise is constant within a step): exact at the steps, monotone, and
    with an inverse in closed form.
    """

    def _nodes(self, like: Tensor) -> Float[Tensor, "node"]:
        """-log alpha^2 at t = 0, 1 / num_steps .. 1: increasing from 0."""
        nodes = torch.cat([torch.ones(1).double(), self.discrete_alphas_cumprod()])
        return -nodes.log().to(like)

    def _decay(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """-log alpha(t)^2."""
        nodes = self._nodes(t)
        place = t.clamp(0, 1) * self.num_steps
        left = place.floor().long().clamp(max=self.num_steps - 1)
        return torch.lerp(nodes[left], nodes[left + 1], place - left)

    def alpha(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return torch.exp(-0.5 * self._decay(t))

    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return torch.expm1(-self._decay(t)).neg().sqrt()

    def t_from_log_snr(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        nodes = self._nodes(log_snr)
        decay = torch.nn.functional.softplus(-log_snr, threshold=1e9)
        left = torch.searchsorted(nodes, decay, right=True) - 1
        left = left.clamp(0, self.num_steps - 1)
        fraction = (decay - nodes[left]) / (nodes[left + 1] - nodes[left])
        return ((left + fraction) / self.num_steps).clamp(0, 1)


@final
@dataclasses.dataclass(frozen=True)
class LinearSchedule(TabulatedSchedule):
    """Linear betas (Ho et al. 2020, section 4)."""

    beta_start: float = 1e-4
    beta_end: float = 0.02
    num_steps: int = 1000

    def discrete_alphas_cumprod(self) -> Float[Tensor, "step"]:
        betas = torch.linspace(
            self.beta_start, self.beta_end, self.num_steps, dtype=torch.float64
        )
        return torch.cumprod(1 - betas, dim=0)


@final
@dataclasses.dataclass(frozen=True)
class ScaledLinearSchedule(TabulatedSchedule):
    """Betas whose square roots are linear (Stable Diffusion and its descendants)."""

    beta_start: float = 0.00085
    beta_end: float = 0.012
    num_steps: int = 1000

    def discrete_alphas_cumprod(self) -> Float[Tensor, "step"]:
        start, end = math.sqrt(self.beta_start), math.sqrt(self.beta_end)
        roots = torch.linspace(start, end, self.num_steps, dtype=torch.float64)
        return torch.cumprod(1 - roots**2, dim=0)


@final
@dataclasses.dataclass(frozen=True)
class DiscreteSchedule(TabulatedSchedule):
    """Any decreasing table of alpha^2, such as one that came with weights."""

    alphas_cumprod: tuple[float, ...]

    def __post_init__(self) -> None:
        previous = 1.0
        for value in self.alphas_cumprod:
            if not 0 < value < previous:
                raise ValueError(
                    "A table of alphas_cumprod must decrease strictly within (0, 1)."
                )
            previous = value

    @property
    def num_steps(self) -> int:  # type: ignore[override]
        return len(self.alphas_cumprod)

    @classmethod
    def from_tensor(cls, alphas_cumprod: Float[Tensor, "step"]) -> DiscreteSchedule:
        """From a tensor (a buffer of a checkpoint)."""
        return cls(tuple(alphas_cumprod.double().tolist()))

    def discrete_alphas_cumprod(self) -> Float[Tensor, "step"]:
        return torch.tensor(self.alphas_cumprod, dtype=torch.float64)


@final
@dataclasses.dataclass(frozen=True)
class LogSNRSchedule(Schedule):
    """Cosine in log-SNR, variance preserving (3DiM, Watson et al. 2022).

    log_snr(t) = -2 log tan(a t + b), from `log_snr_max` at t = 0 down to
    `log_snr_min` at t = 1; hence alpha = cos(a t + b) and sigma = sin(a t + b).
    `cosine` has other limits.
    """

    log_snr_max: float = 20.0
    log_snr_min: float = -20.0

    @classmethod
    def cosine(cls, offset: float = 0.008) -> LogSNRSchedule:
        """Imagen's continuous cosine schedule (Saharia et al. 2022), as it is built.

        b = pi/2 offset / (1 + offset), and a + b = pi/2 as far as float32 knows it: the
        log-SNR of t = 1 is -33.89, which networks that were trained with it have seen.
        """
        start = 0.5 * math.pi * offset / (1 + offset)
        return cls(-2 * math.log(math.tan(start)), 2 * math.log(4.371139e-08))

    @property
    def _start(self) -> float:
        """The angle of t = 0 (b)."""
        return math.atan(math.exp(-0.5 * self.log_snr_max))

    @property
    def _rest(self) -> float:
        """What lacks to pi / 2 at t = 1."""
        return math.atan(math.exp(0.5 * self.log_snr_min))

    @property
    def _rate(self) -> float:
        """The angle between t = 0 and t = 1 (a)."""
        return 0.5 * math.pi - self._start - self._rest

    def alpha(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        # cos(u) = sin(pi/2 - u), which keeps its digits near t = 1.
        return torch.sin(self._rate * (1 - t) + self._rest)

    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return torch.sin(self._rate * t + self._start)

    def t_from_log_snr(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        angle = torch.atan(torch.exp(-0.5 * log_snr))
        return ((angle - self._start) / self._rate).clamp(0, 1)


@final
@dataclasses.dataclass(frozen=True)
class EDMSchedule(Schedule):
    """Variance exploding (EDM, Karras et al. 2022): alpha = 1.

    sigma^(1/rho) is linear in t, from `sigma_min` at t = `tail` up to `sigma_max` at
    t = 1 (their Eq. 5); below, sigma falls linearly to 0, so that t = 0 is data here
    too. Noise above `sigma_max`, which churn can ask for, continues the ramp: t > 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    tail: float = 1e-3

    @property
    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def alpha(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return torch.ones_like(t)

    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        low, high = self._ends
        share = ((t - self.tail) / (1 - self.tail)).clamp(min=0)
        ramp = (low + share * (high - low)) ** self.rho
        return torch.where(t < self.tail, self.sigma_min / self.tail * t, ramp)

    def t_from_log_snr(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        low, high = self._ends
        sigma = torch.exp(-0.5 * log_snr)
        share = (sigma ** (1 / self.rho) - low) / (high - low)
        tail = sigma * (self.tail / self.sigma_min)
        ramp = self.tail + (1 - self.tail) * share
        return torch.where(sigma < self.sigma_min, tail, ramp)


@final
@dataclasses.dataclass(frozen=True)
class FlowSchedule(Schedule):
    """Straight lines (rectified flow): alpha = 1 - t, sigma = t."""

    def alpha(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return 1 - t

    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return t

    def t_from_log_snr(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        return torch.sigmoid(-0.5 * log_snr)
