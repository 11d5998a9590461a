"""MVDream as a prior: its own predictions, and a scene that is distilled from it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.methods.test_mvdream import make, views
from tests.methods.tiny_priors import check_distilling, draws
from unseen.data.cameras import object_cameras
from unseen.distillation.distiller import Distiller
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.prior import Branch
from unseen.distillation.prompts import PromptConfig, Prompts
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.methods.mvdream import MVDream
from unseen.methods.mvdream_prior import MVDreamPrior

pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.fixture
def method() -> MVDream:
    return make().eval().requires_grad_(False)


@pytest.fixture
def prior(method: MVDream) -> MVDreamPrior:
    return method.view_prior(views(1, 1)[0][:0])


def branches(prior: MVDreamPrior, count: int) -> list[Branch]:
    """Of a cup, and of nothing."""
    cup, empty = prior.embed(["a cup, 3d asset", ""])
    return [
        Branch(True, torch.stack([cup] * count)),
        Branch(False, torch.stack([empty] * count)),
    ]


def test_branches_are_its_own_predictions(method, prior, generator) -> None:
    cameras = object_cameras(8, generator)
    x_t = torch.randn(8, 4, 8, 8, generator=generator)
    t = method.schedule.t_of_step(torch.tensor([300, 700])).repeat_interleave(4)
    found = prior.predict_noise(x_t, t, cameras, branches(prior, 8), generator)
    assert found.shape == (2, 8, 4, 8, 8)
    for branch, text in enumerate(("a cup, 3d asset", "")):
        for start in (0, 4):
            wanted = method.predict_noise(
                x_t[None, start : start + 4],
                t[start : start + 1],
                method.encode_text([text]),
                cameras[start : start + 4].reshape(1, 4),
            )
            ours = found[branch, start : start + 4]
            torch.testing.assert_close(ours, wanted[0], rtol=1e-4, atol=1e-5)


def test_the_cameras_the_text_and_the_other_views_reach_the_network(
    prior, generator
) -> None:
    cameras = object_cameras(4, generator)
    x_t = torch.randn(4, 4, 8, 8, generator=generator)
    t = torch.full((4,), 0.5)

    def ask(noisy: torch.Tensor = x_t, seen: Cameras = cameras) -> torch.Tensor:
        return prior.predict_noise(noisy, t, seen, branches(prior, 4), generator)

    first = ask()
    assert not torch.allclose(first[0], first[1], atol=1e-4)
    assert not torch.allclose(first, ask(seen=cameras[[1, 2, 3, 0]]), atol=1e-4)
    # A change of the last view alone is seen in the first.
    other = torch.cat([x_t[:3], x_t[3:].flip(-1)])
    assert not torch.allclose(first[:, 0], ask(other)[:, 0], atol=1e-4)


def test_what_is_wanted_is_called_as_in_training(prior, monkeypatch) -> None:
    asked: list[str] = []
    original = prior.embed

    def listen(texts):
        asked.extend(texts)
        return original(texts)

    monkeypatch.setattr(prior, "embed", listen)
    Prompts(prior, "a cup", PromptConfig(views="none", negative="ugly"))
    assert set(asked) == {"a cup, 3d asset", "ugly"}


@pytest.mark.parametrize("preset", ["mvdream", "small-mvdream"])
def test_a_scene_is_distilled_from_it(prior, preset: str) -> None:
    check_distilling(prior, preset, "a cup")


def test_settings_that_do_not_fit_are_refused(prior) -> None:
    config = DISTILL_PRESETS["mvdream"]
    with pytest.raises(UserError, match="say it with --prompt"):
        Distiller(prior, config, draws)
    with pytest.raises(UserError, match="4 views of the object at a time"):
        Distiller(prior, DISTILL_PRESETS["small"], draws, "a cup")
    sides = dataclasses.replace(config, prompts=PromptConfig(views="suffix"))
    with pytest.raises(UserError, match="say the side in words"):
        Distiller(prior, sides, draws, "a cup")
