"""SparseFusion: its losses, its conditions, and sampling."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import object_cameras
from unseen.encoders.epipolar import EpipolarConfig
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions
from unseen.methods.sparsefusion import (
    LatentSamplingConfig,
    SparseFusion,
    SparseFusionConfig,
    ray_points,
)
from unseen.networks.feature_unet import FeatureUNetConfig
from unseen.networks.image_latents import (
    PixelLatentsConfig,
    SmallLatentsConfig,
    make_latents,
)
from unseen.networks.resnet34 import ResNetConfig

CONFIG = SparseFusionConfig(
    EpipolarConfig(ResNetConfig(8, (1, 1)), 8, 1, 0.0, 3, 4, 1.0),
    FeatureUNetConfig(8, (1, 2), 1, (False, True), 2, 4, 4, 2, 4),
    PixelLatentsConfig(2),
    image_size=16,
    rays="centers",
    sampling=LatentSamplingConfig(3),
)


def make(config: SparseFusionConfig = CONFIG) -> SparseFusion:
    torch.manual_seed(0)
    method = SparseFusion(config)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return method.eval()


def views(batch: int, count: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = [object_cameras(count, generator) for _ in range(batch)]
    images = torch.rand(batch, count, 3, 16, 16, generator=generator)
    return Views(images, Cameras.stack(cameras))


def moved(cameras: Cameras) -> Cameras:
    """The same cameras in a world that was turned, shifted and measured in inches."""
    angle = torch.tensor(1.1)
    motion = torch.eye(4)
    motion[0, :2] = torch.stack([angle.cos(), -angle.sin()])
    motion[1, :2] = torch.stack([angle.sin(), angle.cos()])
    motion[:3, 3] = torch.tensor([0.3, -2.0, 0.7])
    cameras = cameras.transform(motion)
    extrinsics = cameras.extrinsics.clone()
    extrinsics[..., :3, 3] *= 39.37
    return Cameras(
        extrinsics, cameras.intrinsics, 39.37 * cameras.near, 39.37 * cameras.far
    )


class Exact:
    """A diffusion model that knows the clean latents, and keeps what it is shown."""

    def __init__(self, method: SparseFusion, images: Tensor) -> None:
        self.clean = method.latents.encode(2 * images - 1)
        self.features: list[Tensor] = []
        method.network.forward = self  # type: ignore[method-assign,assignment]

    def __call__(self, x_t: Tensor, log_snr: Tensor, features: Tensor) -> Tensor:
        self.features.append(features)
        alpha = log_snr.sigmoid().sqrt()[:, None, None, None]
        sigma = (-log_snr).sigmoid().sqrt()[:, None, None, None]
        return (x_t - alpha * self.clean) / sigma


def test_the_loss_is_zero_for_who_knows_the_noise() -> None:
    scene = views(2, 4)
    example = Example(scene[:, :2], scene[:, 2:])
    method = make()
    exact = Exact(method, example.target.images.flatten(0, 1))
    terms = method.loss(example, torch.Generator().manual_seed(0)).terms
    assert terms["noise"] < 1e-4 < terms["color"] and set(terms) == {"noise", "color"}
    exact.clean = exact.clean + 0.1
    again = method.loss(example, torch.Generator().manual_seed(0)).terms
    assert again["noise"] > 1e-3


def test_a_tenth_of_the_features_is_hidden() -> None:
    scene = views(1, 3)[torch.zeros(200, dtype=torch.long)]
    method = make()
    exact = Exact(method, scene.images[:, 1:].flatten(0, 1))
    method.loss(Example(scene[:, :1], scene[:, 1:]), torch.Generator().manual_seed(0))
    hidden = (exact.features[0] == 0).flatten(1).all(dim=1)
    assert 0.05 < hidden.float().mean() < 0.16


def test_everything_is_trained() -> None:
    config = dataclasses.replace(CONFIG, latents=SmallLatentsConfig(8, 1))
    method, scene = make(config).train(), views(2, 4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        losses = method.loss(Example(scene[:, :2], scene[:, 2:]), generator)
        losses.total.backward()
    assert set(losses.terms) == {"noise", "color", "reconstruction"}
    still = [
        n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert still == []


def test_it_learns_a_scene() -> None:
    config = dataclasses.replace(CONFIG, latents=SmallLatentsConfig(8, 1))
    scene, generator = views(1, 2), torch.Generator().manual_seed(0)
    # Smooth pictures: there is something to compress.
    images = torch.nn.functional.interpolate(
        scene.images[..., ::8, ::8].flatten(0, 1), (16, 16), mode="bilinear"
    ).unflatten(0, (1, 2))
    scene = dataclasses.replace(scene, images=images)
    example = Example(scene[:, :1], scene[:, 1:])
    torch.manual_seed(0)
    method = SparseFusion(config).train()
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        losses = method.loss(example, generator)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.terms)
    for name, share in (("noise", 0.9), ("color", 0.6), ("reconstruction", 0.5)):
        values = [float(terms[name]) for terms in history]
        assert sum(values[-10:]) < share * sum(values[:10]), name


@torch.no_grad()
def test_weights_sum_to_one_and_views_have_no_order() -> None:
    method, scene = make(), views(2, 4)
    found = method.look(scene[:, :3], scene.cameras[:, 3])
    ones = torch.ones(2, 3, 64)
    torch.testing.assert_close(found.depth_weights.sum(dim=-1), ones)
    torch.testing.assert_close(found.view_weights.sum(dim=1), ones[:, 0])
    # All but the first, which defines the frame.
    swapped = method.look(scene[:, [0, 2, 1]], scene.cameras[:, 3])
    torch.testing.assert_close(found.features, swapped.features, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.view_weights[:, 1], swapped.view_weights[:, 2])


@torch.no_grad()
def test_the_worlds_frame_and_unit_do_not_matter() -> None:
    method, scene = make(), views(2, 3)
    other = dataclasses.replace(scene, cameras=moved(scene.cameras))
    first = method.look(scene[:, :2], scene.cameras[:, 2])
    second = method.look(other[:, :2], other.cameras[:, 2])
    torch.testing.assert_close(first.features, second.features, rtol=0, atol=1e-3)


@torch.no_grad()
def test_epipolar_lines_pass_through_what_a_point_shows() -> None:
    """The blended colour of a view's own camera is its picture, whatever the weights:
    along a ray of its own, a view shows one point."""
    method, scene = make(), views(1, 1)
    images = torch.nn.functional.interpolate(
        torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)),
        (16, 16),
        mode="bilinear",
        align_corners=True,
    )
    scene = dataclasses.replace(scene, images=images[None])
    found = method.look(scene, scene.cameras[:, 0])
    # Cells of two pixels; features lie at their centres, in the encoder's convention.
    x = ray_points(8, 16, "centers")
    expected = torch.nn.functional.grid_sample(
        images, (2 * x - 1)[None, None], align_corners=True
    )[0, :, 0].T
    torch.testing.assert_close(found.blended[0], expected, rtol=0, atol=1e-4)


def test_ray_points() -> None:
    edges = ray_points(32, 256, "edges").unflatten(0, (32, 32))
    torch.testing.assert_close(edges[0, 0], torch.full((2,), 0.5 / 256))
    torch.testing.assert_close(edges[0, -1], torch.tensor([255.5 / 256, 0.5 / 256]))
    centers = ray_points(4, 64, "centers").unflatten(0, (4, 4))
    torch.testing.assert_close(centers[1, 2], torch.tensor([2.5 / 4, 1.5 / 4]))


def test_an_exact_model_gives_the_truth() -> None:
    method, known = make(), views(2, 1)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    Exact(method, images)
    steps: list[tuple[int, int]] = []
    found = method.sample_view(
        known,
        known.cameras[:, 0],
        [1, 2],
        SampleOptions(num_steps=8),
        lambda done, total: steps.append((done, total)),
    )
    torch.testing.assert_close(found, images, rtol=0, atol=1e-3)
    assert steps == [(i + 1, 8) for i in range(8)]


@torch.no_grad()
def test_guidance_and_the_denoiser_of_distillation() -> None:
    method, scene = make(), views(2, 3)
    context, camera = scene[:, :2], scene.cameras[:, 2]
    generator = torch.Generator().manual_seed(0)
    # Small enough that nothing is cut.
    x_t = 0.1 * torch.randn(2, 12, 8, 8, generator=generator)
    t = torch.tensor([0.1, 0.3])

    def at(scale: float, given: Views = context) -> Tensor:
        return method.denoise(x_t, t, camera, given, scale)

    other = dataclasses.replace(context, images=context.images.flip(-1))
    assert torch.equal(at(0.0), at(0.0, other))
    assert not torch.allclose(at(1.0), at(1.0, other))
    torch.testing.assert_close(at(2.0), 2 * at(1.0) - at(0.0), rtol=0, atol=1e-4)
    assert torch.equal(method.denoiser(context, camera)(x_t, t), at(1.0))


def test_only_the_first_known_views_condition() -> None:
    sampling = LatentSamplingConfig(2, max_known=2)
    method = make(dataclasses.replace(CONFIG, sampling=sampling))
    known, camera = views(1, 4), views(1, 1, seed=3).cameras[:, 0]
    first = method.sample_view(known[:, :2], camera, [1])
    assert torch.equal(method.sample_view(known, camera, [1]), first)
    assert not torch.equal(method.sample_view(known[:, 1:], camera, [1]), first)


def test_seeds() -> None:
    """A sample is its seed's, whatever the batch; other seeds give other samples."""
    method, known = make(), views(1, 2)[torch.zeros(3, dtype=torch.long)]
    camera = views(1, 1, seed=7).cameras[:, 0].expand(3)
    found = method.sample_view(known, camera, [5, 6, 5])
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1])
    alone = method.sample_view(known[:1], camera[:1], [6])
    torch.testing.assert_close(alone[0], found[1])
    assert found.min() >= 0 and found.max() <= 1


def test_images_of_another_size_are_refused() -> None:
    scene: Any = views(1, 1)
    large = Views(torch.rand(1, 1, 3, 32, 32), scene.cameras)
    with pytest.raises(UserError, match="16 x 16"):
        make().sample_view(large, scene.cameras[:, 0], [0])


def test_latents() -> None:
    images = 2 * torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    pixels = make_latents(PixelLatentsConfig(4))
    assert torch.equal(pixels.decode(pixels.encode(images)), images)
    torch.manual_seed(0)
    small = make_latents(SmallLatentsConfig(8, 2, 4)).train()
    latents = small.encode(images)
    assert latents.shape == (3, 4, 4, 4) and small.decode(latents).shape == images.shape
    # Of unit variance from the first step on.
    assert float(latents.detach().var()) == pytest.approx(1, abs=0.05)
