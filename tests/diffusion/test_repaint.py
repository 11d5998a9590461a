"""Inpainting of a Gaussian, whose conditional distribution is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unseen.diffusion.noise import get_noise
from unseen.diffusion.repaint import repaint
from unseen.diffusion.samplers import times_uniform
from unseen.diffusion.schedules import CosineSchedule

SCHEDULE, RHO = CosineSchedule(), 0.9


def denoise(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t] of two standard normal numbers of correlation RHO."""
    alpha, sigma = SCHEDULE.alpha_sigma(t[0])
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=x_t.dtype)
    noisy = alpha**2 * covariance + sigma**2 * torch.eye(2, dtype=x_t.dtype)
    return x_t @ torch.linalg.solve(noisy, alpha * covariance)


def inpaint(value: float, repeats: int, number: int = 4000) -> tuple[Tensor, int]:
    """Draws of (given, sampled), and how often the denoiser was asked."""
    generator = torch.Generator().manual_seed(0)
    noise = get_noise(generator, None)
    known = torch.tensor([value, math.nan]).double().expand(number, 2)
    hidden = known.isnan()
    counted: list[int] = []
    found = repaint(
        denoise,
        noise(known),
        known,
        hidden,
        SCHEDULE,
        times_uniform(40),
        noise=noise,
        repeats=repeats,
        on_step=lambda index, *_: counted.append(index),
    )
    assert counted == list(range(len(counted)))
    return found, len(counted)


def test_what_is_hidden_follows_what_is_known() -> None:
    for value in (1.5, -0.5):
        found, count = inpaint(value, repeats=12)
        assert count == 39 * 12 + 1
        # What is known is as it was, and nothing of the hidden part was used.
        assert (found[:, 0] == value).all() and found.isfinite().all()
        mean, std = found[:, 1].mean(), found[:, 1].std()
        assert float(mean) == pytest.approx(RHO * value, abs=0.08)
        assert float(std) == pytest.approx(math.sqrt(1 - RHO**2), abs=0.08)


def test_repeats_are_what_makes_the_parts_agree() -> None:
    """Without them the known part comes too late to be followed (section 4.2)."""
    errors = [
        abs(float(inpaint(1.5, repeats)[0][:, 1].mean()) - 1.5 * RHO)
        for repeats in (1, 3, 12)
    ]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]
