"""RenderDiffusion learns from single views, samples, reconstructs and inpaints."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import object_camera, object_cameras
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions
from unseen.methods.renderdiffusion import (
    RenderDiffusion,
    RenderDiffusionConfig,
    TriplaneSampleConfig,
)
from unseen.model import Model
from unseen.networks.triplane_decoder import TriplaneDecoderConfig
from unseen.networks.triplane_unet import TriplaneUNetConfig
from unseen.scenes.triplane import TriplaneScene
from unseen.scenes.triplane_sampling import TriplaneSampling

SIZE = 16
TINY = RenderDiffusionConfig(
    network=TriplaneUNetConfig(
        channels=8,
        multipliers=(1, 2),
        num_blocks=1,
        attention=(False, True),
        plane_channels=4,
        heads=2,
        head_size=4,
        num_groups=4,
    ),
    decoder=TriplaneDecoderConfig(features=4, width=8),
    rays=TriplaneSampling(num_uniform=12, num_importance=0),
    image_size=SIZE,
    self_condition=False,
    pixels=128,
    unseen_pixels=64,
    snr_range=(1.0, 5.0),
    sampling=TriplaneSampleConfig(num_steps=6, noise_level=0.3, repeats=2),
)


def make(**settings) -> RenderDiffusion:
    torch.manual_seed(0)
    return RenderDiffusion(dataclasses.replace(TINY, **settings))


def views(batch: int, count: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = [object_cameras(count, generator) for _ in range(batch)]
    images = torch.rand(batch, count, 3, SIZE, SIZE, generator=generator)
    return Views(images, Cameras.stack(cameras))


def example(batch: int = 2) -> Example:
    found = views(batch, 3)
    return Example(found[:, :1], found[:, 1:])


def seeing(count: int = 1) -> Cameras:
    return Cameras.stack([object_camera(40.0, 20.0)] * count)


def nothing(batch: int) -> Views:
    return views(batch, 1)[:, :0]


def loss(method: RenderDiffusion, data: Example) -> Tensor:
    return method.loss(data, torch.Generator().manual_seed(0)).total


# ---- Training -----------------------------------------------------------------------


def test_the_loss_falls() -> None:
    """On views of one colour: the field has to become opaque and take that colour."""
    method = make().train()
    found = views(2, 2)
    color = torch.tensor([0.8, 0.2, 0.3]).view(3, 1, 1)
    data = dataclasses.replace(found, images=color.expand_as(found.images).clone())
    data = Example(data[:, :1], data[:, 1:])
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(50):
        found_loss = method.loss(data, generator)
        assert found_loss.terms.keys() == {"seen"}
        optimizer.zero_grad()
        found_loss.total.backward()
        optimizer.step()
        losses.append(found_loss.total.item())
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])


def test_single_views_are_all_that_is_looked_at() -> None:
    data = example()
    blank = dataclasses.replace(
        data.target,
        images=torch.cat(
            [data.target.images[:, :1], torch.zeros_like(data.target.images[:, 1:])], 1
        ),
    )
    black = dataclasses.replace(
        data.context, images=torch.zeros_like(data.context.images)
    )
    other = Example(black, blank)
    assert loss(make(), data) == loss(make(), other)
    # RenderDiffusion++ sees them.
    plus = make(unseen_weight=0.1)
    assert loss(plus, data) != loss(plus, Example(black, data.target))
    assert loss(plus, data) != loss(plus, Example(data.context, blank))
    terms = plus.loss(data, torch.Generator().manual_seed(0)).terms
    assert terms.keys() == {"seen", "unseen"}


def test_errors_are_weighted_by_the_signal_to_noise_ratio() -> None:
    flat, clamped = make(snr_range=(1.0, 1.0)), make(snr_range=(2.0, 2.0))
    torch.testing.assert_close(2 * loss(flat, example()), loss(clamped, example()))


@pytest.mark.parametrize("self_condition", [False, True])
def test_every_parameter_learns(self_condition: bool) -> None:
    method = make(self_condition=self_condition).train()
    for seed in range(3):
        method.loss(example(), torch.Generator().manual_seed(seed)).total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_estimate_of_the_step_before_is_seen() -> None:
    x_t, t = torch.randn(1, 3, SIZE, SIZE), torch.tensor([0.5])
    blind, seeing_it = make(), make(self_condition=True)
    for method, matters in ((blind, False), (seeing_it, True)):
        first = method.scene(x_t, t).planes
        second = method.scene(x_t, t, torch.ones_like(x_t)).planes
        assert torch.equal(first, second) != matters


def test_masks_are_learned_from_where_they_are() -> None:
    data = example()
    masks = torch.ones(2, 2, SIZE, SIZE)
    masked = Example(data.context, dataclasses.replace(data.target, masks=masks))
    method = make(opacity_weight=1.0)
    assert loss(method, masked) > loss(method, data)


# ---- Sampling -----------------------------------------------------------------------


def test_a_scene_depends_on_its_seed_and_not_on_its_batch() -> None:
    method = make().train()
    two = method.sample_scene(nothing(2), [3, 4], seeing(2))
    one = method.sample_scene(nothing(1), [4], seeing(1))
    assert isinstance(two, TriplaneScene) and method.training
    torch.testing.assert_close(two.planes[1], one.planes[0], rtol=1e-3, atol=1e-4)
    assert (two.planes[0] - two.planes[1]).abs().max() > 1e-2
    assert not two.planes.requires_grad


def test_little_noise_is_little_work_and_keeps_the_image() -> None:
    """Without any, one pass decides; with some, its share of the steps is made."""
    method, context = make(), views(1, 1)
    asked: list[tuple[int, int]] = []

    def planes(level: float | None, seed: int) -> Tensor:
        asked.clear()
        options = SampleOptions(noise_level=level)
        return method.sample_scene(
            context, [seed], None, options, lambda *step: asked.append(step[:2])
        ).planes

    assert torch.equal(planes(0.0, 1), planes(0.0, 2)) and asked == [(1, 1)]
    # 0.3 of 6 steps.
    assert not torch.equal(planes(None, 1), planes(None, 2))
    assert asked == [(1, 2), (2, 2)]
    near, far = ((planes(x, 1) - planes(0.0, 1)).abs().mean() for x in (0.01, 1.0))
    assert near < far
    given = 2 * context.images[:, 0] - 1
    with torch.no_grad():
        expected = method.scene(given, torch.zeros(1)).planes
    torch.testing.assert_close(planes(0.0, 1), expected)


def test_what_is_known_stays_and_what_is_hidden_has_no_influence() -> None:
    method, context = make(), views(1, 1)
    hidden = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    hidden[:, SIZE // 2 :] = True
    options, steps = SampleOptions(hidden=hidden), []

    def sample(images: Tensor) -> TriplaneScene:
        steps.clear()
        given = dataclasses.replace(context, images=images)
        return method.sample_scene(
            given, [0], None, options, lambda *step: steps.append(step[:2])
        )

    first = sample(context.images)
    # Every step but the last is made twice.
    assert steps == [(i + 1, 11) for i in range(11)]
    painted = context.images.clone()
    painted[..., SIZE // 2 :] = 0.5
    assert torch.equal(sample(painted).planes, first.planes)
    painted[..., : SIZE // 2] = 0.5
    assert not torch.equal(sample(painted).planes, first.planes)


def test_what_makes_no_sense_is_refused() -> None:
    method = make()
    with pytest.raises(UserError, match="seen from somewhere"):
        method.sample_scene(nothing(1), [0])
    for options in (
        SampleOptions(noise_level=0.1),
        SampleOptions(hidden=torch.ones(SIZE, SIZE, dtype=torch.bool)),
    ):
        with pytest.raises(UserError, match="there is no image"):
            method.sample_scene(nothing(1), [0], seeing(), options)
    with pytest.raises(UserError, match="leave out the noise level"):
        both = SampleOptions(noise_level=0.1, hidden=torch.eye(SIZE).bool())
        method.sample_scene(views(1, 1), [0], None, both)
    with pytest.raises(UserError, match="noise level must lie in 0 to 1"):
        SampleOptions(noise_level=1.5)
    with pytest.raises(ValueError, match="do not fit a decoder"):
        make(decoder=TriplaneDecoderConfig(features=5))


def test_the_model_samples_with_and_without_an_image() -> None:
    model = Model(make())
    free = model.sample_scenes(None, num=2, seed=1, steps=2)
    again = model.sample_scenes(None, num=1, seed=1, steps=2)
    for scene in (*free, *again):
        assert isinstance(scene, TriplaneScene) and scene.shape == ()
    assert torch.equal(free[0].tensors()["planes"], again[0].tensors()["planes"])
    context = views(1, 1)[0]
    kept, changed = (
        model.complete(context, num=1, noise_level=level)[0] for level in (0.0, 0.9)
    )
    assert not torch.equal(kept.tensors()["planes"], changed.tensors()["planes"])
    with pytest.raises(UserError, match="no classifier-free guidance"):
        model.sample_scenes(None, guidance=2.0)
    with pytest.raises(UserError, match="hides a part of no image"):
        model.sample_scenes(None, hidden="mask.png")
