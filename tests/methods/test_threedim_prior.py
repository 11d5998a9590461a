"""3DiM as a prior: its own predictions, and a scene that is distilled from it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.data.cameras import object_cameras
from unseen.distillation.distiller import Distiller
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.prior import Branch
from unseen.distillation.representations import GaussianCloud
from unseen.errors import UserError
from unseen.geometry.views import Views
from unseen.methods.enr import ENR
from unseen.methods.method import ViewMethod
from unseen.methods.threedim import ThreeDiM, ThreeDiMConfig
from unseen.networks.xunet import XUNetConfig

NETWORK = XUNetConfig(
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention=(False, True),
    embedding=16,
    num_groups=4,
    dropout=0.0,
    position_octaves=2,
    direction_octaves=2,
)


@pytest.fixture
def method() -> ThreeDiM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = ThreeDiM(ThreeDiMConfig(NETWORK, 16)).eval()
        # The last layer is zero at the start, and then nothing depends on anything.
        for parameter in method.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return method.requires_grad_(False)


def given(generator, views: int = 1, side: int = 16) -> Views:
    images = torch.rand(views, 3, side, side, generator=generator)
    return Views(images, object_cameras(views, generator))


def test_branches_are_its_own_predictions(method: ThreeDiM, generator) -> None:
    context = given(generator)
    prior = method.view_prior(context)
    assert prior.abilities.poses and prior.abilities.image and not prior.abilities.text
    cameras = object_cameras(3, generator)
    x_t = torch.randn(3, 3, 16, 16, generator=generator)
    t = torch.tensor([0.2, 0.5, 0.9])
    seed = torch.Generator().manual_seed(1)
    branches = [Branch(True), Branch(False)]
    both = prior.predict_noise(x_t, t, cameras, branches, seed)
    clean = Views.cat([context] * 3)
    kept = torch.ones(3, dtype=torch.bool)
    wanted = method.predict_noise(clean, x_t, cameras, t, kept, x_t)
    torch.testing.assert_close(both[0], wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[1], wanted, atol=1e-3)
    # Without the condition, the given view does not matter.
    other = method.view_prior(given(torch.Generator().manual_seed(9)))
    again = other.predict_noise(x_t, t, cameras, branches, seed.manual_seed(1))
    torch.testing.assert_close(again[1], both[1])
    assert not torch.allclose(again[0], both[0], atol=1e-3)
    images = torch.rand(2, 3, 20, 20, generator=generator)
    encoded = prior.encode(images, generator)
    assert encoded.shape == (2, 3, 16, 16)
    assert prior.decode(encoded).min() >= 0


def test_a_scene_is_distilled_from_it(method: ThreeDiM, generator) -> None:
    context = given(generator)
    config = dataclasses.replace(
        DISTILL_PRESETS["small"], representation=GaussianCloud(count=100), size=16
    )

    def draws(step: int) -> torch.Generator:
        return torch.Generator().manual_seed(step + 10)

    distiller = Distiller(method.view_prior(context), config, draws, None, context)
    before = distiller.tensors["means"].detach().clone()
    report = distiller.step(0, with_norms=True)
    # No mask is known here, so its term is absent.
    assert {"prior", "reference_color"} <= set(report.terms)
    assert report.norms["prior"] > 0
    assert not torch.equal(before, distiller.tensors["means"])
    with pytest.raises(UserError, match="takes no text"):
        Distiller(method.view_prior(context), config, draws, "a cup", context)


def test_images_of_another_size_are_refused(method: ThreeDiM, generator) -> None:
    with pytest.raises(UserError, match="16 x 16 pixels, not 20 x 20"):
        method.view_prior(given(generator, side=20))


def test_methods_without_a_denoiser_say_so(generator) -> None:
    class Mirror(ViewMethod):
        def loss(self, example, generator): ...

        def sample_view(self, known, camera, seeds, options=None, on_step=None): ...

    with pytest.raises(UserError, match="Mirror offers no denoiser"):
        Mirror().view_prior(given(generator))
    assert not issubclass(ENR, ViewMethod)
