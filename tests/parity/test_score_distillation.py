"""Gradients equal those of threestudio, MVDream and SJC."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.distillation.judgements import judge
from tests.parity.synthetic import fixture_folder, load_arrays, load_meta
from unseen.diffusion.guidance import classifier_free, perpendicular_negative
from unseen.diffusion.schedules import ScaledLinearSchedule
from unseen.distillation.forms import (
    SDS,
    SJC,
    Form,
    ImageSDS,
    Judgement,
    Reconstruction,
    surrogate,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """The fixture."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(
            value, self.outputs[name], rtol=0, atol=self.tolerance[name]
        )

    def guided(self, origin) -> Tensor:
        i = self.inputs
        scale = float(i["guidance"])
        return classifier_free(i["eps_cond"], i["eps_uncond"], scale, origin)

    def judgement(self, guided: Tensor, t: Tensor, group: int = 1) -> Judgement:
        i = self.inputs
        t = ScaledLinearSchedule().t_of_step(t).expand(len(i["latents"]))
        return judge(i["latents"], i["noise"], t, guided, i["eps_cond"], group=group)


@pytest.fixture(scope="module")
def case() -> Case:
    folder = fixture_folder("score_distillation")
    return Case(
        load_arrays(folder / "inputs.npz"),
        load_arrays(folder / "outputs.npz"),
        load_meta(folder)["tolerance"]["suggested_atol"],
    )


def test_schedule(case: Case) -> None:
    table = ScaledLinearSchedule().discrete_alphas_cumprod().float()
    case.check("alphas_cumprod", table)
    case.check("sjc_sigmas", ((1 - table) / table).sqrt().flip(0))


THREESTUDIO: dict[str, Form] = {
    "threestudio_sds_grad_sds": SDS(),
    "threestudio_sds_grad_uniform": SDS("uniform"),
    "threestudio_sds_grad_fantasia3d": SDS("signal"),
    "threestudio_hifa_image_grad_identity_decoder": ImageSDS(),
    "threestudio_sjc_grad_varred": SJC(),
    "threestudio_sjc_grad_plain": SJC(variance_reduced=False),
}


@pytest.mark.parametrize("name", THREESTUDIO)
def test_threestudio(case: Case, name: str) -> None:
    judgement = case.judgement(case.guided("conditional"), case.inputs["t"])
    case.check("threestudio_latents_noisy", judgement.noisy)
    case.check("threestudio_sjc_unet_input", judgement.noisy)
    case.check(name, THREESTUDIO[name].residual(judgement))


def test_perpendicular_negatives(case: Case) -> None:
    i = case.inputs
    negatives = torch.stack([i["eps_neg"][k::2] for k in range(2)])
    guided = perpendicular_negative(
        i["eps_cond"], i["eps_uncond"], negatives, i["neg_weights"].T,
        float(i["guidance"]),
    )  # fmt: skip
    case.check("threestudio_perpneg_eps", guided)
    residual = SDS().residual(case.judgement(guided, i["t"]))
    case.check("threestudio_perpneg_grad", residual)


@pytest.mark.parametrize("form", [SJC(), SJC(variance_reduced=False)])
def test_sjc(case: Case, form: SJC) -> None:
    judgement = case.judgement(case.guided("unconditional"), case.outputs["sjc_t_used"])
    case.check("sjc_unet_input", judgement.noisy)
    case.check("sjc_denoised", judgement.x_0(judgement.guided))
    kind = "varred" if form.variance_reduced else "plain"
    case.check(f"sjc_backward_gradient_{kind}", form.residual(judgement))


MVDREAM: dict[str, Form] = {
    "recon_rescale0": Reconstruction(0.0),
    "recon_rescale05": Reconstruction(0.5),
    "recon_rescale1": Reconstruction(1.0),
    "sds": SDS(),
}


@pytest.mark.parametrize("name", MVDREAM)
def test_mvdream(case: Case, name: str) -> None:
    guided = case.guided("unconditional")
    judgement = case.judgement(guided, case.inputs["t_views"], group=4)
    latents = case.inputs["latents"].clone().requires_grad_()
    loss = surrogate(latents, MVDREAM[name].residual(judgement))
    loss.backward()
    case.check(f"mvdream_{name}_loss", loss.detach()[None])
    assert latents.grad is not None
    case.check(f"mvdream_{name}_latent_grad", latents.grad)
