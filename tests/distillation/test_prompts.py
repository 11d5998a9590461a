"""Prompts follow the view, and ramps the step."""

from __future__ import annotations

import math

import pytest
import torch

from tests.distillation.priors import ExactPrior
from unseen.distillation.cameras import CameraPrior, Viewpoints, sample_viewpoints
from unseen.distillation.prompts import (
    PromptConfig,
    Prompts,
    direction_of,
    view_prompt,
)
from unseen.distillation.ramp import Ramp, ramp, value_at


def views(azimuths: list[float], elevations: list[float], generator) -> Viewpoints:
    cameras = sample_viewpoints(CameraPrior(), len(azimuths), generator).cameras
    angles = torch.tensor([azimuths, elevations]).float()
    return Viewpoints(cameras, angles[0], angles[1])


@pytest.mark.parametrize(
    ("azimuth", "elevation", "name"),
    [
        (0, 0, "front"),
        (-44, 10, "front"),
        (46, 0, "side"),
        (-134, 0, "side"),
        (136, 0, "back"),
        (-180, 59, "back"),
        (0, 61, "overhead"),
    ],
)
def test_directions(azimuth: float, elevation: float, name: str) -> None:
    found = direction_of(float(azimuth), float(elevation), PromptConfig())
    assert found == name


def test_words() -> None:
    suffix, prefix = PromptConfig(), PromptConfig(views="prefix")
    assert view_prompt("a cup", "back", suffix) == "a cup, back view"
    assert view_prompt("a cup", "back", prefix) == "backside view of a cup"
    assert view_prompt("a cup", "back", PromptConfig(views="none")) == "a cup"


def prompts(generator, **settings) -> Prompts:
    """The prior embeds a text as the number of its letters."""
    prior = ExactPrior(lambda cameras: torch.zeros(1, 1, 3, 2, 2), 2, text=True)
    return Prompts(prior, "cup", PromptConfig(negative="bad", **settings))


def test_every_view_has_its_own_embedding(generator) -> None:
    seen = views([0, 90, 180, 0], [0, 0, 0, 80], generator)
    positive, negative = prompts(generator).branches(seen, guided=True)
    lengths = [len(f"cup, {x} view") for x in ("front", "side", "back", "overhead")]
    assert positive.text is not None and negative.text is not None
    assert positive.text[:, 0, 0].tolist() == lengths
    assert negative.text[:, 0, 0].tolist() == [3.0] * 4
    assert positive.conditional and not negative.conditional
    assert len(prompts(generator).branches(seen, guided=False)) == 1


def test_perpendicular_negatives_follow_the_view(generator) -> None:
    seen = views([0, 90, -180, 45, 20], [0, 0, 0, 0, 80], generator)
    branches, weights = prompts(generator, perpendicular=True).perpendicular_branches(
        seen
    )
    front, side, back, overhead = (
        len(f"cup, {x} view") for x in ("front", "side", "back", "overhead")
    )
    texts = [b.text[:, 0, 0].tolist() for b in branches if b.text is not None]
    assert texts[0] == [front, side, back, 0.5 * (front + side), overhead]
    assert texts[1] == [3.0] * 5
    assert texts[2] == [front, side, side, front, 3.0]
    assert texts[3] == [side, front, front, side, 3.0]
    # The side that is seen is not fought against; overhead nothing is.
    assert weights[:, 0].tolist() == pytest.approx([0.0, -(4 - 2.426)], abs=1e-3)
    assert weights[:, 1].tolist() == pytest.approx([0.0, -1.574], abs=2e-3)
    assert weights[:, 2].tolist() == pytest.approx([-(1 - 0.606), -1.967], abs=1e-3)
    middle = -(4 * math.exp(-0.25) - 2.426)
    assert weights[:, 3].tolist() == pytest.approx([middle, middle])
    assert weights[:, 4].tolist() == [0, 0] and weights.max() <= 1e-3


def test_ramps() -> None:
    low = ramp(100, 0, 10, 200)
    assert [low.at(x) for x in (0, 100, 150, 200, 999)] == [0, 0, 5, 10, 10]
    jump = Ramp(((5000, 8.0), (5000, 4.0)))
    assert (jump.at(4999), jump.at(5000)) == (8.0, 4.0)
    several = Ramp(((0, 1.0), (10, 2.0), (10, 5.0), (20, 6.0)))
    assert [several.at(x) for x in (0, 9, 10, 15, 20)] == [1, 1.9, 5, 5.5, 6]
    assert value_at(3, 7) == 3.0 and value_at(low, 150) == 5.0
    with pytest.raises(ValueError, match="ascend"):
        Ramp(((2, 1.0), (1, 1.0)))
