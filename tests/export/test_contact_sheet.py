"""The contact sheet shows what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unseen.export.contact_sheet import (
    GAP,
    LABEL,
    MARGIN,
    TILE,
    choose_columns,
    draw_contact_sheet,
    sample_spread,
    save_contact_sheet,
)
from unseen.export.video import Frames


def flat_orbit(level: int, count: int = 12, size: int = 8) -> Frames:
    """Frames of one grey; depth is another."""
    color = torch.full((count, 3, size, size), level, dtype=torch.uint8)
    return Frames(color, torch.full_like(color, 7))


def test_columns_are_spread_over_the_turn():
    columns = choose_columns(48)
    assert [c.frame for c in columns] == [0, 8, 16, 24, 32, 40, 0, 24]
    assert [c.label for c in columns][3:] == ["180°", "240°", "300°", *DEPTHS]
    assert [c.is_depth for c in columns] == [False] * 6 + [True] * 2
    assert [c.frame for c in choose_columns(2)] == [0, 1, 0, 1]


DEPTHS = ["depth 0°", "depth 180°"]


def test_spread_is_the_standard_deviation_over_samples():
    generator = torch.Generator().manual_seed(0)
    colors = torch.randint(256, (5, 4, 3, 6, 6), generator=generator)
    orbits = [Frames(c.to(torch.uint8), c.to(torch.uint8)) for c in colors]
    expected = np.std(colors[:, 2].numpy() / 255, axis=0).mean(axis=0)
    np.testing.assert_allclose(sample_spread(orbits, 2), expected, atol=1e-5)
    assert float(sample_spread(orbits[:1], 2).max()) == 0


def tile_center(row: int, column: int) -> tuple[int, int]:
    """Pixel (x, y) in the middle of a tile of views; column -1 is the input."""
    left = MARGIN if column < 0 else MARGIN + TILE + 3 * GAP + column * (TILE + GAP)
    top = MARGIN + 2 * LABEL + row * (TILE + GAP + LABEL)
    return left + TILE // 2, top + TILE // 2


def test_tiles_show_input_samples_depth_and_spread(tmp_path):
    image = torch.zeros(3, 8, 8)
    image[1] = 1
    levels = (40, 80, 240)
    orbits = [flat_orbit(level) for level in levels]
    save_contact_sheet(draw_contact_sheet(image, orbits, "title"), tmp_path / "s.png")
    sheet = Image.open(tmp_path / "s.png").convert("RGB")
    assert sheet.getpixel(tile_center(0, -1)) == (0, 255, 0)
    for row, level in enumerate(levels):
        assert sheet.getpixel(tile_center(row, 0)) == (level,) * 3
        assert sheet.getpixel(tile_center(row, 5)) == (level,) * 3
        assert sheet.getpixel(tile_center(row, 7)) == (7,) * 3
    # The samples' standard deviation is beyond the scale: its lightest colour.
    spread = sheet.getpixel(tile_center(3, 2))
    assert isinstance(spread, tuple) and min(spread) > 150
    same = draw_contact_sheet(image, [flat_orbit(90)] * 2, "title")
    dark = same.getpixel(tile_center(2, 2))
    assert isinstance(dark, tuple) and max(dark) < 30
    assert TILE >= 128


def test_without_depth_there_are_no_columns_of_depth():
    bare = [Frames(flat_orbit(level).color, None) for level in (40, 80)]
    sheet = draw_contact_sheet(torch.ones(3, 4, 4), bare, "title")
    deep = draw_contact_sheet(torch.ones(3, 4, 4), [flat_orbit(9)], "title")
    assert sheet.width == deep.width - 2 * (TILE + GAP)
    assert sheet.getpixel(tile_center(1, 5)) == (80,) * 3
    # Where only some samples have depth, the others' tiles are left empty.
    mixed = draw_contact_sheet(torch.ones(3, 4, 4), [flat_orbit(9), bare[0]], "title")
    assert mixed.width == deep.width
    assert mixed.getpixel(tile_center(0, 7)) == (7,) * 3
    assert mixed.getpixel(tile_center(1, 7)) == (255,) * 3


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_row_per_sample_and_one_of_spread(count: int):
    sheet = draw_contact_sheet(torch.ones(3, 4, 4), [flat_orbit(9)] * count, "title")
    rows = count + (count > 1)
    expected = 2 * MARGIN + 2 * LABEL + rows * (TILE + GAP + LABEL) - GAP
    assert sheet.height == expected


def test_views_of_a_path_are_numbered() -> None:
    labels = [column.label for column in choose_columns(4, turn=False)]
    assert labels[:4] == ["view 0", "view 1", "view 2", "view 3"]
    assert choose_columns(4)[1].label == "90°"
