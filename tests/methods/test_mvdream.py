"""MVDream: its loss, what its network is told, and sampling views together."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import object_cameras, object_turn
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions
from unseen.methods.mvdream import MVDream, MVDreamConfig, camera_vectors
from unseen.model import Model
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig
from unseen.networks.text import WordConfig

pytest.importorskip("diffusers", reason="diffusers is not installed")

UNET = LatentUNetConfig(4, 4, (8, 16), (True, False), 1, 12, (1, 2), False, 4)
CONFIG = MVDreamConfig(
    UNET,
    AutoencoderConfig((8, 8), 1, groups=4, scale=0.5),
    WordConfig(32, 4, 12),
    image_size=16,
)


def make(config: MVDreamConfig = CONFIG) -> MVDream:
    torch.manual_seed(0)
    method = MVDream(config)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return method


def views(batch: int, count: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = [object_cameras(count, generator) for _ in range(batch)]
    images = torch.rand(batch, count, 3, 16, 16, generator=generator)
    return Views(images, Cameras.stack(cameras))


def example(batch: int, captions: tuple[str, ...] = ()) -> Example:
    scene = views(batch, 4)
    return Example(scene[:, :1], scene[:, 1:], None, captions)


class Spy:
    """Stands in for the U-Net: knows the latents, writes down what it is shown."""

    def __init__(self, method: MVDream, x_0: Tensor) -> None:
        self.x_0, self.schedule = x_0, method.schedule
        self.calls: list[dict[str, Any]] = []
        method.unet.forward = self  # type: ignore[method-assign,assignment]

    def __call__(
        self, x: Tensor, step: Tensor, tokens: Tensor, added: Tensor, count: int
    ) -> Tensor:
        self.calls.append(
            {"step": step, "tokens": tokens, "added": added, "count": count}
        )
        alpha, sigma = (
            scale[:, None, None, None]
            for scale in self.schedule.alpha_sigma((step + 1) / 1000)
        )
        x_0 = self.x_0.flatten(0, 1).repeat(
            len(x) // self.x_0.shape[:2].numel(), 1, 1, 1
        )
        return (x - alpha * x_0) / sigma


def test_the_loss_is_zero_for_who_knows_the_truth() -> None:
    data, method = example(3), make()
    inner = method.autoencoder.encode
    method.autoencoder.encode = lambda x: (inner(x)[0], torch.zeros_like(inner(x)[1]))
    both = torch.cat([data.context.images, data.target.images], dim=1)
    with torch.no_grad():
        x_0 = 0.5 * inner(2 * both.flatten(0, 1) - 1)[0].unflatten(0, (3, 4))
    spy = Spy(method, x_0)
    loss = method.loss(data, torch.Generator().manual_seed(0))
    assert float(loss.total) < 1e-5
    # All views of a scene are at one step.
    steps = spy.calls[0]["step"].unflatten(0, (3, 4))
    assert (steps == steps[:, :1]).all() and len(steps[:, 0].unique()) == 3
    spy.x_0 = x_0 + 0.3
    assert float(method.loss(data, torch.Generator().manual_seed(0)).total) > 1e-3


def test_training_mixes_views_and_single_pictures_with_and_without_text() -> None:
    method = make()
    data = example(40, ("crate",) * 40)
    spy = Spy(method, torch.zeros(40, 4, 4, 8, 8))
    generator, single, empty = torch.Generator().manual_seed(0), 0, 0
    with torch.no_grad():
        blank = method.encode_text([""])[0]
        named = {
            1: method.encode_text(["crate"])[0],
            4: method.encode_text(["crate, 3d asset"])[0],
        }
        for _ in range(40):
            method.loss(data, generator)
            call = spy.calls[-1]
            assert (call["added"] is None) == (call["count"] == 1)
            single += call["count"] == 1
            tokens = call["tokens"][::4]
            is_empty = (tokens == blank).flatten(1).all(dim=1)
            empty += int(is_empty.sum())
            expected = named[call["count"]].expand_as(tokens)
            assert torch.equal(tokens[~is_empty], expected[~is_empty])
    assert 0.15 < single / 40 < 0.45
    assert 0.07 < empty / 1600 < 0.13


def test_only_the_parts_that_learn_get_gradients() -> None:
    for from_scratch in (False, True):
        config = dataclasses.replace(CONFIG, from_scratch=from_scratch, single_view=0.0)
        method = make(config)
        data = example(2, ("crate", "mug"))
        losses = method.loss(data, torch.Generator().manual_seed(0))
        losses.total.backward()
        for part in (method.autoencoder, method.text_encoder):
            found = [p.grad is not None for p in part.parameters()]
            assert all(found) == any(found) == from_scratch
        assert all(p.grad is not None for p in method.camera.parameters())
        assert ("reconstruction" in losses.terms) == from_scratch


def test_it_learns_what_words_mean(generator: torch.Generator) -> None:
    """After a while the noise of an object depends on what it is called."""
    scene = views(2, 4)
    images = torch.zeros_like(scene.images)
    images[1] = 1
    scene = Views(images, scene.cameras)
    data = Example(scene[:, :1], scene[:, 1:], None, ("night", "day"))
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, from_scratch=True, single_view=0.0)
    method = MVDream(config)
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    history = []
    for _ in range(30):
        losses = method.loss(data, generator)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(float(losses.terms["noise"]))
    assert sum(history[-5:]) < 0.7 * sum(history[:5])
    with torch.no_grad():
        x_t = torch.randn(2, 4, 4, 8, 8, generator=generator)
        tokens = method.encode_text(["night", "day"])
        t = torch.full((2,), 0.9)
        right = method.predict_noise(x_t, t, tokens, scene.cameras)
        wrong = method.predict_noise(x_t, t, tokens.flip(0), scene.cameras)
        unknown = method.encode_text(["fog", "rain"])
    assert float((right - wrong).abs().mean()) > 1e-3
    assert torch.equal(unknown[0], unknown[1])


def test_cameras_are_told_by_direction() -> None:
    cameras = views(2, 3).cameras
    found = camera_vectors(cameras).unflatten(-1, (4, 4))
    torch.testing.assert_close(found[..., :3, 3].norm(dim=-1), torch.ones(2, 3))
    # They look along -z at the origin: the centre is the z axis of the camera.
    torch.testing.assert_close(found[..., :3, 2], found[..., :3, 3], atol=1e-5, rtol=0)
    assert (found[..., 2, 1] > 0).all(), "y is up"
    near = dataclasses.replace(cameras, extrinsics=cameras.extrinsics.clone())
    near.extrinsics[..., :3, 3] *= 0.5
    torch.testing.assert_close(camera_vectors(near), camera_vectors(cameras))
    # And nothing was written into the cameras.
    assert torch.equal(cameras.extrinsics, views(2, 3).cameras.extrinsics)


def test_an_exact_score_gives_the_truth() -> None:
    method = make()
    x_0 = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    spy = Spy(method, x_0)
    steps: list[tuple[int, int]] = []
    cameras = Cameras.stack([object_turn(40.0, 15.0, 4)] * 2)
    given = views(2, 1)[:, :0]
    options = SampleOptions(prompt="crate")
    found = method.sample_views(
        given, cameras, [1, 2], options, lambda *step: steps.append(step)
    )
    with torch.no_grad():
        expected = method.autoencoder.decode(x_0.flatten(0, 1) / 0.5)
        tokens = method.encode_text(["crate, 3d asset", ""])
    difference = (2 * found.images.flatten(0, 1) - 1 - expected.clamp(-1, 1)).abs()
    assert float(difference.mean()) < 0.05 * float(expected.std())
    assert steps == [(i + 1, 50) for i in range(50)]
    # Both branches see the cameras, one of them an empty text.
    call = spy.calls[0]
    assert call["count"] == 4 and len(call["tokens"]) == 16
    assert torch.equal(call["added"][:8], call["added"][8:])
    assert torch.equal(call["tokens"][0], tokens[0])
    assert torch.equal(call["tokens"][8], tokens[1])


def test_one_view_is_a_picture_without_a_camera() -> None:
    method = make()
    spy = Spy(method, torch.zeros(1, 1, 4, 8, 8))
    cameras = Cameras.stack([object_turn(40.0, 15.0, 1)])
    method.sample_views(
        views(1, 1)[:, :0], cameras, [0], SampleOptions(num_steps=2, prompt="crate")
    )
    assert spy.calls[0]["added"] is None and spy.calls[0]["count"] == 1
    with torch.no_grad():
        tokens = method.encode_text(["crate"])
    assert torch.equal(spy.calls[0]["tokens"][:1], tokens)


def test_seeds() -> None:
    """A sample is its seed's, whatever the batch; views share one and differ."""
    method = make()
    cameras = Cameras.stack([object_turn(40.0, 15.0, 3)] * 3)
    given, options = views(3, 1)[:, :0], SampleOptions(num_steps=3)
    found = method.sample_views(given, cameras, [5, 6, 5], options).images
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0, 0], found[0, 1])
    alone = method.sample_views(given[:1], cameras[:1], [6], options).images
    torch.testing.assert_close(alone[0], found[1])
    assert found.min() >= 0 and found.max() <= 1
    # One draw of `sample` is the same thing.
    drawn = method.sample(given, cameras, torch.Generator().manual_seed(0))
    assert drawn.images.shape == (3, 3, 3, 16, 16)


def test_models_of_text_and_models_without(tmp_path) -> None:
    model = Model(make())
    assert not model.makes_scenes
    reports: list[tuple[int, int]] = []
    found = model.sample_views(
        None, num=2, steps=2, prompt="mug", progress=lambda *r: reports.append(r)
    )
    assert [v.images.shape for v in found] == [(4, 3, 16, 16)] * 2
    assert reports == [(i + 1, 4) for i in range(4)]
    other = model.sample_views(None, num=2, steps=2, prompt="crate")
    assert not torch.allclose(other[0].images, found[0].images)
    first = model.sample_views(None, num=1, steps=2, prompt="mug", azimuth=90.0)[0]
    turned = first.cameras.centers[0]
    assert abs(float(turned[0])) < 1e-5 and float(turned[1]) > 0
    with pytest.raises(UserError, match="takes no image"):
        model.generate(views(1, 1)[0], object_turn(40.0, 15.0, 4))
    with pytest.raises(UserError, match="no target camera"):
        model.generate(model.context(None), object_turn(40.0, 15.0, 4)[:0])
    with pytest.raises(UserError, match="at least one view"):
        model.sample_views(None, num_views=0)
