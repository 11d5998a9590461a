"""Zero-1-to-3: its loss, what is dropped, what it is told, and sampling."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import object_cameras
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions
from unseen.methods.zero123 import Zero123, Zero123Config, pose_vectors
from unseen.networks.conv_encoder import ConvEncoderConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig

pytest.importorskip("diffusers", reason="diffusers is not installed")

UNET = LatentUNetConfig(8, 4, (8, 16), (True, False), 1, 16, (1, 2), False, 4)
CONFIG = Zero123Config(
    UNET,
    AutoencoderConfig((8, 8), 1, groups=4, scale=0.5),
    ConvEncoderConfig((8,), 12, 4),
    image_size=16,
)


def make(config: Zero123Config = CONFIG) -> Zero123:
    torch.manual_seed(0)
    method = Zero123(config)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return method


def views(batch: int, count: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = [object_cameras(count, generator) for _ in range(batch)]
    images = torch.rand(batch, count, 3, 16, 16, generator=generator)
    return Views(images, Cameras.stack(cameras))


class Spy:
    """Stands in for the U-Net: knows the latents, writes down what it is shown."""

    def __init__(self, method: Zero123, x_0: Tensor) -> None:
        self.x_0, self.schedule = x_0, method.schedule
        self.tokens: list[Tensor] = []
        self.latents: list[Tensor] = []
        self.steps: list[Tensor] = []
        method.unet.forward = self  # type: ignore[method-assign,assignment]

    def __call__(self, x: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        self.steps.append(step)
        self.tokens.append(tokens)
        self.latents.append(x[:, 4:])
        alpha, sigma = self.schedule.alpha_sigma((step + 1) / 1000)
        x_0 = self.x_0.repeat(len(x) // len(self.x_0), 1, 1, 1)
        return (x[:, :4] - alpha[:, None, None, None] * x_0) / sigma[
            :, None, None, None
        ]


def test_the_loss_is_zero_for_who_knows_the_truth() -> None:
    scene = views(3, 2)
    method = make()
    # Without spread, the latent of an image is its mean.
    inner = method.autoencoder.encode
    method.autoencoder.encode = lambda x: (inner(x)[0], torch.zeros_like(inner(x)[1]))
    with torch.no_grad():
        x_0 = 0.5 * inner(2 * scene.images[:, 1] - 1)[0]
    spy = Spy(method, x_0)
    example = Example(scene[:, :1], scene[:, 1:])
    loss = method.loss(example, torch.Generator().manual_seed(0))
    assert float(loss.total) < 1e-5 and list(loss.terms) == ["noise"]
    spy.x_0 = x_0 + 0.1
    assert float(method.loss(example, torch.Generator().manual_seed(0)).total) > 1e-3


def test_what_is_dropped_in_training() -> None:
    """A twentieth each: the embedding alone, the latent alone, both."""
    scene = views(1, 2)[torch.zeros(2000, dtype=torch.long)]
    method = make()
    spy = Spy(method, torch.zeros(2000, 4, 8, 8))
    method.loss(Example(scene[:, :1], scene[:, 1:]), torch.Generator().manual_seed(0))
    no_latent = (spy.latents[0] == 0).flatten(1).all(dim=1)
    # A dropped token is the projection of an empty embedding and the pose.
    cameras = scene.cameras[:1]
    token = method.make_token(torch.zeros(1, 12), cameras[:, 0], cameras[:, 1])
    no_token = (spy.tokens[0] - token).abs().amax(dim=(1, 2)) < 1e-6
    for share in (no_latent & no_token, no_latent & ~no_token, no_token & ~no_latent):
        assert float(share.float().mean()) == pytest.approx(0.05, abs=0.015)
    # The given latent is the mean, without the scale.
    with torch.no_grad():
        mean = method.autoencoder.encode(2 * scene.images[:1, 0] - 1)[0]
    shown = spy.latents[0][~no_latent]
    torch.testing.assert_close(shown, mean.expand_as(shown), rtol=0, atol=1e-5)
    assert spy.steps[0].min() < 20 and spy.steps[0].max() > 980


def test_only_the_parts_that_learn_get_gradients() -> None:
    scene = views(2, 2)
    example = Example(scene[:, :1], scene[:, 1:])
    for from_scratch in (False, True):
        method = make(dataclasses.replace(CONFIG, from_scratch=from_scratch))
        losses = method.loss(example, torch.Generator().manual_seed(0))
        losses.total.backward()
        parts = (method.autoencoder, method.image_encoder)
        for part in parts:
            found = [p.grad is not None for p in part.parameters()]
            assert all(found) == any(found) == from_scratch
        assert method.projection.weight.grad is not None
        expected = {"noise"}
        if from_scratch:
            expected |= {"reconstruction", "divergence"}
        assert set(losses.terms) == expected
    # The noise does not train the autoencoder: only its own losses do.
    method.zero_grad()
    method.config = dataclasses.replace(method.config, kl_weight=0.0)
    encode, decode = method.autoencoder.encode, method.autoencoder.decode
    method.autoencoder.decode = lambda x: decode(x).detach()
    assert encode is not None
    method.loss(example, torch.Generator().manual_seed(0)).total.backward()
    for p in method.autoencoder.parameters():
        assert p.grad is None or not p.grad.any()


def test_it_learns_a_pair(generator: torch.Generator) -> None:
    scene = views(1, 2)[torch.zeros(8, dtype=torch.long)]
    example = Example(scene[:, :1], scene[:, 1:])
    torch.manual_seed(0)
    method = Zero123(dataclasses.replace(CONFIG, from_scratch=True))
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    history = []
    for _ in range(25):
        losses = method.loss(example, generator)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.terms)
    first, last = history[:5], history[-5:]
    for name in ("noise", "reconstruction"):
        before, after = (sum(float(h[name]) for h in part) for part in (first, last))
        assert after < 0.75 * before, name


def camera_at(polar: float, azimuth: float, radius: float) -> Cameras:
    theta, phi = math.radians(polar), math.radians(azimuth)
    pose = torch.eye(4)
    pose[:3, 3] = radius * torch.tensor(
        [
            math.sin(theta) * math.cos(phi),
            math.sin(theta) * math.sin(phi),
            math.cos(theta),
        ]
    )
    one = torch.ones(())
    return Cameras(pose, torch.eye(3), one, one)


def test_pose_vectors_are_differences_on_the_sphere() -> None:
    given, camera = camera_at(60, 350, 1.5), camera_at(75, 20, 2.0)
    expected = [
        math.radians(15),
        math.sin(math.radians(30)),
        math.cos(math.pi / 6),
        0.5,
    ]
    found = pose_vectors(given, camera)
    torch.testing.assert_close(
        found, torch.tensor(expected).double(), atol=1e-6, rtol=0
    )
    # The world may turn about its vertical axis, and nothing else.
    back = pose_vectors(camera, given)
    signs = torch.tensor([-1, -1, 1, -1])
    torch.testing.assert_close(back, signs * found)
    same = pose_vectors(given, given)
    torch.testing.assert_close(same, torch.tensor([0.0, 0, 1, 0]).double())


def test_an_exact_score_gives_the_truth() -> None:
    """With a network that knows the latent, sampling ends near it, for any noise."""
    method, known = make(), views(2, 1)
    x_0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    Spy(method, x_0)
    steps: list[tuple[int, int]] = []
    found = method.sample_view(
        known, known.cameras[:, 0], [1, 2], None, lambda *step: steps.append(step)
    )
    with torch.no_grad():
        expected = method.autoencoder.decode(x_0 / 0.5)
    # The sampler stops at the first step of the table, with noise of 0.03 left.
    difference = (2 * found - 1 - expected.clamp(-1, 1)).abs()
    assert float(difference.mean()) < 0.05 * float(expected.std())
    assert steps == [(i + 1, 49) for i in range(49)]


@torch.no_grad()
def test_guidance() -> None:
    """1 is conditional, 0 sees zeros; the pose means nothing to 0."""
    method, scene = make(), views(2, 2)
    given = scene[:, 0]
    generator = torch.Generator().manual_seed(0)
    x_t, t = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([0.3, 0.6])
    latent = method.given_latent(given)
    embedding = torch.randn(2, 12, generator=generator)
    token = method.make_token(embedding, given.cameras, scene.cameras[:, 1])

    def at(scale: float, token: Tensor = token, latent: Tensor = latent) -> Tensor:
        return method.denoise(x_t, t, token, latent, scale)

    assert torch.equal(at(0.0), at(0.0, 2 * token, -latent))
    assert not torch.allclose(at(1.0), at(1.0, 2 * token))
    assert not torch.allclose(at(1.0), at(1.0, token, -latent))
    torch.testing.assert_close(at(1.0), at(1 + 1e-7))
    torch.testing.assert_close(at(3.0), 3 * at(1.0) - 2 * at(0.0), rtol=1e-4, atol=1e-4)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads share a batch among them, and sums then round by the entry's place."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_seeds_and_what_a_sample_depends_on() -> None:
    method, known = make(), views(1, 1)[torch.zeros(3, dtype=torch.long)]
    camera = views(1, 1, seed=7).cameras[:, 0].expand(3)
    options = SampleOptions(num_steps=3)
    found = method.sample_view(known, camera, [5, 6, 5], options)
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])
    alone = method.sample_view(known[:1], camera[:1], [6], options)
    torch.testing.assert_close(alone[0], found[1])
    assert found.min() >= 0 and found.max() <= 1
    # Views that were sampled before have no influence; the camera and the view have.
    more = Views.cat([known, views(3, 1, seed=3)], dim=1)
    again = method.sample_view(more, camera, [5, 6, 5], options)
    torch.testing.assert_close(again, found)
    other = views(3, 1, seed=8).cameras[:, 0]
    assert not torch.allclose(
        method.sample_view(known, other, [5, 6, 5], options), found
    )


def test_what_makes_no_sense_is_said() -> None:
    scene = views(1, 1)
    large = Views(torch.rand(1, 1, 3, 32, 32), scene.cameras)
    with pytest.raises(UserError, match="16 x 16"):
        make().sample_view(large, scene.cameras[:, 0], [0])
    for steps in (1, 1001):
        with pytest.raises(UserError, match="takes 2 to 1000 steps"):
            options = SampleOptions(num_steps=steps)
            make().sample_view(scene, scene.cameras[:, 0], [0], options)
