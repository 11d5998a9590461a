"""What SRN and LFN share: learning codes, fitting codes, and what a loss weighs."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.methods.auto_decoders import (
    SIZE,
    TINY_LFN,
    TINY_SRN,
    make_example,
    make_method,
    make_views,
    train,
)
from unseen.errors import UserError
from unseen.geometry.views import Example, Views
from unseen.methods.lfn import LFNConfig
from unseen.methods.method import SampleOptions
from unseen.scenes.light_field import LightFieldScene
from unseen.scenes.ray_marched import RayMarchedScene

CONFIGS = [
    pytest.param(TINY_SRN, id="srn"),
    pytest.param(TINY_LFN, id="lfn"),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_training_reduces_the_loss_and_fits_find_training_objects(config) -> None:
    """After training, the code of an image that was seen is found again.

    Found means that the other views of the object are shown better than by the mean
    code, which knows all objects and nothing of the image.
    """
    method, example = make_method(config), make_example()
    losses = train(method.train(), example, 120)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])

    scene = method.sample_scene(example.context, [0, 1])
    views = example.target

    def error(scene) -> torch.Tensor:
        with torch.no_grad():
            shown = scene.render(views.cameras, SIZE).color
        return (shown - views.images).square().mean()

    mean = method.codes.mean().expand(2, -1)
    average = method.scene(mean, example.context.cameras)
    assert error(scene) < 0.8 * error(average)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_parameter_is_trained(config) -> None:
    method = make_method(config).train()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        method.loss(make_example(), generator).total.backward()
    still = [
        n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert still == []


@pytest.mark.parametrize("config", CONFIGS)
def test_the_loss_weighs_its_terms(config) -> None:
    method, example = make_method(config), make_example()
    method.codes.weight.data.mul_(50)
    if hasattr(method, "marcher"):
        method.marcher.step.bias.data -= 3
    losses = method.loss(example, torch.Generator().manual_seed(0))
    terms = losses.terms
    expected = 200 * terms["color"] + terms["code"]
    assert torch.allclose(terms["code"], method.codes.weight.square().mean())
    if "behind" in terms:
        assert terms["behind"] > 0
        expected = expected + 10 * terms["behind"]
    torch.testing.assert_close(losses.total, expected.detach(), check_stride=False)
    # Colours are compared in [-1, 1]: a frame of zeros that should be white is off by
    # two there, and by one in [0, 1].
    white = dataclasses.replace(
        example.target, images=torch.ones_like(example.target.images)
    )
    only = Example(white, white, example.objects)
    codes = method.codes(example.objects)
    pixels = torch.arange(256).expand(2, 2, -1)
    shown = method.scene(codes, white.cameras).render_pixels(
        white.cameras, SIZE, pixels
    )
    found = method.loss(only, torch.Generator().manual_seed(0)).terms["color"]
    wanted = 4 * (1 - shown.color).square().mean()
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_examples_must_name_their_objects(config) -> None:
    method, example = make_method(config), make_example()
    generator = torch.Generator()
    with pytest.raises(UserError, match="do not say which object"):
        method.loss(Example(example.context, example.target), generator)
    with pytest.raises(UserError, match="there are codes for 2 objects"):
        method.loss(
            dataclasses.replace(example, objects=torch.tensor([0, 2])), generator
        )


@pytest.mark.parametrize("config", CONFIGS)
def test_only_some_pixels_are_looked_at(config, monkeypatch) -> None:
    """In training as `rays` says, in fitting as `fit.rays` does."""
    fit = dataclasses.replace(config.fit, rays=7, num_steps=1)
    method = make_method(dataclasses.replace(config, rays=5, fit=fit))
    example, seen = make_example(), []
    kind = LightFieldScene if isinstance(config, LFNConfig) else RayMarchedScene
    plain = kind.render_pixels

    def spy(scene, cameras, size, pixels, generator=None):
        seen.append(tuple(pixels.shape))
        return plain(scene, cameras, size, pixels, generator)

    monkeypatch.setattr(kind, "render_pixels", spy)
    method.loss(example, torch.Generator().manual_seed(0))
    method.sample_scene(example.context, [0, 1])
    assert seen == [(2, 3, 5), (2, 1, 7)]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_fit_leaves_the_method_alone_and_reports(config) -> None:
    method, context = make_method(config).train(), make_views()[:, :1]
    before = {name: x.clone() for name, x in method.state_dict().items()}
    steps = []

    def report(done: int, total: int, scene) -> None:
        steps.append((done, total))
        assert not any(x.requires_grad for x in scene.tensors().values())
        assert scene.shape == (2,)

    with torch.no_grad():
        scene = method.sample_scene(
            context, [0, 1], options=SampleOptions(num_steps=3), on_step=report
        )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert method.training
    assert all(torch.equal(before[n], x) for n, x in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    with torch.no_grad():
        first = scene.render(context.cameras, SIZE).color
    method.codes.weight.data += 1
    for parameter in method.parameters():
        parameter.data += 0.1
    with torch.no_grad():
        assert torch.equal(scene.render(context.cameras, SIZE).color, first)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_scene_does_not_depend_on_its_batch(config) -> None:
    config = dataclasses.replace(config, fit=dataclasses.replace(config.fit, rays=50))
    method, views = make_method(config), make_views(3)
    options = SampleOptions(num_steps=5)
    many = method.sample_scene(views[:, :2], [1, 2, 3], options=options)
    one = method.sample_scene(views[1:2, :2], [2], options=options)
    for name, tensor in one.tensors().items():
        if not name.startswith("marcher"):
            torch.testing.assert_close(
                many.tensors()[name][1], tensor[0], atol=1e-4, rtol=0
            )


@pytest.mark.parametrize("config", CONFIGS)
def test_more_steps_fit_better(config) -> None:
    method, context = make_method(config), make_views()[:, :1]
    train(method, make_example(), 30)

    def error(steps: int) -> torch.Tensor:
        options = SampleOptions(num_steps=steps)
        scene = method.sample_scene(context, [0, 0], options=options)
        with torch.no_grad():
            shown = scene.render(context.cameras, SIZE).color
        return (shown - context.images).square().mean(dim=(1, 2, 3, 4))

    assert (error(40) < error(2)).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_white_backgrounds_are_learned_as_colour(config) -> None:
    """Nothing is composited: a white image is a colour like any other, 1 in [0, 1]."""
    method, example = make_method(config), make_example(1)
    white = torch.ones_like(example.context.images)
    views = dataclasses.replace(example.context, images=white, masks=None)
    train(method, Example(views, views, torch.tensor([0])), 60)
    with torch.no_grad():
        codes = method.codes(torch.tensor([0]))
        scene = method.scene(codes, views.cameras)
        pixels = torch.arange(256).expand(1, 1, -1)
        shown = scene.render_pixels(views.cameras, SIZE, pixels)
        assert (scene.render(views.cameras, SIZE).color <= 1).all()
    assert shown.opacity is None
    assert (shown.color - 1).abs().mean() < 0.1


def test_seeds_decide_where_a_fit_of_srn_starts() -> None:
    method, context = make_method(TINY_SRN), make_views(1)[:, :1]
    context = Views.cat([context] * 3)
    options = SampleOptions(num_steps=1)

    def fit(seeds: list[int]) -> torch.Tensor:
        scene = method.sample_scene(context, seeds, options=options)
        return scene.tensors()["weight.0"]

    first, again = fit([1, 2, 3]), fit([1, 2, 3])
    assert torch.equal(first, again)
    assert not torch.allclose(first[0], first[1], atol=1e-6, rtol=0)
    assert torch.allclose(fit([3, 3, 1])[0], first[2], atol=1e-6)


def test_seeds_do_not_matter_to_lfn() -> None:
    """Its fits start at zero."""
    config = dataclasses.replace(
        TINY_LFN, fit=dataclasses.replace(TINY_LFN.fit, rays=50)
    )
    method, context = make_method(config), make_views(1)[:, :1]
    assert not method.stochastic
    options = SampleOptions(num_steps=3)
    one = method.sample_scene(context, [1], options=options).tensors()
    other = method.sample_scene(context, [2], options=options).tensors()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_world_frame_matters() -> None:
    """Points and rays are in the world's frame: unlike pixelNeRF's, it is not free."""
    for config in (TINY_SRN, TINY_LFN):
        method, views = make_method(config), make_views(1)
        motion = torch.eye(4)
        motion[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        scene = method.scene(method.codes(torch.tensor([0])), views.cameras)
        with torch.no_grad():
            here = scene.render(views.cameras, SIZE).color
            there = scene.render(views.cameras.transform(motion), SIZE).color
        assert not torch.allclose(here, there, atol=1e-3)
