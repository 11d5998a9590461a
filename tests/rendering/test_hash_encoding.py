"""The hash grid: interpolation in closed form, and loops against their twin."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.rendering.hash_encoding import (
    HashLayout,
    encode,
    encode_gathered,
    encode_plain,
)

LAYOUT = HashLayout(levels=4, log2_rows=9, coarsest=4, growth=1.6)


def test_levels_are_dense_until_they_are_hashed() -> None:
    assert [LAYOUT.side(i) for i in range(4)] == [4, 7, 11, 17]
    assert [LAYOUT.hashed(i) for i in range(4)] == [False, False, True, True]
    assert [LAYOUT.rows(i) for i in range(4)] == [64, 343, 512, 512]
    assert LAYOUT.total_rows == 64 + 343 + 512 + 512
    # Instant-NGP's own sizes: 16 levels up to 2048 vertices an axis at this growth.
    wide = HashLayout(growth=1.3819129)
    assert abs(wide.cells(15) - 2047) < 0.5 and wide.channels == 32


def test_a_dense_level_interpolates_linearly() -> None:
    layout = dataclasses.replace(LAYOUT, levels=1)
    index = torch.arange(64)
    table = torch.stack([index % 4, 10.0 * (index // 16)], dim=-1)
    points = torch.tensor([[0.0, 0.3, 0.5], [0.5, 0.9, 0.1], [0.75, 0.2, 0.25]])
    # Vertices lie half a cell off: the place is 3 x + 0.5 along an axis.
    wanted = torch.stack([3 * points[:, 0] + 0.5, 10 * (3 * points[:, 2] + 0.5)], -1)
    for function in (encode, encode_gathered, encode_plain):
        torch.testing.assert_close(function(table, points, layout), wanted)


@pytest.mark.parametrize("active", [4, 2, 0])
def test_the_fast_ways_equal_their_twin(generator, active: int) -> None:
    table = torch.randn(LAYOUT.total_rows, 2, generator=generator).requires_grad_()
    points = 1.4 * torch.rand(500, 3, generator=generator) - 0.2
    cotangent = torch.randn(500, 8, generator=generator)
    found = []
    for function in (encode, encode_gathered, encode_plain):
        values = function(table, points, LAYOUT, active)
        if active:
            (gradient,) = torch.autograd.grad((values * cotangent).sum(), table)
            found.append((values, gradient))
        else:
            assert not values.any()
    for fast in found[:-1]:
        for first, second in zip(fast, found[-1], strict=True):
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_points_have_first_and_second_derivatives(generator) -> None:
    table = torch.randn(LAYOUT.total_rows, 2, generator=generator).double()
    points = torch.rand(6, 3, generator=generator, dtype=torch.float64)
    table.requires_grad_()
    points.requires_grad_()

    def squared_slope(table, points):
        values = encode(table, points, LAYOUT)
        (slope,) = torch.autograd.grad(values.sin().sum(), points, create_graph=True)
        return slope.square().sum()

    assert torch.autograd.gradcheck(
        lambda x: encode(table.detach(), x, LAYOUT), (points,)
    )
    assert torch.autograd.gradcheck(
        lambda x: squared_slope(x, points), (table,), fast_mode=True
    )
