"""Frustum volumes: analytic truth, invariance, and the fast paths' slow twins."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from unseen.data.cameras import object_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.scenes.frustum_own_view import OwnView
from unseen.scenes.frustum_volume import BIAS, GAIN, FrustumVolumeScene

SIZE = (16, 16)


def make_scene(
    views: int = 2, seed: int = 0, scale: float = 3.0, features: int = 0
) -> FrustumVolumeScene:
    generator = torch.Generator().manual_seed(seed)
    volumes = scale * torch.randn(views, *SIZE, 12, 5 + features, generator=generator)
    cameras = object_cameras(views, generator)
    return FrustumVolumeScene(volumes, cameras, torch.ones(3), num_samples=12)


def all_pixels(cameras: Cameras) -> torch.Tensor:
    return torch.arange(SIZE[0] * SIZE[1]).expand(*cameras.shape, -1)


def test_constant_volume_is_a_slab() -> None:
    scene = make_scene(views=1)
    evidence = math.log(math.expm1(0.4 / GAIN)) - BIAS  # density 0.4
    volumes = torch.zeros_like(scene.volumes)
    volumes[..., 0] = evidence
    scene = dataclasses.replace(scene, volumes=volumes, num_samples=200)
    camera = scene.cameras
    r = scene.render(camera, SIZE)
    assert r.opacity is not None
    _, directions = image_rays(camera, SIZE)
    # Half a voxel at each end fades out; its two halves weigh 3/4 each at least.
    length = directions.norm(dim=-1).reshape(1, *SIZE) * 2
    expected = 1 - torch.exp(-0.4 * length)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(r.opacity[inner], expected[inner], atol=0.02)
    assert torch.allclose(
        r.color[:, :, 2:-2, 2:-2],
        (0.5 * r.opacity + 1 - r.opacity)[inner][:, None].expand(-1, 3, -1, -1),
        atol=1e-3,
    )


def test_rigid_motion_of_the_world_changes_no_pixel() -> None:
    scene = make_scene()
    camera = object_cameras(3, torch.Generator().manual_seed(5))
    angle = torch.tensor(0.7)
    motion = torch.eye(4)
    motion[:2, :2] = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin()]),
            torch.stack([angle.sin(), angle.cos()]),
        ]
    )
    motion[:3, 3] = torch.tensor([0.3, -2.0, 1.0])
    moved = dataclasses.replace(scene, cameras=scene.cameras.transform(motion))
    pixels = all_pixels(camera)
    before = scene.render_pixels(camera, SIZE, pixels)
    after = moved.render_pixels(camera.transform(motion), SIZE, pixels)
    # Points at the border of a frustum may fall on either side of it.
    difference = (before.color - after.color).abs()
    assert difference.median() < 1e-5
    assert (difference > 1e-3).float().mean() < 0.01


@pytest.mark.parametrize("features", [0, 3])
def test_skipping_empty_space_equals_all_samples(features: int) -> None:
    scene = make_scene(features=features)
    # Matter in a small part of the first view's frustum only.
    volumes = scene.volumes.clone()
    volumes[..., 0] = -6
    volumes[0, 5:9, 6:11, 4:7, 0] = 9
    scene = dataclasses.replace(scene, volumes=volumes, num_samples=40)
    camera = object_cameras(2, torch.Generator().manual_seed(7))
    fast = scene.render(camera, SIZE)
    slow = scene.render_pixels(camera, SIZE, all_pixels(camera))
    assert scene.occupancy.cells.float().mean() < 0.2
    color = slow.color.transpose(-1, -2).unflatten(-1, SIZE)
    assert torch.allclose(fast.color, color, atol=5e-3)
    assert fast.depth is not None and slow.depth is not None
    assert torch.allclose(fast.depth, slow.depth.unflatten(-1, SIZE), atol=2e-2)
    assert (1 - color).abs().max() > 0.3


def test_matter_lies_within_the_bounds() -> None:
    scene = make_scene()
    low, high = scene.bounds()
    points = 4 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 2
    density, color = scene.evaluate(points)
    outside = ((points < low) | (points > high)).any(dim=-1)
    assert outside.any()
    assert density[outside].max() < 0.2
    assert ((color >= 0) & (color <= 1)).all()


def test_own_view_equals_look_up_forward_and_backward() -> None:
    scene = make_scene(views=3)
    volumes = scene.volumes[None].clone().requires_grad_()
    cameras = scene.cameras.reshape(1, 3)
    camera = cameras[:, 2:]
    slow = FrustumVolumeScene(volumes, cameras, scene.background, 12)
    expected = slow.render_pixels(camera, SIZE, all_pixels(camera))
    others = FrustumVolumeScene(volumes[:, :2], cameras[:, :2], scene.background, 12)
    found = OwnView.prepare(others, camera[:, 0], SIZE).render(volumes[:, 2])
    for name in ("color", "depth", "opacity"):
        a, b = getattr(expected, name)[:, 0], getattr(found, name)
        assert torch.allclose(a, b, atol=2e-4), name
    cotangent = torch.randn(
        found.color.shape, generator=torch.Generator().manual_seed(1)
    )
    (one,) = torch.autograd.grad((expected.color[:, 0] * cotangent).sum(), volumes)
    (two,) = torch.autograd.grad((found.color * cotangent).sum(), volumes)
    assert torch.allclose(one, two, atol=1e-3 * float(one.abs().max()))


def test_view_order_does_not_matter() -> None:
    scene = make_scene(views=3)
    order = torch.tensor([2, 0, 1])
    swapped = dataclasses.replace(
        scene, volumes=scene.volumes[order], cameras=scene.cameras[order]
    )
    camera = object_cameras(2, torch.Generator().manual_seed(9))
    assert torch.allclose(
        scene.render(camera, SIZE).color, swapped.render(camera, SIZE).color, atol=1e-5
    )


def test_state_round_trip_renders_identically() -> None:
    scene = make_scene()
    again = FrustumVolumeScene.from_state(scene.tensors(), scene.config())
    camera = object_cameras(1, torch.Generator().manual_seed(2))
    assert torch.equal(
        scene.render(camera, SIZE).color, again.render(camera, SIZE).color
    )
