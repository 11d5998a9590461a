"""A volume that turns as cameras do, and is decoded."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import orbit, sphere_cameras
from unseen.networks.voxel_resnet import (
    VoxelDecoder,
    VoxelEncoder,
    VoxelNetworkConfig,
    inner_ball,
)
from unseen.scenes.io import KEY, load_scene, save_scene
from unseen.scenes.voxel_latent import (
    VIEWS_AT_ONCE,
    VoxelLatentScene,
    relative_rotation,
    rotate_volumes,
)

NETWORK = VoxelNetworkConfig(
    (8, 8, 8), (1, 2, 2), (8, 16), (4, 8, 4), (1, 2, -2), (16, 8)
)


def make_cameras(azimuths: list[float], elevations: list[float]) -> Cameras:
    """Cameras (view) at angles in degrees."""
    angles = torch.deg2rad(torch.tensor([azimuths, elevations]))
    distances = torch.full((len(azimuths),), 2.0)
    return sphere_cameras(angles[0], angles[1], distances, 0.9, 1.0, 3.0)


def make_scene(batch: int = 2) -> VoxelLatentScene:
    torch.manual_seed(0)
    decoder = VoxelDecoder(NETWORK).eval().requires_grad_(False)
    volumes = torch.randn(batch, 4, 4, 4, 4)
    cameras = make_cameras([10.0 * i for i in range(batch)], [20.0] * batch)
    return VoxelLatentScene(volumes, cameras, decoder)


def authors_view(azimuth: float, elevation: float) -> Tensor:
    """(R_y(-azimuth) R_z(-elevation))^T, in degrees."""
    a, e = -math.radians(azimuth), -math.radians(elevation)
    about_y = torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]
    )
    about_z = torch.tensor(
        [[math.cos(e), -math.sin(e), 0], [math.sin(e), math.cos(e), 0], [0, 0, 1]]
    )
    return (about_y @ about_z).T


@pytest.mark.parametrize(
    "angles", [(0, 0, 30, 0), (0, 0, 0, 30), (42.6, 23, 222.6, 43), (-70, -20, 15, 60)]
)
def test_rotations_are_those_of_azimuth_and_elevation(angles) -> None:
    cameras = make_cameras([angles[0], angles[2]], [angles[1], angles[3]])
    found = relative_rotation(cameras.extrinsics[0], cameras.extrinsics[1])
    expected = authors_view(*angles[2:]) @ authors_view(*angles[:2]).T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "start", "end"),
    [
        # Voxels (depth towards the camera, height down, width right).
        (90.0, 0.0, (7, 3, 3), (3, 3, 0)),  # Camera to the right: near goes left.
        (0.0, 90.0, (7, 3, 3), (3, 7, 3)),  # Camera up: near goes down.
        (180.0, 0.0, (6, 2, 1), (1, 2, 6)),
    ],
)
def test_signs_of_azimuth_and_elevation(azimuth, elevation, start, end) -> None:
    """A voxel moves as a point that stands there would move in the picture."""
    if elevation:
        # From straight above the roll is arbitrary: built by hand instead.
        source = make_cameras([0.0], [0.0]).extrinsics
        target = source @ torch.tensor(
            [[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]]
        )
    else:
        both = make_cameras([0.0, azimuth], [0.0, 0.0]).extrinsics
        source, target = both[:1], both[1:]
    volume = torch.zeros(1, 1, 8, 8, 8)
    volume[(0, 0, *start)] = 1
    turned = rotate_volumes(volume, relative_rotation(source, target))[0, 0]
    assert turned.max() > 0.99
    place = [int(i) for i in (turned == turned.max()).nonzero()[0]]
    # The middle is between voxels 3 and 4.
    assert all(abs(a - b) <= 1 for a, b in zip(place, end, strict=True))


def plain_rotation(volume: Tensor, rotation: Tensor) -> Tensor:
    """Voxel by voxel: trilinear look-up about the middle of the index grid."""
    size, result = volume.shape[-1], torch.zeros_like(volume)
    middle = (size - 1) / 2
    for i in range(size):
        for j in range(size):
            for k in range(size):
                index = torch.tensor([i, j, k], dtype=torch.float64) - middle
                origin = rotation.double().T @ index + middle
                low = origin.floor().long()
                for corner in range(8):
                    offset = torch.tensor([corner >> 2, corner >> 1 & 1, corner & 1])
                    weight = (1 - (origin - low - offset).abs()).prod()
                    at = low + offset
                    if ((at >= 0) & (at < size)).all():
                        result[:, i, j, k] += weight * volume[:, at[0], at[1], at[2]]
    return result


def test_rotation_equals_its_plain_twin(generator: torch.Generator) -> None:
    """Also at the border: align_corners is false, what is outside is zero."""
    volume = torch.randn(2, 5, 5, 5, generator=generator, requires_grad=True)
    cameras = make_cameras([0.0, 50.0], [10.0, -30.0]).extrinsics
    rotation = relative_rotation(cameras[0], cameras[1])
    fast = rotate_volumes(volume[None], rotation[None])[0]
    slow = plain_rotation(volume, rotation)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    cotangent = torch.randn(slow.shape, generator=generator)
    (first,) = torch.autograd.grad(fast, volume, cotangent)
    (second,) = torch.autograd.grad(slow, volume, cotangent)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_the_rotated_volume_is_not_masked_again() -> None:
    ball = inner_ball(4)
    scene = make_scene()
    scene = dataclasses.replace(scene, volumes=scene.volumes * ball)
    turned = scene.rotated(make_cameras([50.0], [40.0]).expand(2, 1))
    outside = turned[:, 0] * (1 - ball)
    assert outside.abs().max() > 0.01


def test_the_mask_is_a_ball_that_turning_keeps() -> None:
    assert int(inner_ball(32).sum()) == 15_408
    encoder = VoxelEncoder(NETWORK).eval()
    volumes = encoder(torch.rand(1, 3, 16, 16))
    assert volumes.shape == (1, 4, 4, 4, 4)
    assert (volumes[0, :, inner_ball(4) == 0] == 0).all()
    assert (volumes[0, :, inner_ball(4) == 1] != 0).any()


@torch.no_grad()
def test_only_the_orientation_of_cameras_counts() -> None:
    scene, cameras = make_scene(), make_cameras([0.0, 80.0], [10.0, 40.0])
    cameras = cameras.expand(2, 2)
    image = scene.render(cameras, (16, 16))
    assert image.depth is None and image.opacity is None
    assert image.color.min() >= 0 and image.color.max() <= 1
    moved = cameras.extrinsics.clone()
    moved[..., :3, 3] *= 3
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 0] *= 2
    other = Cameras(moved, intrinsics, cameras.near + 1, cameras.far + 5)
    assert torch.equal(scene.render(other, (16, 16)).color, image.color)
    assert not torch.allclose(image.color[:, 0], image.color[:, 1])


@torch.no_grad()
def test_the_world_does_not_matter(generator: torch.Generator) -> None:
    scene, cameras = make_scene(), make_cameras([0.0, 80.0], [10.0, 40.0]).expand(2, 2)
    motion = torch.eye(4)
    motion[:3, :3] = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    motion[:3, :3] *= torch.linalg.det(motion[:3, :3])
    motion[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    moved = dataclasses.replace(scene, cameras=scene.cameras.transform(motion))
    torch.testing.assert_close(
        moved.render(cameras.transform(motion), (16, 16)).color,
        scene.render(cameras, (16, 16)).color,
        rtol=0,
        atol=1e-5,
    )


@torch.no_grad()
def test_views_and_scenes_are_independent() -> None:
    """Also where there are more of them than are decoded together."""
    scene = make_scene()
    cameras = orbit(VIEWS_AT_ONCE + 3, 0.3, 2.0, 0.9, 1.0, 3.0)
    both = scene.render(cameras.expand(2, len(cameras)), (16, 16)).color
    for index in range(2):
        for view in (0, VIEWS_AT_ONCE // 2, len(cameras) - 1):
            one = scene[index].render(cameras[view : view + 1], (16, 16)).color[0]
            torch.testing.assert_close(one, both[index, view], rtol=0, atol=1e-5)


@torch.no_grad()
def test_other_sizes_are_resized() -> None:
    scene, cameras = make_scene()[0], make_cameras([30.0], [10.0])
    native = scene.render(cameras, (16, 16)).color
    half = scene.render(cameras, (8, 8)).color
    expected = native.unflatten(-1, (8, 2)).unflatten(-3, (8, 2)).mean(dim=(-1, -3))
    torch.testing.assert_close(half, expected)
    large = scene.render(cameras, (24, 40)).color
    assert large.shape == (1, 3, 24, 40)
    torch.testing.assert_close(large.mean(), native.mean(), rtol=0.02, atol=0)


@torch.no_grad()
def test_pixels_are_those_of_the_picture(generator: torch.Generator) -> None:
    scene, cameras = make_scene(), make_cameras([30.0, 70.0], [10.0, 5.0]).expand(2, 2)
    pixels = torch.randint(256, (2, 2, 9), generator=generator)
    found = scene.render_pixels(cameras, (16, 16), pixels)
    image = scene.render(cameras, (16, 16)).color
    picked = image[1, 0, :, pixels[1, 0, 4] // 16, pixels[1, 0, 4] % 16]
    assert torch.equal(found.color[1, 0, 4], picked)


@torch.no_grad()
def test_scenes_reload_and_render_identically(tmp_path: Path) -> None:
    scene, path = make_scene()[1], tmp_path / "scene.safetensors"
    save_scene(scene, path)
    loaded, cameras = load_scene(path), make_cameras([30.0], [10.0])
    expected = scene.render(cameras, (16, 16)).color
    assert torch.equal(loaded.render(cameras, (16, 16)).color, expected)
    assert torch.equal(loaded.bounds(), scene.bounds())
    # The box is where the source camera's depth range is, around the origin here.
    cube = torch.tensor([[-1.0] * 3, [1.0] * 3])
    torch.testing.assert_close(scene.bounds(), cube, rtol=0, atol=1e-5)


def test_damaged_scenes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scene.safetensors"
    save_scene(make_scene()[0], path)
    tensors, metadata = read_tensors(path)
    key = "decoder.fold.0.weight"
    for name, value in (("volumes", torch.zeros(4, 4, 4, 5)), (key, torch.zeros(2))):
        write_tensors(path, {**tensors, name: value}, {KEY: metadata[KEY]})
        with pytest.raises(UserError, match="damaged"):
            load_scene(path)


def test_networks_that_do_not_fit_together() -> None:
    for changes in (
        {"strides_2d": (1, 2)},
        {"strides_2d": (2, 2, 2)},
        {"strides_2d": (1, 3, 2)},
        {"channels_3d": (4, 8, 6), "strides_3d": (1, 2, 1)},
        {"unfold": (8, 15)},
    ):
        with pytest.raises(ValueError):
            dataclasses.replace(NETWORK, **changes)
