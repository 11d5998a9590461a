"""One picture that shows all samples: what they share and where they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unseen.export.colormap import colorize, to_bytes
from unseen.export.video import Frames
from unseen.files import atomic_file

TILE, GAP, LABEL = 160, 8, 26
"""Pixels: side of a tile, space between tiles, height of a line of text."""
MARGIN = 24
FULL_SPREAD = 0.3
"""The standard deviation that is drawn with the colour map's lightest colour."""
INK, PAPER = (28, 30, 36), (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the sheet: a view as colour, or as depth."""

    frame: int
    is_depth: bool
    label: str


def choose_columns(
    num_frames: int, with_depth: bool = True, num_views: int = 6, turn: bool = True
) -> list[Column]:
    """Views evenly spaced over one turn, then depth from the front and the back.

    Views of another path than a `turn` are named by their numbers.
    """
    count = min(num_views, num_frames)
    frames = [round(i * num_frames / count) for i in range(count)]

    def name(frame: int) -> str:
        return f"{round(360 * frame / num_frames)}°" if turn else f"view {frame}"

    views = [Column(frame, False, name(frame)) for frame in frames]
    depth_frames = sorted({0, frames[count // 2]}) if with_depth else []
    return views + [Column(f, True, f"depth {name(f)}") for f in depth_frames]


def sample_spread(
    orbits: Sequence[Frames], frame: int
) -> Float[Tensor, "height width"]:
    """Per-pixel standard deviation over samples, averaged over the colour channels.

    In [0, 0.5], for colours in [0, 1]; zero for a single sample.
    """
    colors = torch.stack([orbit.color[frame] for orbit in orbits]).float() / 255
    return colors.std(dim=0, correction=0).mean(dim=0)


def draw_contact_sheet(
    image: Float[Tensor, "3 height width"] | None,
    orbits: Sequence[Frames],
    title: str,
    turn: bool = True,
) -> Image.Image:
    """The input beside every sample's views and depth, and the samples' spread.

    Without an input (None) its place is empty. One row per sample; the last row (if
    there are several samples) is the per-pixel standard deviation over the samples,
    black where all agree. There are no columns of depth where no sample has depth.
    `turn` says whether the frames are one turn.
    """
    with_depth = any(orbit.depth is not None for orbit in orbits)
    columns = choose_columns(len(orbits[0].color), with_depth, turn=turn)
    rows = len(orbits) + (len(orbits) > 1)
    step = TILE + GAP
    top, left = MARGIN + 2 * LABEL, MARGIN + step + 2 * GAP
    width = left + len(columns) * step + MARGIN - GAP
    height = top + rows * (step + LABEL) + MARGIN - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, MARGIN - 6), title, 17)
    _write(draw, (MARGIN, MARGIN + LABEL), "no input" if image is None else "input")
    if image is not None:
        sheet.paste(_tile(to_bytes(image)), (MARGIN, top))
    for i, column in enumerate(columns):
        x = left + i * step
        _write(draw, (x, MARGIN + LABEL), column.label)
        for row, orbit in enumerate(orbits):
            y = top + row * (step + LABEL)
            pictures = orbit.depth if column.is_depth else orbit.color
            if pictures is not None:
                sheet.paste(_tile(pictures[column.frame]), (x, y))
            if i == 0:
                _write(draw, (x, y + TILE + 2), f"sample {row}")
        if len(orbits) > 1 and not column.is_depth:
            y = top + len(orbits) * (step + LABEL)
            spread = sample_spread(orbits, column.frame)
            sheet.paste(_tile(to_bytes(colorize(spread / FULL_SPREAD))), (x, y))
            _write(draw, (x, y + TILE + 2), f"mean spread {float(spread.mean()):.3f}")
    if len(orbits) > 1:
        _draw_scale(sheet, draw, (MARGIN, top + len(orbits) * (step + LABEL)))
    # A frame around each tile tells white backgrounds from white paper.
    boxes = _tile_corners(columns, (left, top), rows)
    for x, y in [(MARGIN, top), *boxes] if image is not None else boxes:
        draw.rectangle((x - 1, y - 1, x + TILE, y + TILE), outline=(214, 217, 224))
    return sheet


def save_contact_sheet(sheet: Image.Image, path: str | Path) -> None:
    """Write the sheet as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        sheet.save(temporary)


def _tile(picture: Tensor) -> Image.Image:
    """A picture, fitted into a tile."""
    image = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
    return image.resize((TILE, TILE), Image.Resampling.BICUBIC)


def _write(
    draw: ImageDraw.ImageDraw, xy: tuple[int, int], text: str, size: int = 14
) -> None:
    draw.text(xy, text, fill=INK, font=ImageFont.load_default(size))


def _draw_scale(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, xy: tuple[int, int]
) -> None:
    """The legend of the row of spreads."""
    x, y = xy
    _write(draw, (x, y), "spread over the")
    _write(draw, (x, y + 18), "samples (std.)")
    ramp = colorize(torch.linspace(1, 0, TILE - 56).expand(18, -1).T)
    bar = Image.fromarray(to_bytes(ramp).permute(1, 2, 0).contiguous().numpy())
    sheet.paste(bar, (x, y + 48))
    _write(draw, (x + 26, y + 44), f"{FULL_SPREAD:g} or more")
    _write(draw, (x + 26, y + TILE - 24), "0")


def _tile_corners(
    columns: Sequence[Column], corner: tuple[int, int], rows: int
) -> list[tuple[int, int]]:
    """Upper left corners of the tiles of samples and of their spread."""
    left, top = corner
    boxes = []
    samples = rows - 1 if rows > 1 else rows
    for row in range(rows):
        for i, column in enumerate(columns):
            if row < samples or not column.is_depth:
                y = top + row * (TILE + GAP + LABEL)
                boxes.append((left + i * (TILE + GAP), y))
    return boxes
