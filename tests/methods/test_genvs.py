"""GeNVS: its loss, what a new view is conditioned on, and sampling."""

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
from unseen.methods.genvs import GeNVS, GeNVSConfig, GeNVSSampling, nearest_views
from unseen.methods.method import SampleOptions
from unseen.networks.ddpm_plus_plus import DDPMPlusPlusConfig
from unseen.networks.frustum_encoder import FrustumEncoderConfig
from unseen.scenes.frustum_features import FeatureRendering

SIDE = 16
CONFIG = GeNVSConfig(
    FrustumEncoderConfig(4, (1, 1, 1, 1), 8, 4, (1,), 1, features=4, slices=4),
    rendering=FeatureRendering(num_samples=4),
    denoiser=DDPMPlusPlusConfig(8, (1, 2), 1, (False, True), 8),
    image_size=SIDE,
    sampling=GeNVSSampling(num_steps=3),
)


def make(config: GeNVSConfig = CONFIG) -> GeNVS:
    torch.manual_seed(0)
    method = GeNVS(config)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return method


def views(batch: int, count: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = [object_cameras(count, generator) for _ in range(batch)]
    images = torch.rand(batch, count, 3, SIDE, SIDE, generator=generator)
    return Views(images, Cameras.stack(cameras))


class Exact:
    """A denoiser's network that knows the clean image; keeps what it is shown."""

    def __init__(self, method: GeNVS, image: Tensor) -> None:
        self.image, self.seen, self.sigmas = 2 * image - 1, [], []
        method.denoiser.forward = self  # type: ignore[method-assign,assignment]

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        sigma = (4 * level).exp()[:, None, None, None]
        total = (sigma**2 + 0.25).sqrt()
        self.seen.append(x * total)
        self.sigmas.append(sigma.flatten())
        x_t = self.seen[-1][:, :3]
        # F = (D - c_skip x_t) / c_out with D the truth.
        return (self.image - 0.25 / total**2 * x_t) / (0.5 * sigma / total)


def test_the_loss_is_zero_for_who_knows_the_truth() -> None:
    scene, method = views(3, 2), make()
    example = Example(scene[:, :1], scene[:, 1:])
    exact = Exact(method, example.target.images[:, 0])
    loss = method.loss(example, torch.Generator().manual_seed(0)).total
    assert loss.item() < 1e-6
    exact.image = exact.image + 0.1
    loss = method.loss(example, torch.Generator().manual_seed(0)).total
    # lambda(sigma) (D - y)^2, averaged over the batch.
    sigma = exact.sigmas[-1]
    weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    torch.testing.assert_close(loss, 0.01 * weight.mean(), rtol=1e-3, atol=0)


def test_noise_levels_and_dropped_features_of_training() -> None:
    scene = views(1, 2)[torch.zeros(400, dtype=torch.long)]
    method = make()
    exact = Exact(method, scene.images[:, 1])
    method.loss(Example(scene[:, :1], scene[:, 1:]), torch.Generator().manual_seed(0))
    logs = exact.sigmas[0].log()
    assert abs(float(logs.mean()) + 1) < 0.2 and abs(float(logs.std()) - 1.4) < 0.15
    features = exact.seen[0][:, 3:]
    # Noise has a deviation of 1 in each of its images, features much less.
    dropped = (features.flatten(1).std(dim=1) - 1).abs() < 0.1
    assert 0.05 < float(dropped.float().mean()) < 0.16
    assert not torch.equal(features[dropped][0], features[dropped][1])


def test_half_of_the_known_views_get_noise() -> None:
    context = views(1, 1)[torch.zeros(400, dtype=torch.long)]
    spoiled = make().spoil(context, torch.Generator().manual_seed(0))
    deviation = (spoiled - (2 * context.images - 1)).flatten(1).std(dim=1)
    noisy = deviation[deviation > 0]
    assert 0.4 < len(noisy) / 400 < 0.6
    assert abs(float(noisy.mean()) - 0.5) < 0.06 and float(noisy.max()) < 1.1


def test_training_uses_one_or_more_of_the_context_views() -> None:
    method, scene = make(), views(1, 4)
    counts: list[int] = []
    inner = method.frustums

    def spy(images: Tensor, cameras: Cameras) -> Any:
        counts.append(images.shape[1])
        return inner(images, cameras)

    method.frustums = spy  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        method.loss(Example(scene[:, :3], scene[:, 3:]), generator)
    assert set(counts) == {1, 2, 3}


def test_it_learns_a_pair(generator: torch.Generator) -> None:
    scene = views(1, 2)[torch.zeros(8, dtype=torch.long)]
    shades = torch.linspace(0, 1, SIDE).expand_as(scene.images)
    example = Example(scene[:, :1], dataclasses.replace(scene, images=shades)[:, 1:])
    torch.manual_seed(0)
    method = GeNVS(CONFIG)
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        loss = method.loss(example, generator).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_what_a_view_says_reaches_the_denoiser() -> None:
    """The loss has a gradient in the encoder, and features depend on the camera."""
    method, scene = make(), views(2, 3)
    method.loss(
        Example(scene[:, :2], scene[:, 2:]), torch.Generator().manual_seed(0)
    ).total.backward()
    for part in (method.encoder.conv1.weight, method.field.layers[0].weight):
        assert part.grad is not None and float(part.grad.abs().max()) > 0
    frustums = method.frustums(2 * scene.images[:, :1] - 1, scene.cameras[:, :1])
    seen = frustums.render(scene.cameras[:, 1:], (SIDE, SIDE))
    assert not torch.allclose(seen[:, 0], seen[:, 1], atol=1e-4)


def test_an_exact_denoiser_gives_the_truth() -> None:
    method, known = make(), views(2, 1)
    image = torch.rand(
        2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9)
    ).clamp(0.1, 0.9)
    exact = Exact(method, image)
    steps: list[tuple[int, int]] = []
    found = method.sample_view(
        known,
        known.cameras[:, 0],
        [1, 2],
        SampleOptions(num_steps=5),
        lambda *step: steps.append(step),
    )
    torch.testing.assert_close(found, image, rtol=0, atol=1e-3)
    assert steps == [(i + 1, 5) for i in range(5)]
    # Two evaluations a step but for the last one, from 80 down.
    assert len(exact.sigmas) == 9 and float(exact.sigmas[0][0]) == pytest.approx(80)


def test_guidance_needs_a_second_evaluation_with_noise() -> None:
    method, known = make(), views(2, 1)
    exact = Exact(method, known.images[:, 0])
    method.sample_view(known, known.cameras[:, 0], [1, 2], SampleOptions(2, 3.0))
    assert len(exact.seen) == 6
    features = [seen[:, 3:] for seen in exact.seen]
    torch.testing.assert_close(features[0], features[2])
    assert abs(float(features[0].std()) - 1) > 0.2
    assert abs(float(features[1].std()) - 1) < 0.1
    assert not torch.equal(features[1], features[3])


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch() -> None:
    method, known = make(), views(3, 2)
    camera = views(3, 1, seed=5).cameras[:, 0]
    together = method.sample_view(known, camera, [1, 2, 3])
    alone = method.sample_view(known[1:2], camera[1:2], [2])
    torch.testing.assert_close(alone, together[1:2], rtol=0, atol=1e-4)
    other = method.sample_view(known[1:2], camera[1:2], [7])
    assert not torch.allclose(other, alone, atol=1e-3)


def test_the_nearest_views_are_kept_in_order() -> None:
    known = views(2, 5)
    camera = Cameras.stack([known.cameras[0, 3], known.cameras[1, 1]])
    near = nearest_views(known, camera, 3)
    distance = (known.cameras.centers - camera.centers[:, None]).norm(dim=-1)
    for row in range(2):
        expected = sorted(distance[row].argsort()[:3].tolist())
        assert torch.equal(near.images[row], known.images[row, expected])
    assert nearest_views(known, camera, None) is known
    assert nearest_views(known, camera, 5) is known


def test_only_the_nearest_views_are_encoded() -> None:
    config = dataclasses.replace(CONFIG, sampling=GeNVSSampling(1, nearest=2))
    method, counts = make(config), []
    inner = method.frustums

    def spy(images: Tensor, cameras: Cameras) -> Any:
        counts.append(images.shape[1])
        return inner(images, cameras)

    method.frustums = spy  # type: ignore[method-assign]
    cameras = views(1, 3, seed=4).cameras
    method.sample(views(1, 1), cameras, torch.Generator().manual_seed(0))
    assert counts == [1, 2, 2]


def test_images_of_another_size_are_refused() -> None:
    known = views(1, 1)
    wrong = Views(known.images[..., :8, :8], known.cameras)
    with pytest.raises(UserError, match="16 x 16 pixels, not 8 x 8"):
        make().sample_view(wrong, known.cameras[:, 0], [1])
