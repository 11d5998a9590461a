"""Judgements with made-up answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unseen.diffusion.schedules import ScaledLinearSchedule, Schedule
from unseen.distillation.forms import Judgement


def identity(x: Tensor) -> Tensor:
    """An autoencoder that changes nothing."""
    return x


def no_denoiser(x_t: Tensor, t: Tensor) -> Tensor:
    """Where a form asks once, it must not ask again."""
    raise AssertionError("asked again")


def judge(
    clean: Tensor,
    eps: Tensor,
    t: Tensor,
    guided: Tensor,
    conditional: Tensor | None = None,
    schedule: Schedule | None = None,
    **others: Any,
) -> Judgement:
    """What a prior says of `clean` in latents that are the images."""
    others = {"denoise": no_denoiser, "decode": identity, "image": clean} | others
    return Judgement(
        clean=clean,
        eps=eps,
        t=t,
        schedule=schedule or ScaledLinearSchedule(),
        guided=guided,
        conditional=guided if conditional is None else conditional,
        **others,
    )


def made_up(generator: torch.Generator, views: int = 4, **others: Any) -> Judgement:
    """Random answers at random noise levels."""
    clean, eps, guided, conditional = torch.randn(
        4, views, 3, 5, 5, generator=generator, dtype=torch.float64
    )
    t = torch.rand(views, generator=generator, dtype=torch.float64)
    return judge(clean, eps, 0.02 + 0.96 * t, guided, conditional, **others)
