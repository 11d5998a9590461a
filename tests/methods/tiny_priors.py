"""Distilling a few steps from a method with small random weights."""

from __future__ import annotations

import dataclasses
import math

import torch

from unseen.distillation.distiller import Distiller
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.prior import ViewPrior
from unseen.distillation.representations import GaussianCloud
from unseen.geometry.views import Views


def draws(step: int) -> torch.Generator:
    """The generator of a step."""
    return torch.Generator().manual_seed(step + 10)


def check_distilling(
    prior: ViewPrior,
    preset: str,
    prompt: str | None = None,
    given: Views | None = None,
    steps: int = 2,
) -> None:
    """Every step has a finite loss and a gradient from the prior, and moves the scene.

    The settings are a preset's, with a small cloud of Gaussians as the scene.
    """
    config = dataclasses.replace(
        DISTILL_PRESETS[preset], representation=GaussianCloud(count=60), size=16
    )
    regularizers = dataclasses.replace(config.regularizers, orientation=0.0)
    config = dataclasses.replace(config, regularizers=regularizers, views=4)
    distiller = Distiller(prior, config, draws, prompt, given)
    for step in range(steps):
        before = distiller.tensors["means"].detach().clone()
        report = distiller.step(step, with_norms=True)
        assert all(math.isfinite(x) for x in report.terms.values()), report.terms
        assert 0 < report.norms["prior"] < math.inf
        assert not torch.equal(before, distiller.tensors["means"])
