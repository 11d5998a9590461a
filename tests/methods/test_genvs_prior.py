"""GeNVS as a prior: its own predictions, and a scene that is distilled from it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.methods.test_genvs import make
from tests.methods.tiny_priors import check_distilling
from unseen.data.cameras import object_cameras
from unseen.distillation.prior import Branch
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.genvs import GeNVS

BOTH = [Branch(True), Branch(False)]


@pytest.fixture
def method() -> GeNVS:
    return make().eval().requires_grad_(False)


def given(count: int = 2, seed: int = 0, side: int = 16) -> Views:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, side, side, generator=generator)
    return Views(images, object_cameras(count, generator))


def test_branches_are_its_own_denoiser(method: GeNVS, generator) -> None:
    context, cameras = given(), object_cameras(3, generator)
    t = torch.tensor([0.2, 0.5, 0.9])
    sigma = method.schedule.sigma(t)
    x_t = sigma[:, None, None, None] * torch.randn(3, 3, 16, 16, generator=generator)
    prior = method.view_prior(context)
    found = prior.predict_noise(x_t, t, cameras, BOTH, generator.manual_seed(3))
    same = Views.stack([context] * 3)
    frustums = method.frustums(2 * same.images - 1, same.cameras)
    features = frustums.render(cameras.reshape(3, 1), (16, 16))[:, 0]
    noise = torch.randn(features.shape, generator=generator.manual_seed(3))
    for branch, shown in enumerate((features, noise)):
        clean = x_t - sigma[:, None, None, None] * found[branch]
        wanted = method.denoise(x_t, sigma, shown)
        torch.testing.assert_close(clean, wanted, rtol=1e-4, atol=1e-4)


def test_the_pictures_and_the_cameras_reach_the_network(method, generator) -> None:
    cameras = object_cameras(3, generator)
    x_t = torch.randn(3, 3, 16, 16, generator=generator)
    t, context = torch.full((3,), 0.5), given()
    prior = method.view_prior(context)

    def ask(prior, seen: Cameras = cameras) -> torch.Tensor:
        seed = generator.manual_seed(1)
        return prior.predict_noise(x_t, t, seen, BOTH, seed)

    first = ask(prior)
    mirrored = dataclasses.replace(context, images=context.images.flip(-1))
    for changed in (ask(method.view_prior(mirrored)), ask(prior, cameras[[1, 2, 0]])):
        assert not torch.allclose(first[0], changed[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(first[1], changed[1])


def test_a_scene_is_distilled_from_it(method: GeNVS) -> None:
    context = given()
    check_distilling(method.view_prior(context), "small", given=context)
    check_distilling(method.view_prior(context), "zero123", given=context)


def test_images_that_do_not_fit_are_refused(method: GeNVS) -> None:
    with pytest.raises(UserError, match="16 x 16 pixels, not 20 x 20"):
        method.view_prior(given(side=20))
    with pytest.raises(UserError, match="takes no text"):
        method.view_prior(given()).embed(["a cup"])
