"""The interface of every noise schedule.

The noise level t lies in [0, 1], 0 is data and 1 is (nearly) pure noise:

    x_t = alpha(t) x_0 + sigma(t) eps,   log_snr(t) = log(alpha(t)^2 / sigma(t)^2)

Networks that were trained with integer steps i = 0 .. num_steps - 1 live on the same
axis: step i is t = (i + 1) / num_steps, so that t = 0 (step -1) is clean data. All
functions work in the dtype and on the device of their argument.
"""

from __future__ import annotations

import abc

import torch
from jaxtyping import Float, Int
from torch import Tensor


def unsqueeze_like(
    values: Float[Tensor, "*batch"], like: Float[Tensor, "*shape"]
) -> Float[Tensor, "*broadcast"]:
    """Append axes of length 1 to `values` until it broadcasts against `like`.

    The axes of `values` must be the leading axes of `like` (ValueError otherwise).
    """
    if like.shape[: values.ndim] != values.shape:
        raise ValueError(
            f"The shape {tuple(values.shape)} is not a prefix of the shape "
            f"{tuple(like.shape)}: give one noise level per leading entry."
        )
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


class Schedule(abc.ABC):
    """Scales of signal and noise against the noise level t in [0, 1], 0 = data."""

    @abc.abstractmethod
    def alpha(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The scale of the signal, at least 0, never increasing."""

    @abc.abstractmethod
    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The scale of the noise, at least 0, never decreasing."""

    def alpha_sigma(
        self, t: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Both scales."""
        return self.alpha(t), self.sigma(t)

    def log_snr(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """log(alpha^2 / sigma^2), natural; infinite where a scale is exactly 0."""
        alpha, sigma = self.alpha_sigma(t)
        return 2 * (alpha.log() - sigma.log())

    def t_from_log_snr(
        self, log_snr: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """The noise level of a log-SNR, by bisection of [0, 1].

        Values outside of the schedule's range give the nearer end.
        """
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        # Each halving gains one bit: 64 exhaust the mantissa of any float.
        for _ in range(64):
            middle = (low + high) / 2
            too_clean = self.log_snr(middle) > log_snr
            low = torch.where(too_clean, middle, low)
            high = torch.where(too_clean, high, middle)
        return (low + high) / 2

    def add_noise(
        self,
        x_0: Float[Tensor, "*shape"],
        eps: Float[Tensor, "*shape"],
        t: Float[Tensor, "*batch"],
    ) -> Float[Tensor, "*shape"]:
        """x_t = alpha(t) x_0 + sigma(t) eps, one t per leading entry of `x_0`."""
        alpha, sigma = (unsqueeze_like(s, x_0) for s in self.alpha_sigma(t))
        return (alpha * x_0 + sigma * eps).to(x_0.dtype)


class SteppedSchedule(Schedule):
    """A schedule of networks that were trained with integer steps."""

    num_steps: int

    @abc.abstractmethod
    def discrete_alphas_cumprod(self) -> Float[Tensor, "step"]:
        """alpha^2 at the steps 0 .. num_steps - 1, as float64 on the CPU."""

    def t_of_step(self, step: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """t = (step + 1) / num_steps, float32; step -1 is clean data."""
        return (step.to(torch.float64) + 1).div(self.num_steps).to(torch.float32)

    def step_of_t(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The (fractional) step of t, at least 0: no network knows a lower one.

        What belongs to the embedding of a network that also takes fractions; round
        it for one that only takes integers.
        """
        return (t * self.num_steps - 1).clamp(min=0)
