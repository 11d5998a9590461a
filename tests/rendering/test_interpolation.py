"""Trilinear and bilinear look-ups against `F.grid_sample` and known functions."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from unseen.rendering.interpolation import (
    bilinear,
    lookup,
    trilinear,
    trilinear_corners,
)

GRIDS = [(4, 5, 6), (1, 5, 6), (3, 1, 2), (2, 2, 1), (1, 1, 1), (8, 3, 16)]


def grid_sample(volume: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """The slow twin of `trilinear`."""
    grid = coordinates[:, :, None, None] * 2 - 1
    values = F.grid_sample(volume, grid, align_corners=False)
    return values[..., 0, 0].transpose(1, 2)


def random_points(batch: int, num: int, generator: torch.Generator) -> torch.Tensor:
    """Points in and around the grid, with special ones among them."""
    points = torch.rand(batch, num, 3, generator=generator) * 2 - 0.5
    special = [0.0, 1.0, 0.5, -1e9, 1e9]
    for k, value in enumerate(special):
        points[:, k] = value
    return points


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
def test_equals_grid_sample_forward_and_backward(grid, memory):
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(3, 5, *grid, generator=generator).to(memory_format=memory)
    volume.requires_grad_()
    points = random_points(3, 400, generator)
    fast, slow = trilinear(volume, points), grid_sample(volume, points)
    torch.testing.assert_close(fast, slow, atol=2e-6, rtol=1e-5)

    cotangent = torch.randn(fast.shape, generator=generator)
    (fast_gradient,) = torch.autograd.grad(fast, volume, cotangent)
    (slow_gradient,) = torch.autograd.grad(slow, volume, cotangent)
    torch.testing.assert_close(fast_gradient, slow_gradient, atol=5e-5, rtol=1e-4)


def test_interpolates_linear_functions_exactly_inside():
    depth, height, width = 4, 6, 5
    z, y, x = torch.meshgrid(
        (torch.arange(depth) + 0.5) / depth,
        (torch.arange(height) + 0.5) / height,
        (torch.arange(width) + 0.5) / width,
        indexing="ij",
    )
    volume = torch.stack([x, y, z, 2 * x - y + 3 * z + 1])[None]
    points = 0.15 + 0.7 * torch.rand(
        1, 100, 3, generator=torch.Generator().manual_seed(0)
    )
    values = trilinear(volume, points)
    torch.testing.assert_close(values[..., :3], points)
    expected = points @ torch.tensor([2.0, -1.0, 3.0]) + 1
    torch.testing.assert_close(values[..., 3], expected)


def test_falls_off_linearly_to_zero_outside():
    # Half a voxel outside of the outermost centre is the grid's face: weight 1/2.
    volume = torch.ones(1, 1, 4, 4, 4)
    x = torch.tensor([0.5, 1 - 0.125, 1.0, 1 + 0.125, 2.0])
    points = torch.stack([x, torch.full_like(x, 0.5), torch.full_like(x, 0.5)], dim=-1)
    values = trilinear(volume, points[None])
    torch.testing.assert_close(values[0, :, 0], torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]))


def test_corners_serve_several_volumes():
    generator = torch.Generator().manual_seed(0)
    points = random_points(2, 50, generator)
    corners = trilinear_corners(points, (3, 4, 5))
    for channel in (1, 7):
        volume = torch.randn(2, channel, 3, 4, 5, generator=generator)
        torch.testing.assert_close(lookup(volume, corners), trilinear(volume, points))


def test_not_a_number_stays_local():
    points = torch.full((1, 3, 3), 0.4)
    points[0, 1] = float("nan")
    values = trilinear(torch.ones(1, 2, 4, 4, 4), points)
    assert values[0, 1].isnan().all()
    assert values[0, [0, 2]].isfinite().all()


def test_empty_set_of_points():
    volume = torch.ones(2, 3, 4, 4, 4, requires_grad=True)
    values = trilinear(volume, torch.zeros(2, 0, 3))
    assert values.shape == (2, 0, 3)
    (gradient,) = torch.autograd.grad(values.sum(), volume)
    assert gradient.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_keeps_the_dtype(dtype):
    volume = torch.ones(1, 2, 3, 3, 3, dtype=dtype, requires_grad=True)
    values = trilinear(volume, torch.full((1, 4, 3), 0.5))
    assert values.dtype == dtype
    values.sum().backward()
    assert volume.grad is not None and volume.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_devices_look_up_the_same(generator, dtype):
    volume = torch.randn(2, 3, 1, 64, 64, generator=generator).to(dtype)
    points = torch.rand(2, 500, 3, generator=generator)
    corners = trilinear_corners(points, (1, 64, 64))
    # What is located off the CPU carries the coordinates alone.
    elsewhere = dataclasses.replace(corners, base=None, weights=None)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = lookup(volume, elsewhere), lookup(volume, corners)
    assert found.dtype == dtype
    torch.testing.assert_close(found, wanted)


def test_coordinates_that_require_a_gradient_are_refused():
    points = torch.rand(1, 3, 3, requires_grad=True)
    volume = torch.ones(1, 1, 2, 2, 2)
    with pytest.raises(ValueError, match="no gradient with respect to coordinates"):
        trilinear(volume, points)
    with torch.no_grad():
        assert trilinear(volume, points).shape == (1, 3, 1)


def test_a_volume_of_another_size_is_refused():
    corners = trilinear_corners(torch.rand(1, 3, 3), (4, 5, 6))
    with pytest.raises(ValueError, match="located in 1 grids of size"):
        lookup(torch.ones(1, 2, 6, 5, 4), corners)


def test_bilinear_reads_pixel_centres_and_pads():
    images = torch.arange(12.0).reshape(1, 1, 3, 4)
    xy = torch.tensor([[[0.125, 0.5 / 3], [0.625, 2.5 / 3], [-1.0, 0.5], [2.0, 0.5]]])
    border = bilinear(images, xy)[0, :, 0]
    torch.testing.assert_close(border, torch.tensor([0.0, 10.0, 4.0, 7.0]))
    zeros = bilinear(images, xy, padding="zeros")[0, :, 0]
    torch.testing.assert_close(zeros, torch.tensor([0.0, 10.0, 0.0, 0.0]))
