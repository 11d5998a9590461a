"""The forms of score distillation are related as their papers say."""

from __future__ import annotations

import pytest
import torch

from tests.distillation.judgements import judge, made_up
from tests.distillation.priors import ExactPrior
from unseen.diffusion.schedules import EDMSchedule
from unseen.distillation.forms import (
    SDS,
    SJC,
    VSD,
    Form,
    ImageSDS,
    MultiStep,
    Reconstruction,
    surrogate,
)
from unseen.distillation.prior import Branch


def test_the_surrogate_has_the_residual_as_its_gradient(generator) -> None:
    x = torch.randn(4, 3, 5, 5, generator=generator, requires_grad=True)
    residual = torch.randn(4, 3, 5, 5, generator=generator, requires_grad=True)
    loss = surrogate(x, residual)
    gradient, other = torch.autograd.grad(loss, [x, residual], allow_unused=True)
    torch.testing.assert_close(gradient, residual.detach() / 4)
    assert other is None
    torch.testing.assert_close(loss, 0.5 * residual.square().sum() / 4)


def test_sjc_is_sds_with_the_uniform_weighting(generator) -> None:
    judgement = made_up(generator)
    torch.testing.assert_close(
        SJC().residual(judgement), SDS("uniform").residual(judgement)
    )


def test_sjc_with_variance_is_the_guess_of_the_noise(generator) -> None:
    """Eq. 15 is eps^, whose noise has mean zero; Eq. 16 takes it away."""
    judgement = made_up(generator)
    plain = SJC(variance_reduced=False).residual(judgement)
    torch.testing.assert_close(plain, judgement.guided)
    torch.testing.assert_close(plain - judgement.eps, SJC().residual(judgement))


def test_sjc_on_a_schedule_that_explodes(generator) -> None:
    judgement = made_up(generator, schedule=EDMSchedule())
    torch.testing.assert_close(
        SJC().residual(judgement), judgement.guided - judgement.eps
    )


def test_reconstruction_is_sds_weighted_by_sigma_over_alpha(generator) -> None:
    judgement = made_up(generator)
    alpha, sigma = judgement.scales(judgement.clean)
    torch.testing.assert_close(
        Reconstruction(rescale=0.0).residual(judgement),
        sigma / alpha * (judgement.guided - judgement.eps),
    )


@pytest.mark.parametrize("group", [1, 2, 4])
def test_full_rescaling_restores_the_unguided_spread(generator, group: int) -> None:
    judgement = made_up(generator, group=group)
    target = judgement.clean - Reconstruction(rescale=1.0).residual(judgement)
    plain = judgement.x_0(judgement.conditional)
    spread = target.unflatten(0, (-1, group)).flatten(1).std(dim=1)
    wanted = plain.unflatten(0, (-1, group)).flatten(1).std(dim=1)
    torch.testing.assert_close(spread, wanted)


@pytest.mark.parametrize("weighting", ["variance", "uniform", "signal"])
def test_weightings(generator, weighting) -> None:
    judgement = made_up(generator)
    share = judgement.schedule.alpha(judgement.t) ** 2
    wanted = {"variance": 1 - share, "uniform": 0 * share + 1}
    wanted["signal"] = share.sqrt() * (1 - share)
    found = SDS(weighting).residual(judgement) / SDS("uniform").residual(judgement)
    torch.testing.assert_close(found[:, 0, 0, 0], wanted[weighting])


def test_sds_of_the_image_is_sds_where_nothing_is_encoded(generator) -> None:
    judgement = made_up(generator)
    torch.testing.assert_close(
        ImageSDS().residual(judgement), SDS().residual(judgement)
    )
    assert ImageSDS().in_image and not SDS().in_image


def test_vsd_with_the_true_noise_is_sds(generator) -> None:
    """A model of the renderings that knows their noise leaves SDS."""
    judgement = made_up(generator)
    with pytest.raises(ValueError, match="renderings"):
        VSD().residual(judgement)
    known = judge(
        judgement.clean, judgement.eps, judgement.t, judgement.guided,
        particle=judgement.eps,
    )  # fmt: skip
    torch.testing.assert_close(VSD().residual(known), SDS().residual(known))


FORMS: list[Form] = [SDS(), SJC(), Reconstruction(0.0), ImageSDS()]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_the_mean_gradient_vanishes_at_the_mode(form: Form, generator) -> None:
    """One Gaussian: the expected residual is zero at its mean and nowhere else."""
    mean = torch.rand(3, 4, 4, generator=generator)
    prior = ExactPrior(lambda cameras: mean.expand(1, 4000, -1, -1, -1), 4)
    t = torch.full((4000,), 0.4)

    def expected(offset: float) -> torch.Tensor:
        clean = (2 * mean - 1 + offset).expand(4000, -1, -1, -1)
        eps = torch.randn(clean.shape, generator=generator)
        x_t = prior.schedule.add_noise(clean, eps, t)
        guess = prior.predict_noise(x_t, t, None, [Branch()], generator)[0]
        return form.residual(judge(clean, eps, t, guess)).mean(dim=0)

    assert expected(0.0).abs().max() < 0.08
    # Uphill to the right, and downhill to the left, of the mean.
    assert expected(0.5).min() > 0.1 and expected(-0.5).max() < -0.1


def test_several_steps_end_in_the_prior(generator) -> None:
    """The fully denoised target of one narrow Gaussian is its mean."""
    mean = torch.rand(3, 4, 4, generator=generator)
    prior = ExactPrior(lambda cameras: mean.expand(1, 2, -1, -1, -1), 4, spread=1e-3)
    clean = torch.randn(2, 3, 4, 4, generator=generator)
    image = torch.rand(2, 3, 4, 4, generator=generator)
    t = torch.full((2,), 0.3)
    calls = []

    def denoise(x_t, t):
        calls.append(float(t[0]))
        return prior.denoise(x_t, t, None)

    judgement = judge(
        clean, torch.randn_like(clean), t, clean, image=image, denoise=denoise,
        decode=prior.decode,
    )  # fmt: skip
    form = MultiStep(steps_per_unit=20, penalty="square")
    residual = form.residual(judgement)
    assert len(calls) == 6 and calls[0] == pytest.approx(0.3)
    weight = judgement.weight("variance", image)
    target = image - residual * image[0].numel() / weight
    torch.testing.assert_close(target, mean.expand_as(target), rtol=0, atol=1e-2)
    signs = MultiStep(steps_per_unit=20).residual(judgement)
    torch.testing.assert_close(signs.sign(), residual.sign())
    mixed = judge(clean, clean, torch.tensor([0.1, 0.2]), clean, denoise=denoise)
    with pytest.raises(ValueError, match="one noise level"):
        form.residual(mixed)
