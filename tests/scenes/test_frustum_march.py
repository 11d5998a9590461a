"""The compiled renderer of frustum volumes against its twin in torch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.scenes.test_frustum_volume import SIZE
from unseen.data.cameras import object_cameras
from unseen.geometry.cameras import Cameras
from unseen.scenes import frustum_volume
from unseen.scenes.frustum_volume import FrustumVolumeScene


def random_scenes(features: int, slices: int = 12) -> FrustumVolumeScene:
    """Two scenes of three views; some views do not see what the others see."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, *SIZE, slices, 5 + features)
    volumes = 3 * torch.randn(shape, generator=generator)
    cameras = Cameras.stack([object_cameras(3, generator) for _ in range(2)])
    # A narrow view holds only the middle.
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 1, :2, :2] *= 2
    cameras = dataclasses.replace(cameras, intrinsics=intrinsics)
    return FrustumVolumeScene(volumes, cameras, torch.ones(3), num_samples=20)


def render(scene: FrustumVolumeScene, monkeypatch, compiled: bool) -> list:
    """Everything a rendering holds, and the gradient for random cotangents."""
    monkeypatch.setattr(frustum_volume, "is_compiled", lambda device: compiled)
    generator = torch.Generator().manual_seed(1)
    cameras = Cameras.stack([object_cameras(2, generator) for _ in range(2)])
    pixels = torch.randint(SIZE[0] * SIZE[1], (2, 2, 100), generator=generator)
    volumes = scene.volumes.clone().requires_grad_()
    scene = dataclasses.replace(scene, volumes=volumes)
    r = scene.render_pixels(cameras, SIZE, pixels, generator)
    outputs = [r.color, r.depth, r.opacity, r.extras["weights"]]
    outputs += [] if r.features is None else [r.features]
    total = sum((x * torch.randn(x.shape, generator=generator)).sum() for x in outputs)
    return [*outputs, torch.autograd.grad(total, volumes)[0]]


@pytest.mark.parametrize("features", [0, 3])
@pytest.mark.parametrize("slices", [12, 1])
def test_equals_torch_forward_and_backward(features, slices, monkeypatch) -> None:
    scene = random_scenes(features, slices)
    fast, slow = (render(scene, monkeypatch, compiled) for compiled in (True, False))
    for one, two in zip(fast, slow, strict=True):
        # Rays end where less than 1e-5 of the light passes.
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert slow[-1].abs().max() > 0.1


def test_a_frame_equals_torch(monkeypatch) -> None:
    scene = random_scenes(0)[0]
    camera = object_cameras(2, torch.Generator().manual_seed(3))
    frames = []
    for compiled in (True, False):
        monkeypatch.setattr(frustum_volume, "is_compiled", lambda _, c=compiled: c)
        frames.append(scene.render(camera, (24, 20)))
    torch.testing.assert_close(frames[0].color, frames[1].color, atol=1e-4, rtol=0)
    torch.testing.assert_close(frames[0].depth, frames[1].depth, atol=1e-4, rtol=0)


def test_gradients_of_a_frame_skip_what_the_frame_skips(monkeypatch) -> None:
    scene = random_scenes(0)[0]
    volumes = scene.volumes.clone()
    volumes[..., 0] = -6  # Thin: not empty for the kernel, empty for the grid.
    volumes[0, 5:9, 6:11, 4:7, 0] = 3
    volumes[1, 8:12, 2:6, 2:5, 0] = 3
    camera = object_cameras(2, torch.Generator().manual_seed(7))
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(frustum_volume, "is_compiled", lambda _, c=compiled: c)
        x = volumes.clone().requires_grad_()
        color = dataclasses.replace(scene, volumes=x).render(camera, SIZE).color
        cotangent = torch.randn(color.shape, generator=torch.Generator().manual_seed(1))
        found.append(torch.autograd.grad((color * cotangent).sum(), x)[0])
    assert found[1].abs().max() > 0.1
    torch.testing.assert_close(found[0], found[1], atol=2e-5, rtol=1e-4)


def test_a_confident_view_overrules_the_others(monkeypatch) -> None:
    scene = random_scenes(0)
    volumes = scene.volumes.clone()
    volumes[:, 0, ..., 1] = 40  # The first view is sure, of emptiness.
    volumes[:, 0, ..., 0] = -20
    scene = dataclasses.replace(scene, volumes=volumes)
    for compiled in (True, False):
        monkeypatch.setattr(frustum_volume, "is_compiled", lambda _, c=compiled: c)
        seen = scene.render(scene.cameras[:, :1], SIZE)
        assert seen.opacity is not None and seen.opacity.max() < 1e-3, compiled


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch) -> None:
    scene, threads = random_scenes(3), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = render(scene, monkeypatch, True)
        torch.set_num_threads(2)
        two = render(scene, monkeypatch, True)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
