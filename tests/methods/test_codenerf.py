"""CodeNeRF: training, fitting codes and poses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from tests.coded_objects import NETWORK, circle, lively
from unseen.encoders.auto_decoder import FitConfig
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.codenerf import CodeNeRF, CodeNeRFConfig
from unseen.methods.codenerf_pose import PoseConfig, placed, pose_start, rotation
from unseen.methods.method import SampleOptions
from unseen.scenes.coded_sampling import CodedSampling

TINY = CodeNeRFConfig(
    num_objects=3,
    image_size=12,
    network=NETWORK,
    sampling=CodedSampling(num_samples=16),
    rays=48,
    fit=FitConfig(num_steps=60, learning_rate=5e-2, optimizer="adamw", rays=60),
)
SIZE = (12, 12)


def make(config: CodeNeRFConfig = TINY, seed: int = 0) -> CodeNeRF:
    """A method whose objects differ."""
    torch.manual_seed(seed)
    method = CodeNeRF(config)
    for table in (method.shapes, method.textures):
        torch.nn.init.normal_(table.weight, std=0.4 / config.code_rate)
    lively(method.network, config.code_rate * method.shapes.weight.detach())
    return method.eval()


@torch.no_grad()
def views_of(method: CodeNeRF, objects: list[int], cameras: Cameras) -> Views:
    """What training objects look like (batch, view)."""
    scene = method.object_scene(torch.tensor(objects))
    cameras = cameras.expand(len(objects), len(cameras))
    return Views(scene.render_plain(cameras, SIZE).color, cameras)


def test_loss_is_squared_error_and_norms() -> None:
    config = dataclasses.replace(TINY, rays=0)
    method = make(config)
    views = views_of(method, [1], circle(2))
    grey = dataclasses.replace(views, images=torch.full_like(views.images, 0.5))
    example = Example(grey[:, :1], grey[:, 1:], torch.tensor([2]))
    found = method.loss(example, torch.Generator().manual_seed(3))
    scene = method.object_scene(torch.tensor([2]))
    norms = scene.shapes.norm() + scene.textures.norm()
    torch.testing.assert_close(found.terms["norms"], norms.detach())
    # Linear colours are compared, not clamped ones.
    pixels = torch.arange(144).expand(1, 2, -1)
    generator = torch.Generator().manual_seed(3)
    method._draw_pixels(grey, generator)
    seen = scene.render_pixels(grey.cameras, SIZE, pixels, generator)
    error = (seen.extras["linear"] - 0.5).square().mean().detach()
    torch.testing.assert_close(found.terms["color"], error)
    total = error + 1e-4 * norms.detach()
    torch.testing.assert_close(found.total.detach(), total)


def test_errors_are_summed_over_chunks_as_the_authors_do() -> None:
    method = make(dataclasses.replace(TINY, rays=0))
    chunked = make(dataclasses.replace(TINY, rays=0, chunk_rays=36))
    views = views_of(method, [1], circle(2))
    example = Example(views[:, :1], views[:, 1:], torch.tensor([2]))
    once, more = (
        m.loss(example, torch.Generator().manual_seed(0)).terms
        for m in (method, chunked)
    )
    torch.testing.assert_close(more["color"], 4 * once["color"])
    assert torch.equal(more["norms"], once["norms"])


def test_pixels_come_from_the_middle_where_asked() -> None:
    method = make(dataclasses.replace(TINY, crop=6, rays=20))
    views = views_of(method, [0], circle(2))
    pixels = method._draw_pixels(views, torch.Generator().manual_seed(0))
    assert pixels.shape == (1, 2, 20)
    for axis in (pixels // 12, pixels % 12):
        assert axis.min() == 3 and axis.max() == 8
    assert all(len(set(p.tolist())) == 20 for p in pixels[0])


def test_training_learns_network_and_codes() -> None:
    torch.manual_seed(0)
    method, truth = CodeNeRF(TINY).train(), make(seed=1)
    cameras = circle(4)
    views = views_of(truth, [0, 1, 2], cameras)
    example = Example(views[:, :2], views[:, 2:], torch.arange(3))
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        loss = method.loss(example, torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in method.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    with pytest.raises(UserError, match="objects"):
        method.loss(Example(views[:, :2], views[:, 2:]), torch.Generator())


def test_codes_learn_faster_by_their_rate() -> None:
    """Adam moves every entry of a table by the learning rate, whatever its scale."""
    method = make(dataclasses.replace(TINY, norm_weight=0.0))
    views = views_of(make(seed=1), [0, 1, 2], circle(2))
    example = Example(views[:, :1], views[:, 1:], torch.arange(3))
    before = method.object_scene(torch.arange(3)).shapes.detach().clone()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    method.loss(example, torch.Generator().manual_seed(0)).total.backward()
    optimizer.step()
    moved = (method.object_scene(torch.arange(3)).shapes - before).abs()
    assert float(moved.median().detach()) == pytest.approx(1e-2, rel=0.05)
    fresh = CodeNeRF(TINY).object_scene(torch.arange(3)).shapes.detach()
    assert float(fresh.std()) == pytest.approx(0.0884, rel=0.4)


def test_fitting_explains_the_image() -> None:
    method = make()
    weights = {name: p.clone() for name, p in method.named_parameters()}
    views = views_of(method, [0, 1], circle(2))
    steps: list[tuple[int, int]] = []
    scene = method.sample_scene(
        views, [0, 1], on_step=lambda done, total, _: steps.append((done, total))
    )
    start = method.sample_scene(views, [0, 1], options=SampleOptions(num_steps=1))

    def error(scene) -> Tensor:
        found = scene.render_plain(views.cameras, SIZE).color
        return (found - views.images).square().mean(dim=(1, 2, 3, 4))

    with torch.no_grad():
        assert (error(scene) < 0.35 * error(start)).all()
    assert steps[0] == (1, 60) and steps[-1] == (60, 60)
    assert all(torch.equal(p, weights[n]) for n, p in method.named_parameters())
    assert all(p.grad is None for p in method.parameters())
    assert not scene.shapes.requires_grad
    assert torch.equal(scene.frames, torch.eye(4).expand(2, 4, 4))


def test_fits_do_not_depend_on_the_batch() -> None:
    method = make()
    views = views_of(method, [0, 1], circle(1))
    options = SampleOptions(num_steps=5)
    both = method.sample_scene(views, [0, 1], options=options)
    alone = method.sample_scene(views[1:], [1], options=options)
    again = method.sample_scene(views[1:], [1], options=options)
    other = method.sample_scene(views[1:], [2], options=options)
    torch.testing.assert_close(both.shapes[1:], alone.shapes, rtol=0, atol=1e-3)
    assert torch.equal(alone.shapes, again.shapes)
    assert not torch.equal(alone.shapes, other.shapes)


def test_fits_start_at_the_mean_code() -> None:
    method = make(dataclasses.replace(TINY, fit=FitConfig(1, 0.0, rays=4)))
    scene = method.sample_scene(views_of(method, [0], circle(1)), [0])
    learned = method.object_scene(torch.arange(3))
    torch.testing.assert_close(scene.shapes[0], learned.shapes.mean(dim=0).detach())
    empty = CodeNeRF(dataclasses.replace(TINY, num_objects=0))
    found = empty._start(2, views_of(method, [0, 1], circle(1)))
    assert not found["shape"].any() and found["texture"].shape == (2, 8)


# ---- Pose ---------------------------------------------------------------------------


def one_object(pose: PoseConfig, seed: int, steps: int, rate: float) -> CodeNeRF:
    fit = FitConfig(steps, rate, "adamw", 1e-2, halve_every=steps // 3, rays=48)
    config = dataclasses.replace(TINY, num_objects=1, fit=fit, pose=pose)
    return make(config, seed)


def angle(first: Tensor, second: Tensor) -> float:
    """Degrees between two rotations."""
    trace = (first[:3, :3].T @ second[:3, :3]).trace()
    return math.degrees(float(torch.arccos(((trace - 1) / 2).clamp(-1, 1))))


@pytest.mark.parametrize("seed", [0, 2])
def test_refining_recovers_a_small_offset(seed: int) -> None:
    """Cameras that are wrong by 4 degrees and a shift are put right."""
    method = one_object(PoseConfig("refine", rate=0.5), seed, 150, 1e-2)
    views = views_of(method, [0], circle(4))
    offset = torch.eye(4)
    offset[:3, :3] = rotation(torch.tensor([[0.02, -0.05, 0.04]]))[0]
    offset[:3, 3] = torch.tensor([0.04, -0.03, 0.02])
    wrong = dataclasses.replace(
        views, cameras=views.cameras.transform(torch.linalg.inv(offset))
    )
    scene = method.sample_scene(wrong, [0])
    assert angle(torch.eye(4), offset) > 3.5
    assert offset[:3, 3].norm() > 0.05
    assert angle(scene.frames[0], offset) < 1.0
    assert (scene.frames[0, :3, 3] - offset[:3, 3]).norm() < 0.02


def test_the_scene_is_seen_by_the_given_camera() -> None:
    """ "sphere": whatever pose was claimed, the first camera sees the image."""
    pose = PoseConfig(
        "sphere", rate=1.0, radius=2.9, elevation=0.5, azimuths=(10.0, 190.0)
    )
    method = one_object(pose, 2, 120, 1e-2)
    views = views_of(method, [0], circle(1))
    claimed = circle(1, elevation=-0.7).expand(1, 1)
    moved = claimed.extrinsics.clone()
    moved[..., :3, 3] += 5
    claimed = dataclasses.replace(claimed, extrinsics=moved)
    scene = method.sample_scene(dataclasses.replace(views, cameras=claimed), [0])
    found = scene.frames[0] @ claimed.extrinsics[0, 0]
    true = views.cameras.extrinsics[0, 0]
    assert angle(found, true) < 4.0
    assert (found[:3, 3] - true[:3, 3]).norm() < 0.2
    with torch.no_grad():
        seen = scene.render_plain(claimed, SIZE).color
    assert (seen - views.images).square().mean() < 4e-3


def test_where_poses_start() -> None:
    views = Views(torch.zeros(2, 1, 3, 4, 4), circle(1).expand(2, 1))
    assert pose_start(PoseConfig(), views) is None
    config = PoseConfig("sphere", radius=1.3, azimuths=(0.0, 90.0))
    start = pose_start(config, views)
    assert start is not None and start.shape == (2, 2, 3)
    expected = torch.tensor([math.pi / 2, 0.5, math.log(1.3)])
    torch.testing.assert_close(start[0, 1], expected)
    frames = placed(config, views, start[:, 1], torch.zeros(2, 3))
    camera = frames @ views.cameras.extrinsics[:, 0]
    radius = camera[0, :3, 3].norm()
    assert float(radius) == pytest.approx(1.3, abs=1e-5)
    assert float((camera[0, 2, 3] / radius).asin()) == pytest.approx(0.5, abs=1e-5)
    # It looks at the origin.
    axis = -camera[0, :3, 3] / radius
    torch.testing.assert_close(axis, camera[0, :3, 2], rtol=0, atol=1e-5)
    middle = pose_start(PoseConfig("sphere"), views)
    assert middle is not None
    assert float(middle[0, 0, 2].exp()) == pytest.approx(3.0)
    with pytest.raises(UserError, match="azimuth"):
        pose_start(PoseConfig("sphere", azimuths=()), views)


def test_rotations_about_axes() -> None:
    quarter = rotation(torch.tensor([[0.0, 0.0, math.pi / 2]]))[0]
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(quarter, expected, rtol=0, atol=1e-6)
