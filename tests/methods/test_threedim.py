"""3DiM: its loss, its poses, and sampling with stochastic conditioning."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import object_cameras
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions, add_view
from unseen.methods.threedim import (
    ThreeDiM,
    ThreeDiMConfig,
    ViewSamplingConfig,
    pair_rays,
    pick_views,
)
from unseen.networks.xunet import XUNetConfig

NETWORK = XUNetConfig(8, (1, 2), 1, (False, True), 2, 16, 4, 0.0, 3, 2)
CONFIG = ThreeDiMConfig(NETWORK, 8, sampling=ViewSamplingConfig(3, 1.0))


def make(config: ThreeDiMConfig = CONFIG) -> ThreeDiM:
    torch.manual_seed(0)
    method = ThreeDiM(config)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return method


def views(batch: int, count: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = [object_cameras(count, generator) for _ in range(batch)]
    images = torch.rand(batch, count, 3, 8, 8, generator=generator)
    return Views(images, Cameras.stack(cameras))


class Exact:
    """A network that knows the clean image, and writes down what it is shown."""

    def __init__(self, method: ThreeDiM, image: Tensor) -> None:
        self.image, self.shown, self.kept = 2 * image - 1, [], []
        self.schedule = method.schedule
        method.network.forward = self  # type: ignore[method-assign,assignment]

    def __call__(self, frames: Tensor, log_snr: Tensor, rays: Tensor, kept: Tensor):
        self.shown.append(frames[:, 0])
        self.kept.append(kept)
        alpha = log_snr[:, 1].sigmoid().sqrt()[:, None, None, None]
        sigma = (-log_snr[:, 1]).sigmoid().sqrt()[:, None, None, None]
        return (frames[:, 1] - alpha * self.image) / sigma


def test_the_loss_is_zero_for_who_knows_the_truth() -> None:
    scene = views(3, 2)
    example = Example(scene[:, :1], scene[:, 1:])
    method = make()
    exact = Exact(method, example.target.images[:, 0])
    loss = method.loss(example, torch.Generator().manual_seed(0))
    assert float(loss.total) < 1e-4
    exact.image = exact.image + 0.1
    assert float(method.loss(example, torch.Generator().manual_seed(0)).total) > 1e-3


def test_a_tenth_of_the_conditions_is_dropped() -> None:
    """Then the network sees noise in place of the clean view, and no poses."""
    scene = views(1, 2)[torch.zeros(400, dtype=torch.long)]
    method = make()
    exact = Exact(method, scene.images[:, 1])
    method.loss(Example(scene[:, :1], scene[:, 1:]), torch.Generator().manual_seed(0))
    kept, shown = exact.kept[0], exact.shown[0]
    assert 0.05 < 1 - kept.float().mean() < 0.16
    truth = 2 * scene.images[:, 0] - 1
    assert torch.equal(shown[kept], truth[kept])
    assert abs(float(shown[~kept].std()) - 1) < 0.1 and shown[~kept].abs().max() > 2


def test_every_target_is_paired_with_some_context_view() -> None:
    scene = views(2, 5)
    method = make(dataclasses.replace(CONFIG, drop_condition=0.0))
    exact = Exact(method, torch.zeros(6, 3, 8, 8))
    method.loss(Example(scene[:, :2], scene[:, 2:]), torch.Generator().manual_seed(3))
    found = set()
    for i, shown in enumerate(exact.shown[0]):
        same = (2 * scene.images[i // 3, :2] - 1 == shown).flatten(1).all(dim=1)
        assert same.sum() == 1
        found.add(int(same.int().argmax()))
    assert found == {0, 1}


def test_it_learns_a_pair(generator: torch.Generator) -> None:
    scene = views(1, 2)[torch.zeros(8, dtype=torch.long)]
    example = Example(scene[:, :1], scene[:, 1:])
    torch.manual_seed(0)
    method = ThreeDiM(CONFIG)
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        loss = method.loss(example, generator).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # A network that says nothing has a loss of 1.
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert sum(losses[-5:]) / 5 < 0.75


def moved(cameras: Cameras) -> Cameras:
    """The same cameras in a world that was turned and shifted."""
    angle = torch.tensor(1.1)
    motion = torch.eye(4)
    motion[0, :2] = torch.stack([angle.cos(), -angle.sin()])
    motion[1, :2] = torch.stack([angle.sin(), angle.cos()])
    motion[:3, 3] = torch.tensor([0.3, -2.0, 0.7])
    return cameras.transform(motion)


def test_relative_poses_do_not_depend_on_the_world() -> None:
    cameras = views(2, 2).cameras
    other = moved(cameras)
    for poses in ("absolute", "relative"):
        first = pair_rays(cameras[:, 0], cameras[:, 1], (8, 8), poses)
        second = pair_rays(other[:, 0], other[:, 1], (8, 8), poses)
        assert torch.allclose(first, second, atol=1e-5) == (poses == "relative")
        norms = first[:, :, 3:].norm(dim=2)
        torch.testing.assert_close(norms, torch.ones_like(norms))
    # The clean view's camera stands at the origin.
    assert first[:, 0, :3].abs().max() < 1e-6


@torch.no_grad()
def test_relative_samples_do_not_depend_on_the_world() -> None:
    method = make(dataclasses.replace(CONFIG, poses="relative"))
    scene = views(2, 2)
    given = scene[:, :1]
    other = dataclasses.replace(given, cameras=moved(given.cameras))
    camera = scene.cameras[:, 1]
    first = method.sample_view(given, camera, [1, 2])
    second = method.sample_view(other, moved(camera), [1, 2])
    torch.testing.assert_close(first, second, rtol=0, atol=1e-3)


def test_stochastic_conditioning_draws_from_all_that_is_known() -> None:
    """Every step, anew for every sample, and from the pool alone."""
    method, known = make(), views(2, 3)
    exact = Exact(method, torch.full((2, 3, 8, 8), 0.25))
    steps: list[tuple[int, int]] = []
    method.sample_view(
        known,
        views(2, 1, seed=5).cameras[:, 0],
        [1, 2],
        SampleOptions(num_steps=60),
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(i + 1, 60) for i in range(60)]
    pool = 2 * known.images - 1
    drawn = torch.zeros(2, 60, dtype=torch.long)
    for step, shown in enumerate(exact.shown):
        for i in range(2):
            same = (pool[i] == shown[i]).flatten(1).all(dim=1)
            assert same.sum() == 1
            drawn[i, step] = same.int().argmax()
    for row in drawn:
        assert row.bincount(minlength=3).min() > 8
    assert not torch.equal(drawn[0], drawn[1])


def test_sampled_views_join_the_pool() -> None:
    method, context = make(), views(1, 1)
    counts: list[int] = []
    inner = method.sample_view

    def spy(known: Views, *rest: Any, **more: Any) -> Tensor:
        counts.append(known.shape[1])
        return inner(known, *rest, **more)

    method.sample_view = spy  # type: ignore[method-assign]
    cameras = views(1, 3, seed=4).cameras
    found = method.sample(context, cameras, torch.Generator().manual_seed(0))
    assert counts == [1, 2, 3] and found.images.shape == (1, 3, 3, 8, 8)
    assert torch.equal(found.cameras.extrinsics, cameras.extrinsics)


def test_an_exact_score_gives_the_truth() -> None:
    """With a network that knows the image, sampling ends at it, whatever the noise."""
    method, known = make(), views(2, 1)
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    Exact(method, image)
    found = method.sample_view(
        known, known.cameras[:, 0], [1, 2], SampleOptions(num_steps=16)
    )
    torch.testing.assert_close(found, image, rtol=0, atol=1e-3)


def test_a_gaussian_prior_is_sampled_with_its_spread() -> None:
    """The exact denoiser of pixels that are normal (mean 0.2, deviation 0.3)."""
    method = make()

    def forward(frames: Tensor, log_snr: Tensor, rays: Tensor, kept: Tensor) -> Tensor:
        alpha = log_snr[:, 1].sigmoid().sqrt()[:, None, None, None]
        sigma = (-log_snr[:, 1]).sigmoid().sqrt()[:, None, None, None]
        variance = (0.3 * alpha) ** 2 + sigma**2
        return sigma * (frames[:, 1] - 0.2 * alpha) / variance

    method.network.forward = forward  # type: ignore[method-assign,assignment]
    known = views(1, 1)[torch.zeros(16, dtype=torch.long)]
    found = 2 * method.sample_view(
        known, known.cameras[:, 0], range(16), SampleOptions(num_steps=100)
    )
    assert float(found.mean() - 1) == pytest.approx(0.2, abs=0.03)
    assert float(found.std()) == pytest.approx(0.3, abs=0.03)


@torch.no_grad()
def test_guidance() -> None:
    """1 is the conditional estimate, 0 the unconditional one; others extrapolate."""
    method, scene = make(), views(2, 2)
    clean, camera = scene[:, 0], scene.cameras[:, 1]
    # Small enough that nothing is clipped.
    generator = torch.Generator().manual_seed(0)
    x_t = 0.05 * torch.randn(2, 3, 8, 8, generator=generator)
    t, blank = torch.full((2,), 0.05), torch.randn(2, 3, 8, 8, generator=generator)

    def at(scale: float, given: Views = clean) -> Tensor:
        return method.denoise(given, x_t, camera, t, scale, lambda x: blank)

    flipped = Views(clean.images.flip(-1), clean.cameras)
    assert torch.equal(at(0.0), at(0.0, flipped))
    assert not torch.allclose(at(1.0), at(1.0, flipped))
    torch.testing.assert_close(at(1.0), at(1 + 1e-7))
    torch.testing.assert_close(at(2.0), 2 * at(1.0) - at(0.0))


def test_seeds() -> None:
    """A sample is its seed's, whatever the batch; other seeds give other samples."""
    method, known = make(), views(1, 1)[torch.zeros(3, dtype=torch.long)]
    camera = views(1, 1, seed=7).cameras[:, 0].expand(3)
    options = SampleOptions(guidance=2.0)
    found = method.sample_view(known, camera, [5, 6, 5], options)
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])
    alone = method.sample_view(known[:1], camera[:1], [6], options)
    torch.testing.assert_close(alone[0], found[1])
    assert found.min() >= 0 and found.max() <= 1


def test_images_of_another_size_are_refused() -> None:
    scene = views(1, 1)
    large = Views(torch.rand(1, 1, 3, 16, 16), scene.cameras)
    with pytest.raises(UserError, match="8 x 8"):
        make().sample_view(large, scene.cameras[:, 0], [0])


def test_picking_and_adding_views() -> None:
    scene = views(2, 3)
    picked = pick_views(scene, torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(picked.images[0, 0], scene.images[0, 2])
    assert torch.equal(picked.cameras.extrinsics[1, 1], scene.cameras.extrinsics[1, 1])
    more = add_view(scene, scene.images[:, 0], scene.cameras[:, 0])
    assert more.shape == (2, 4) and torch.equal(more.images[:, 3], scene.images[:, 0])
