"""Distillation ends where an exact prior's optimum is, resumes to the bit, and notices
what cannot work."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tests.analytic_scene import BallScene, ball
from tests.distillation.priors import ExactPrior
from unseen.configuration import from_json, to_json
from unseen.distillation.cameras import CameraPrior
from unseen.distillation.check import PATIENCE_EMPTY, PATIENCE_NUMBERS
from unseen.distillation.colors import with_colors
from unseen.distillation.config import (
    DistillConfig,
    GuidanceConfig,
    LightConfig,
    OptimizerConfig,
    RegularizerConfig,
    TimeConfig,
)
from unseen.distillation.distiller import Distiller
from unseen.distillation.forms import SJC, VSD, ImageSDS, MultiStep, Reconstruction
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.prompts import PromptConfig
from unseen.distillation.ramp import Ramp, ramp
from unseen.distillation.representations import GaussianCloud, HashGrid, ValueGrid
from unseen.errors import UserError
from unseen.export.video import orbit_cameras
from unseen.geometry.views import Views
from unseen.rendering.hash_encoding import HashLayout
from unseen.scenes.hash_grid import HashGridConfig

SIDE = 16
CAMERAS = CameraPrior(
    elevation=(-20.0, 50.0),
    fov=(30.0, 50.0),
    distance=(1.05, 1.05),
    distance_unit="sine",
)
CLOUD = GaussianCloud(count=150, rate=8e-3)
GRID = HashGrid(
    HashGridConfig(
        HashLayout(levels=4, log2_rows=10, coarsest=4, growth=1.5), num_samples=24
    ),
    width=16,
    sky=False,
    occupancy=12,
    rate=0.03,
    network_rate=0.03,
)


def draws(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + step)


def prior_of(*scenes: BallScene, **abilities: Any) -> ExactPrior:
    def pictures(cameras):
        return torch.stack([s.render(cameras, (SIDE, SIDE)).color for s in scenes])

    return ExactPrior(pictures, SIDE, **({"text": True, "poses": True} | abilities))


def settings(representation=CLOUD, **others: Any) -> DistillConfig:
    base: dict[str, Any] = {
        "cameras": CAMERAS,
        "guidance": GuidanceConfig(3.0),
        "times": TimeConfig(0.02, ramp(0, 0.8, 0.4, 36)),
        "weight": 1e-3,
        "views": 2,
        "size": SIDE,
    }
    return DistillConfig(representation, **(base | others))


def distill(
    config: DistillConfig, prior: ExactPrior, steps: int, **others: Any
) -> Distiller:
    distiller = Distiller(prior, config, draws, "a ball", **others)
    for step in range(steps):
        distiller.step(step)
    return distiller


@torch.no_grad()
def error(distiller: Distiller, scene: BallScene, step: int = 10**6) -> float:
    """The root mean squared error of colours all around."""
    cameras = orbit_cameras(5, 40.0, 20.0)
    found = distiller.scene(step).render(cameras, (SIDE, SIDE)).color
    return float(
        (found - scene.render(cameras, (SIDE, SIDE)).color).square().mean() ** 0.5
    )


FORMS = {
    "sds": {},
    "sds of the image": {"form": ImageSDS(), "size": 12},
    "reconstruction": {"form": Reconstruction(0.5)},
    "several steps": {
        "form": MultiStep(6, 2), "times": TimeConfig(0.1, 0.6, shared=True),
        "weight": 3.0,
    },
    "variational": {"form": VSD()},
}  # fmt: skip


# What this one does is also seen in the identities, and in groups of views.
SLOW = ("reconstruction",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.slow if x in SLOW else ()) for x in FORMS],
)
def test_every_form_finds_the_scene_of_the_prior(name: str) -> None:
    scene = ball(0.0, radius=0.6)
    distiller = distill(settings(**FORMS[name]), prior_of(scene), 36)
    start = Distiller(prior_of(scene), settings(), draws, "a ball")
    assert error(start, scene) > 0.2
    # VSD waits for its model of the renderings: it is the slowest.
    assert error(distiller, scene) < (0.13 if name == "variational" else 0.09)


REPRESENTATIONS = {
    "hash grid": (GRID, {"regularizers": RegularizerConfig(orientation=0.01)}),
    "colour grid": (
        ValueGrid(resolution=12, channels=3, num_samples=24, rate=0.5, sky_rate=0.5),
        {"optimizer": OptimizerConfig("adamax", (0.9, 0.99), 1e-8), "form": SJC()},
    ),
}


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_every_representation_finds_the_scene_of_the_prior(name: str) -> None:
    representation, others = REPRESENTATIONS[name]
    scene = ball(0.0, radius=0.6)
    config = settings(representation, **others)
    distiller = distill(config, prior_of(scene), 30)
    assert error(distiller, scene) < 0.12


def test_of_two_scenes_one_is_found() -> None:
    """A prior with two modes: the scene ends in one of them, not between."""
    small, large = ball(0.0, radius=0.35), ball(0.0, radius=0.8)
    distiller = distill(settings(), prior_of(small, large), 40)
    errors = sorted([error(distiller, small), error(distiller, large)])
    assert errors[0] < 0.1 and errors[1] > 0.2


def test_light_and_random_backgrounds_leave_a_ball() -> None:
    """All at once: shading, backgrounds, regularisers, growing size and levels."""
    grid = dataclasses.replace(GRID, levels=ramp(0, 2, 4, 20), sky=True)
    config = settings(
        grid,
        light=LightConfig(after=2, lit=0.5),
        random_background=0.5,
        size=Ramp(((20, 12.0), (20, 16.0))),
        regularizers=RegularizerConfig(
            orientation=ramp(0, 0.0, 0.1, 10), opacity=1e-3, entropy=1e-3,
            emptiness=1e-3, depth_smoothness=1e-3,
        ),
    )  # fmt: skip
    distiller = Distiller(prior_of(ball(0.0, radius=0.6)), config, draws, "a ball")
    reports = [distiller.step(step, with_norms=True) for step in range(24)]
    names = {"prior", "orientation", "opacity", "entropy", "emptiness"}
    assert set(reports[-1].terms) == names | {"depth_smoothness"}
    assert "orientation" not in reports[0].terms
    assert all(value > 0 for value in reports[-1].norms.values())
    assert 0.05 < reports[-1].opacity < 0.6


@pytest.mark.parametrize(
    "config",
    [
        settings(form=VSD()),
        settings(GRID, random_background=0.5, light=LightConfig(after=0)),
        settings(
            ValueGrid(resolution=8, channels=3, num_samples=16),
            optimizer=OptimizerConfig("adamax"),
        ),
    ],
    ids=["gaussians, variational", "hash grid, lit", "voxels, adamax"],
)
def test_a_resumed_run_is_the_same_to_the_bit(config: DistillConfig) -> None:
    prior = prior_of(ball(0.0, radius=0.6))
    whole = distill(config, prior, 7)
    state = {name: x.clone() for name, x in distill(config, prior, 4).state().items()}
    again = Distiller(prior, config, draws, "a ball")
    again.load_state(state)
    for step in range(4, 7):
        again.step(step)
    assert again.state().keys() == whole.state().keys()
    for name, tensor in whole.state().items():
        assert torch.equal(again.state()[name], tensor), name
    with pytest.raises(ValueError, match="no fitting tensor"):
        again.load_state({n: x for n, x in state.items() if n.startswith("opt")})


def test_norms_are_those_of_each_term_alone() -> None:
    wanted = RegularizerConfig(opacity=0.5)
    config = settings(regularizers=wanted, weight=0.0)
    distiller = Distiller(prior_of(ball()), config, draws, "a ball")
    report = distiller.step(0, with_norms=True)
    assert report.norms["prior"] == 0 and report.terms["prior"] == 0
    gradients = [x.grad for x in distiller.tensors.values() if x.grad is not None]
    total = float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())
    assert report.norms["opacity"] == pytest.approx(total, rel=1e-4)


def test_latents_are_neither_encoded_nor_decoded(monkeypatch) -> None:
    def latent_pictures(cameras):
        return torch.rand(1, len(cameras), 4, 8, 8, generator=draws(0))

    prior = ExactPrior(latent_pictures, 8, text=True, latent=True)
    prior.abilities = dataclasses.replace(prior.abilities, shape=(4, 8, 8))
    config = settings(
        ValueGrid(resolution=8, num_samples=16), form=SJC(),
        regularizers=RegularizerConfig(emptiness=1.0), weight=1.0, size=8,
    )  # fmt: skip
    for name in ("encode", "decode"):
        monkeypatch.setattr(prior, name, lambda *_: pytest.fail("not needed"))
    distiller = distill(config, prior, 3)
    assert prior.asked == 3
    # Only colours need the decoder: here latents whose colours are known.
    matrix = torch.tensor([[0.1, 0, 0, 0.05], [0, 0.1, 0, 0], [0, 0, 0.1, 0]])

    def decode(latents):
        return 0.5 + torch.einsum("ck,vkhw->vchw", matrix, latents)

    monkeypatch.setattr(prior, "decode", decode)
    cameras = orbit_cameras(4, 40.0, 20.0)
    scene = with_colors(distiller.scene(3), prior, cameras)
    found = scene.render(cameras, (8, 8))
    assert found.features is not None
    wanted = decode(found.features).clamp(0, 1)
    torch.testing.assert_close(found.color, wanted, rtol=0, atol=1e-3)


def test_a_reference_is_matched(monkeypatch) -> None:
    scene = ball(0.0, radius=0.5)
    camera = orbit_cameras(1, 40.0, 20.0)
    truth = scene.render(camera, (SIDE, SIDE))
    assert truth.opacity is not None
    given = Views(truth.color, camera, (truth.opacity > 0.5).float())
    regularizers = RegularizerConfig(reference_color=3.0, reference_mask=1.0)
    config = settings(regularizers=regularizers, weight=0.0)
    # The prior of an image is given no text.
    prior = prior_of(ball(), text=False, image=True)
    distiller = Distiller(prior, config, draws, None, given)
    first = distiller.step(0).terms
    for step in range(1, 36):
        last = distiller.step(step).terms
    for name in ("reference_color", "reference_mask"):
        assert last[name] < 0.15 * first[name]


class BrokenPrior(ExactPrior):
    """Answers with no numbers from some question on."""

    good = 3

    def predict_noise(self, *arguments: Any) -> torch.Tensor:
        found = super().predict_noise(*arguments)
        return found if self.asked <= self.good else found * torch.nan


def test_answers_that_are_no_numbers_end_the_run() -> None:
    prior = BrokenPrior(lambda c: torch.rand(1, len(c), 3, SIDE, SIDE), SIDE, text=True)
    distiller = Distiller(prior, settings(), draws, "a ball")
    for step in range(2 + PATIENCE_NUMBERS):
        distiller.step(step)
    # Until then the scene is left as it was.
    assert all(x.isfinite().all() for x in distiller.tensors.values())
    with pytest.raises(UserError, match="no finite number: try a smaller --guidance"):
        distiller.step(9)


def test_a_scene_that_becomes_empty_ends_the_run() -> None:
    config = settings(dataclasses.replace(CLOUD, opacity=0.02))
    distiller = Distiller(prior_of(ball()), config, draws, "a ball")
    with torch.no_grad():
        distiller.tensors["opacity_logits"].fill_(-30)
    for step in range(PATIENCE_EMPTY - 1):
        distiller.step(step)
    with pytest.raises(UserError, match=f"empty: .* step {PATIENCE_EMPTY} "):
        distiller.step(PATIENCE_EMPTY - 1)


@pytest.mark.parametrize(
    ("preset", "prompt", "abilities", "reason"),
    [
        ("small", None, {}, "say it with --prompt"),
        ("small", "a cup", {"text": False, "image": True}, "takes no text"),
        ("mvdream", "a cup", {"poses": False}, "told the cameras"),
        ("sjc", "a cup", {}, "optimise latents"),
        ("small", "a cup", {"group": 4}, "4 views of the object at a time"),
    ],
)
def test_priors_that_do_not_fit(preset, prompt, abilities, reason) -> None:
    prior = prior_of(ball(), **abilities)
    with pytest.raises(UserError, match=reason) as found:
        Distiller(prior, DISTILL_PRESETS[preset], draws, prompt)
    assert str(found.value).endswith(".")


def test_images_are_not_compared_with_latents() -> None:
    config = dataclasses.replace(DISTILL_PRESETS["sjc"], form=ImageSDS())
    with pytest.raises(UserError, match="choose a scene of colours"):
        Distiller(prior_of(ball(), latent=True), config, draws, "a cup")


@pytest.mark.parametrize("name", DISTILL_PRESETS)
def test_presets_survive_json_and_make_scenes(name: str) -> None:
    config = DISTILL_PRESETS[name]
    assert from_json(DistillConfig, to_json(config), "here") == config
    views = config.views
    for count in [x for _, x in views.points] if isinstance(views, Ramp) else [views]:
        assert count % config.cameras.group == 0


def test_groups_share_a_noise_level_and_the_spread() -> None:
    prior = prior_of(ball(0.0, radius=0.6), group=4)
    cameras = dataclasses.replace(CAMERAS, group=4)
    config = settings(
        cameras=cameras, views=4, form=Reconstruction(),
        times=TimeConfig(0.02, 0.98, shared=True), prompts=PromptConfig("none"),
    )  # fmt: skip
    levels = []
    original = prior.predict_noise

    def listen(x_t, t, *others):
        levels.append(t)
        return original(x_t, t, *others)

    prior.predict_noise = listen  # type: ignore[method-assign]
    distill(config, prior, 2)
    assert all((t == t[0]).all() and len(t) == 4 for t in levels)
    assert levels[0][0] != levels[1][0]
    # Levels are those of the network's integer steps.
    steps = torch.cat(levels) * 1000
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)


def test_guidance_asks_one_branch_where_one_is_enough() -> None:
    prior = prior_of(ball())
    for guidance, count in (
        (GuidanceConfig(1.0), 1),
        (GuidanceConfig(0.0, "conditional"), 1),
        (GuidanceConfig(2.0), 2),
    ):
        distill(settings(guidance=guidance), prior, 1)
        assert len(prior.texts) == count
    prompts = dataclasses.replace(settings().prompts, perpendicular=True)
    distill(settings(prompts=prompts), prior, 1)
    assert len(prior.texts) == 4
