"""Zero-1-to-3 as a prior: its own predictions, and a scene distilled from it."""

from __future__ import annotations

import pytest
import torch

from tests.methods.test_zero123 import make
from tests.methods.tiny_priors import check_distilling
from unseen.data.cameras import object_cameras
from unseen.distillation.prior import Branch
from unseen.errors import UserError
from unseen.geometry.views import Views
from unseen.methods.zero123 import Zero123

pytest.importorskip("diffusers", reason="diffusers is not installed")

BOTH = [Branch(True), Branch(False)]


@pytest.fixture
def method() -> Zero123:
    return make().eval().requires_grad_(False)


def given(seed: int = 0, side: int = 16) -> Views:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 3, side, side, generator=generator)
    return Views(images, object_cameras(1, generator))


def test_branches_are_its_own_predictions(method: Zero123, generator) -> None:
    context, cameras = given(), object_cameras(3, generator)
    prior = method.view_prior(context)
    x_t = torch.randn(3, 4, 8, 8, generator=generator)
    t = method.schedule.t_of_step(torch.tensor([200, 500, 900]))
    found = prior.predict_noise(x_t, t, cameras, BOTH, generator)
    three = torch.zeros(3, dtype=torch.long)
    token = method.make_token(
        method.image_encoder(2 * context.images - 1)[three],
        context.cameras[three],
        cameras,
    )
    latent = method.given_latent(context)[three]
    for branch, share in ((0, 1.0), (1, 0.0)):
        wanted = method.predict_noise(x_t, t, share * token, share * latent)
        torch.testing.assert_close(found[branch], wanted, rtol=1e-4, atol=1e-5)
    # Guidance is that of sampling.
    alpha, sigma = (x[:, None, None, None] for x in method.schedule.alpha_sigma(t))
    guided = found[1] + 3 * (found[0] - found[1])
    clean = method.denoise(x_t, t, token, latent, 3.0)
    torch.testing.assert_close(
        alpha * clean + sigma * guided, x_t, rtol=1e-4, atol=1e-4
    )


def test_the_picture_and_the_cameras_reach_the_network(method, generator) -> None:
    cameras = object_cameras(3, generator)
    x_t = torch.randn(3, 4, 8, 8, generator=generator)
    t = torch.full((3,), 0.5)

    def ask(context: Views, seen=cameras) -> torch.Tensor:
        return method.view_prior(context).predict_noise(x_t, t, seen, BOTH, generator)

    first, other, turned = ask(given()), ask(given(5)), ask(given(), cameras[[1, 2, 0]])
    for changed in (other, turned):
        assert not torch.allclose(first[0], changed[0], atol=1e-4)
        torch.testing.assert_close(first[1], changed[1])


def test_images_and_latents(method: Zero123, generator) -> None:
    prior = method.view_prior(given())
    images = torch.rand(2, 3, 20, 20, generator=generator).requires_grad_()
    clean = prior.encode(images, generator)
    assert clean.shape == (2, *prior.abilities.shape)
    (gradient,) = torch.autograd.grad(clean.square().sum(), images)
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()
    # Of a picture that fits, drawn latents lie around the scaled mean.
    context = given()
    drawn = torch.cat([prior.encode(context.images, generator) for _ in range(200)])
    mean, std = method.autoencoder.encode(2 * context.images - 1)
    error = (drawn.mean(dim=0) - 0.5 * mean[0]).abs()
    assert (error < 0.5 * std[0] * 0.4).all() and drawn.std(dim=0).mean() > 0
    decoded = method.autoencoder.decode(mean)
    wanted = (0.5 * (decoded + 1)).clamp(0, 1)
    torch.testing.assert_close(prior.decode(0.5 * mean), wanted)
    with pytest.raises(UserError, match="takes no text"):
        prior.embed(["a cup"])


@pytest.mark.parametrize("preset", ["zero123", "small"])
def test_a_scene_is_distilled_from_it(method: Zero123, preset: str) -> None:
    context = given()
    check_distilling(method.view_prior(context), preset, given=context)


def test_images_that_do_not_fit_are_refused(method: Zero123) -> None:
    with pytest.raises(UserError, match="16 x 16 pixels, not 20 x 20"):
        method.view_prior(given(side=20))
    with pytest.raises(UserError, match="needs a picture"):
        method.view_prior(given()[:0])
