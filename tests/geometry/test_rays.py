"""Rays, pixel centres and Pluecker coordinates."""

import torch
from hypothesis import given, settings

from tests.geometry.random_cameras import generators, random_cameras
from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.projection import project
from unseen.geometry.rays import (
    get_rays,
    image_rays,
    pixel_centers,
    pixel_rays,
    plucker,
    plucker_images,
    random_pixels,
)

fast = settings(max_examples=25, deadline=None)


def front_camera() -> Cameras:
    return Cameras(
        look_at(torch.tensor([[3.0, 0.0, 0.0]]), torch.zeros(1, 3)),
        intrinsics_from_fov(torch.tensor([1.2])),
        torch.ones(1),
        torch.full((1,), 5.0),
    )


def test_pixel_centers_are_at_half_pixels():
    centers = pixel_centers((2, 4))
    assert centers.shape == (2, 4, 2)
    torch.testing.assert_close(centers[0, 0], torch.tensor([0.125, 0.25]))
    torch.testing.assert_close(centers[1, 3], torch.tensor([0.875, 0.75]))


def test_directions_have_unit_depth_and_the_middle_looks_forward():
    cameras = front_camera()
    _, directions = image_rays(cameras, (3, 5))
    forward = cameras.extrinsics[:, None, :3, 2]
    torch.testing.assert_close((directions * forward).sum(-1), torch.ones(1, 15))
    torch.testing.assert_close(directions[:, 7], forward[:, 0])


def test_image_rays_go_row_by_row_through_the_pixels():
    cameras, size = front_camera(), (3, 5)
    origins, directions = image_rays(cameras, size)
    xy, _ = project(cameras, origins + 2 * directions)
    torch.testing.assert_close(xy.reshape(3, 5, 2), pixel_centers(size))


def test_pixel_rays_are_a_selection_of_image_rays():
    generator = torch.Generator().manual_seed(0)
    cameras = random_cameras(2, generator).to(torch.float32)
    index = random_pixels((4, 6), 2, 10, generator)
    selected = pixel_rays(cameras, (4, 6), index)
    everything = image_rays(cameras, (4, 6))
    for some, every in zip(selected, everything, strict=True):
        expected = every.gather(1, index[..., None].expand(2, 10, 3))
        torch.testing.assert_close(some, expected)


def test_random_pixels_are_distinct_and_reproducible():
    draws = [
        random_pixels((5, 7), 3, 35, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0].sort(dim=-1).values, torch.arange(35).expand(3, 35))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@fast
@given(generators)
def test_plucker_does_not_depend_on_the_point_or_the_scale(generator):
    origins, directions = torch.randn(2, 6, 3, generator=generator).double()
    t = torch.randn(6, 1, generator=generator).double()
    scale = 0.1 + torch.rand(6, 1, generator=generator).double()
    coordinates = plucker(origins, directions)
    moved = plucker(origins + t * directions, scale * directions)
    torch.testing.assert_close(moved, coordinates)
    # The two halves are orthogonal, and the moment's norm is the line's distance.
    direction, moment = coordinates.split(3, dim=-1)
    torch.testing.assert_close((direction * moment).sum(-1), torch.zeros(6).double())
    foot = origins - (origins * direction).sum(-1, keepdim=True) * direction
    torch.testing.assert_close(moment.norm(dim=-1), foot.norm(dim=-1))


def test_plucker_images_hold_each_pixels_ray():
    cameras = random_cameras(2, torch.Generator().manual_seed(0)).to(torch.float32)
    image = plucker_images(cameras, (3, 4))
    assert image.shape == (2, 6, 3, 4)
    xy = pixel_centers((3, 4))[2, 1].expand(2, 1, 2)
    expected = plucker(*get_rays(cameras, xy))[:, 0]
    torch.testing.assert_close(image[:, :, 2, 1], expected)
