"""Grids in [-1, 1] and the scenes that they mean."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.errors import UserError
from unseen.scenes.grid_space import GridSpace

SPACE = GridSpace(4, 1.5, 10.0, 2.0, (0.0, 0.5, 1.0), 24)


def test_scenes_and_back(generator) -> None:
    grids = 2 * torch.rand(3, *SPACE.shape, generator=generator) - 1
    scenes = SPACE.scene(grids)
    assert scenes.shape == (3,) and scenes.num_samples == 24
    torch.testing.assert_close(SPACE.grids(scenes), grids)
    torch.testing.assert_close(SPACE.grids(scenes[1]), grids[1:2])
    # A voxel's centre shows its colour: logits of twice the number.
    low = torch.full((3,), -0.75 + 1.5 / 8)
    _, color = scenes[0].evaluate(low[None])
    torch.testing.assert_close(color[0], (2 * grids[0, 1:, 0, 0, 0]).sigmoid())
    # What is out of range is brought back.
    strong = dataclasses.replace(scenes, grid=100 * scenes.grid)
    assert SPACE.grids(strong).abs().max() == 1


def test_foreign_scenes_are_refused() -> None:
    scene = SPACE.scene(torch.zeros(1, *SPACE.shape))
    with pytest.raises(UserError, match=r"4 x 4 x 4 voxels.*knows grids of 8 x 8 x 8"):
        dataclasses.replace(SPACE, resolution=8).grids(scene)
    with pytest.raises(UserError, match=r"\(-0.75, -0.75, -0.75\).*\(-1, -1, -1\)"):
        dataclasses.replace(SPACE, extent=2.0).grids(scene)
    with pytest.raises(ValueError, match="positive"):
        dataclasses.replace(SPACE, extent=0.0)
