"""DFM's own scene model, on small sizes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from tests.scenes.test_conditional_field import AUTHORS, FAR, NEAR, make_cameras
from unseen.diffusion.schedules import CosineSchedule
from unseen.encoders.pixel_aligned import (
    PixelAlignedConfig,
    PixelAlignedSceneModel,
)
from unseen.encoders.scene_model import Condition, plain_denoiser
from unseen.geometry.cameras import look_at
from unseen.geometry.views import Views
from unseen.networks.dit import DiTConfig, DiTEncoderConfig
from unseen.networks.resnet_fc import ResnetFCConfig
from unseen.scenes.ray_sampling import RaySampling

SIZE = (8, 8)
CONFIG = PixelAlignedConfig(
    DiTEncoderConfig(DiTConfig(1, 16, 2, 2.0, 2, 4, 6), 9, 4, 8),
    ResnetFCConfig(width=10, features=6, out_features=2, time_width=8),
    RaySampling(5, 4),
    num_condition_samples=6,
)
# Rounding makes the published rule's importance samples jump: not for comparisons.
UNIFORM = dataclasses.replace(AUTHORS, num_importance=0)


def make_model(
    generator: torch.Generator, config: PixelAlignedConfig = CONFIG
) -> PixelAlignedSceneModel:
    model = PixelAlignedSceneModel(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


def make_views(views: int, seed: int) -> Views:
    generator = torch.Generator().manual_seed(seed)
    images = 2 * torch.rand(2, views, 3, *SIZE, generator=generator) - 1
    return Views(images, make_cameras(2, views, generator))


def infer(model: PixelAlignedSceneModel, context: Views, noisy: Views):
    state = model.encode_context(context)
    condition = model.condition(state, noisy.cameras, SIZE)
    t = torch.tensor([0.3, 0.9])
    return state, condition, model.joint(state, noisy, condition, t)


def test_levels_of_a_discrete_schedule_are_its_steps() -> None:
    model = PixelAlignedSceneModel(CONFIG)
    steps = torch.arange(1000)
    t = CosineSchedule().t_of_step(steps)
    assert torch.equal(model.step(t), steps.float())
    assert model.step(torch.zeros(1)).item() == 0
    assert model.step(torch.tensor([0.1234])).item() == pytest.approx(122.4, abs=1e-3)


@torch.no_grad()
def test_condition_is_the_deterministic_rendering(generator: torch.Generator) -> None:
    model = make_model(generator)
    noisy = make_views(2, 5)
    state = model.encode_context(make_views(2, 4))
    condition = model.condition(state, noisy.cameras, SIZE)
    assert condition.maps.shape == (2, 2, 6, *SIZE)
    sampling = dataclasses.replace(CONFIG.sampling, num_uniform=6, num_importance=0)
    mean = dataclasses.replace(model.deterministic(state), sampling=sampling)
    r = mean.render(noisy.cameras, SIZE)
    torch.testing.assert_close(condition.color, r.color)
    torch.testing.assert_close(condition.opacity, r.opacity)
    assert r.depth is not None
    position = (r.depth - NEAR) / (FAR - NEAR)
    expected = [2 * r.color - 1, position[:, :, None], r.features]
    torch.testing.assert_close(condition.maps, torch.cat(expected, dim=2))


@torch.no_grad()
def test_the_published_condition_holds_raw_distances(
    generator: torch.Generator,
) -> None:
    config = dataclasses.replace(CONFIG, sampling=AUTHORS, condition_position="raw")
    model = make_model(generator, config)
    with torch.no_grad():
        # Dense everywhere: the first sample, at distance `near`, hides all others.
        model.deterministic_field.out.bias[3] = 1e4
    cameras = make_views(1, 5).cameras
    condition = model.condition(model.encode_context(make_views(1, 4)), cameras, SIZE)
    distance = condition.maps[:, :, 3]
    torch.testing.assert_close(distance, torch.full_like(distance, NEAR))


@torch.no_grad()
@pytest.mark.parametrize("sampling", [CONFIG.sampling, UNIFORM])
@pytest.mark.parametrize(
    ("targets", "cached_pixels"), [(1, 0), (1, 25), (1, 64), (2, 25)]
)
def test_denoiser_equals_its_plain_twin(
    targets: int,
    sampling: RaySampling,
    cached_pixels: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With nothing, some and all of the rays kept between steps; also of two views."""
    fields = 2 if sampling.num_importance else 1
    floats = 2 * fields * cached_pixels * sampling.num_uniform * CONFIG.field.width
    sampling = dataclasses.replace(sampling, max_cache_gib=4 * floats / 2**30)
    model = make_model(generator, dataclasses.replace(CONFIG, sampling=sampling))
    monkeypatch.setattr("unseen.encoders.pixel_aligned.RAYS_AT_A_TIME", 50)
    noisy = make_views(targets, 5)
    state, condition, _ = infer(model, make_views(2, 4), noisy)
    arguments = (state, condition, noisy.cameras, SIZE)
    fast, slow = model.denoiser(*arguments), plain_denoiser(model, *arguments)
    for t in ([0.9, 0.9], [0.3, 0.001]):
        x_0, scene = fast(noisy.images, torch.tensor(t))
        expected, _ = slow(noisy.images, torch.tensor(t))
        torch.testing.assert_close(x_0, expected, rtol=1e-4, atol=1e-4)
        rendered = 2 * scene.render(noisy.cameras, SIZE).color - 1
        torch.testing.assert_close(x_0, rendered, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_moving_the_world_changes_nothing(generator: torch.Generator) -> None:
    model = make_model(generator)
    motion = look_at(torch.tensor([0.3, -2.0, 0.7]), torch.tensor([0.1, 1.0, 0.0]))

    def move(views: Views) -> Views:
        return dataclasses.replace(views, cameras=views.cameras.transform(motion))

    context, noisy = make_views(2, 4), make_views(1, 5)
    _, condition, scene = infer(model, context, noisy)
    _, moved_condition, moved = infer(model, move(context), move(noisy))
    torch.testing.assert_close(
        moved_condition.maps, condition.maps, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        moved.render(move(noisy).cameras, SIZE).color,
        scene.render(noisy.cameras, SIZE).color,
        rtol=1e-3,
        atol=1e-4,
    )


@torch.no_grad()
def test_the_order_of_contexts_does_not_matter(generator: torch.Generator) -> None:
    model = make_model(generator)
    context, noisy = make_views(3, 4), make_views(1, 5)
    _, _, scene = infer(model, context, noisy)
    _, _, permuted = infer(model, context[:, [2, 0, 1]], noisy)
    torch.testing.assert_close(
        permuted.render(noisy.cameras, SIZE).color,
        scene.render(noisy.cameras, SIZE).color,
        rtol=1e-3,
        atol=1e-4,
    )


@torch.no_grad()
def test_each_input_has_its_influence(generator: torch.Generator) -> None:
    model = make_model(generator)
    context, noisy = make_views(2, 4), make_views(1, 5)
    state, condition, scene = infer(model, context, noisy)
    points = torch.randn(2, 9, 3, generator=generator)
    expected = scene.field.query(points)

    def difference(noisy: Views, condition: Condition, t: list[float]) -> float:
        found = model.joint(state, noisy, condition, torch.tensor(t))
        return (found.field.query(points) - expected).abs().max().item()

    assert difference(noisy, condition, [0.3, 0.9]) == 0
    assert difference(noisy, condition, [0.4, 0.8]) > 1e-4
    brighter = dataclasses.replace(noisy, images=noisy.images + 0.2)
    assert difference(brighter, condition, [0.3, 0.9]) > 1e-4
    changed = dataclasses.replace(condition, maps=condition.maps + 0.2)
    assert difference(noisy, changed, [0.3, 0.9]) > 1e-4


def test_every_parameter_learns(generator: torch.Generator) -> None:
    """Conditioning, joint and proposal colours together reach all weights."""
    model = make_model(generator)
    noisy = make_views(1, 5)
    _, condition, scene = infer(model, make_views(2, 4), noisy)
    pixels = torch.arange(0, 64, 3).expand(2, 1, -1)
    r = scene.render_pixels(noisy.cameras, SIZE, pixels)
    loss = r.color.square().sum() + r.extras["proposal_color"].square().sum()
    (loss + condition.color.square().sum()).backward()
    # The joint scene's features are rendered for nobody.
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="noisy_channels must be 9"):
        dataclasses.replace(
            CONFIG, encoder=dataclasses.replace(CONFIG.encoder, noisy_channels=7)
        )
    with pytest.raises(ValueError, match="make them equal"):
        dataclasses.replace(CONFIG, field=dataclasses.replace(CONFIG.field, features=7))
