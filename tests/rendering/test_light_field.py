"""Depth from the derivatives of light fields that are known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unseen.geometry.rays import plucker
from unseen.rendering.light_field import (
    light_field_distance,
    pencil_tangents,
    perpendicular,
    render_where_needed,
)

HEIGHT = -0.7


def rays(count: int = 200) -> tuple[Tensor, Tensor]:
    """Rays from above onto the plane z = HEIGHT, in double precision."""
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(1, count, 3, generator=generator, dtype=torch.float64)
    aim = 2 * torch.rand(1, count, 3, generator=generator, dtype=torch.float64) - 1
    aim[..., 2] = HEIGHT
    return origins, functional.normalize(aim - origins, dim=-1)


def hit(coordinates: Tensor) -> Tensor:
    """Where rays (d, m) of any scale meet the plane."""
    d, m = coordinates.split(3, dim=-1)
    nearest = torch.linalg.cross(d, m) / d.square().sum(-1, keepdim=True)
    steps = (HEIGHT - nearest[..., 2:]) / d[..., 2:]
    return nearest + steps * d


def matt(coordinates: Tensor) -> Tensor:
    """A textured plane: one colour per point, whatever the direction."""
    x, y, _ = hit(coordinates).unbind(-1)
    return torch.stack([torch.sin(5 * x + y), torch.cos(3 * y), x * y], dim=-1)


def distances(light_field, origins: Tensor, directions: Tensor) -> Tensor:
    moved, turned = pencil_tangents(origins, directions, perpendicular(directions))
    coordinates = plucker(origins, directions)

    def slopes(tangents: Tensor) -> Tensor:
        each = [
            torch.func.jvp(light_field, (coordinates,), (tangents[:, i],))[1]
            for i in range(2)
        ]
        return torch.stack(each, dim=1)

    far = torch.full(origins.shape[:-1], 9.0, dtype=origins.dtype)
    return light_field_distance(slopes(moved), slopes(turned), far)


def test_a_textured_plane_is_where_it_is() -> None:
    origins, directions = rays()
    truth = (hit(plucker(origins, directions)) - origins).norm(dim=-1)
    found = distances(matt, origins, directions)
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=0)


def test_distance_counts_from_the_origin_of_the_ray() -> None:
    """A ray that starts elsewhere on its line is the same ray, at another distance."""
    origins, directions = rays()
    ahead = distances(matt, origins + 0.2 * directions, directions)
    found = distances(matt, origins, directions)
    torch.testing.assert_close(ahead + 0.2, found, atol=1e-3, rtol=0)


def test_one_colour_says_nothing_and_is_far() -> None:
    origins, directions = rays()
    found = distances(lambda x: torch.ones_like(x[..., :3]), origins, directions)
    torch.testing.assert_close(found, torch.full_like(found, 9.0))


def test_tangents_are_derivatives_of_coordinates() -> None:
    origins, directions = rays(5)
    sideways = perpendicular(directions)
    assert (sideways @ directions[..., None]).abs().max() < 1e-12
    torch.testing.assert_close(
        sideways @ sideways.transpose(-1, -2),
        torch.eye(2, dtype=torch.float64).expand(1, 5, 2, 2),
    )
    moved, turned = pencil_tangents(origins, directions, sideways)
    for side in range(2):
        across = sideways[..., side, :]
        step = torch.func.jvp(plucker, (origins, directions), (across, 0 * across))[1]
        torch.testing.assert_close(moved[:, side], step)
        step = torch.func.jvp(plucker, (origins, directions), (0 * across, across))[1]
        torch.testing.assert_close(turned[:, side], step)


def picture(size: tuple[int, int]) -> Tensor:
    """Two views: a smooth disc on white, and noise in one corner."""
    height, width = size
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    disc = torch.sigmoid(20 * (x.square() + y.square() - 0.3))
    views = torch.stack([disc, torch.ones_like(disc)])
    views = views[..., None].repeat(1, 1, 1, 3)
    generator = torch.Generator().manual_seed(0)
    views[1, :3, :3] = torch.rand(views[1, :3, :3].shape, generator=generator)
    return views


@pytest.mark.parametrize("size", [(32, 32), (33, 31), (3, 4), (1, 5)])
def test_sparse_frames_are_near_the_full_ones(size: tuple[int, int]) -> None:
    full, asked = picture(size), []

    def evaluate(index: Tensor) -> Tensor:
        asked.append(index)
        return full.reshape(-1, 3)[index]

    sparse = render_where_needed(evaluate, 2, size, flat=0.01)
    pixels = torch.cat(asked)
    assert len(pixels.unique()) == len(pixels), "a pixel was evaluated twice"
    if size[0] > 30:
        assert (sparse - full).abs().max() < 0.01
        assert len(pixels) < 0.7 * 2 * size[0] * size[1]
        # Everything that is evaluated is exact, and noise is evaluated.
        assert torch.equal(sparse[1, :3, :3], full[1, :3, :3])
    exact = render_where_needed(evaluate, 2, size, flat=-1.0)
    assert torch.equal(exact, full)
