"""SparseFusion as a prior: its own predictions, and a scene distilled from it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.methods.test_sparsefusion import make
from tests.methods.tiny_priors import check_distilling
from unseen.data.cameras import object_cameras
from unseen.diffusion.prediction import x0_from_eps
from unseen.distillation.forms import MultiStep
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.prior import Branch
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.sparsefusion import SparseFusion

BOTH = [Branch(True), Branch(False)]


@pytest.fixture
def method() -> SparseFusion:
    return make().eval().requires_grad_(False)


def given(count: int = 2, seed: int = 0, side: int = 16) -> Views:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, side, side, generator=generator)
    return Views(images, object_cameras(count, generator))


def test_branches_are_its_own_denoiser(method: SparseFusion, generator) -> None:
    context, cameras = given(), object_cameras(3, generator)
    # Small enough that no estimate is cut.
    x_t = 0.1 * torch.randn(3, 12, 8, 8, generator=generator)
    t = torch.tensor([0.1, 0.2, 0.3])
    prior = method.view_prior(context)
    found = prior.predict_noise(x_t, t, cameras, BOTH, generator)
    alpha, sigma = (x[:, None, None, None] for x in method.schedule.alpha_sigma(t))
    same = Views.stack([context] * 3)
    for branch, guidance in ((0, 1.0), (1, 0.0)):
        wanted = method.denoise(x_t, t, cameras, same, guidance)
        clean = x0_from_eps(x_t, found[branch], alpha, sigma)
        torch.testing.assert_close(clean, wanted, rtol=1e-3, atol=1e-4)


def test_the_pictures_and_the_cameras_reach_the_network(method, generator) -> None:
    cameras = object_cameras(3, generator)
    x_t = torch.randn(3, 12, 8, 8, generator=generator)
    t, context = torch.full((3,), 0.5), given()
    prior = method.view_prior(context)

    def ask(prior, seen: Cameras = cameras) -> torch.Tensor:
        return prior.predict_noise(x_t, t, seen, BOTH, generator)

    first = ask(prior)
    mirrored = dataclasses.replace(context, images=context.images.flip(-1))
    # The second time the same prior is asked, about other cameras.
    for changed in (ask(method.view_prior(mirrored)), ask(prior, cameras[[1, 2, 0]])):
        assert not torch.allclose(first[0], changed[0], atol=1e-4)
        torch.testing.assert_close(first[1], changed[1])
    torch.testing.assert_close(ask(prior), first)


def test_a_scene_is_distilled_from_it(method: SparseFusion, monkeypatch) -> None:
    few = MultiStep(steps_per_unit=4)
    config = dataclasses.replace(DISTILL_PRESETS["sparsefusion"], form=few)
    monkeypatch.setitem(DISTILL_PRESETS, "sparsefusion", config)
    context = given()
    check_distilling(method.view_prior(context), "sparsefusion", given=context)
    check_distilling(method.view_prior(context), "small", given=context)


def test_images_that_do_not_fit_are_refused(method: SparseFusion) -> None:
    with pytest.raises(UserError, match="16 x 16 pixels, not 20 x 20"):
        method.view_prior(given(side=20))
    with pytest.raises(UserError, match="takes no text"):
        method.view_prior(given()).embed(["a cup"])
