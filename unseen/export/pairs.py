"""Pictures side by side, two and two: a sample and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from unseen.files import atomic_file

TILE, GAP, LABEL, COLUMNS = 128, 8, 20, 4
"""Pixels: side of a picture, space between pairs, height of a line; pairs per row."""
INK, PAPER = (28, 30, 36), (255, 255, 255)


Labelled = tuple[str, Path]
"""A picture's file, and what is written above it."""


def save_pairs(pairs: Sequence[tuple[Labelled, Labelled]], path: str | Path) -> None:
    """Write pairs of pictures as one picture, whole or not at all.

    Of labels, as much is written as there is space for.
    """
    columns = min(COLUMNS, len(pairs))
    rows = (len(pairs) + columns - 1) // columns
    width, height = 2 * TILE + 2 * GAP, TILE + LABEL + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, pair in enumerate(pairs):
        left = GAP + width * (number % columns)
        top = GAP + height * (number // columns)
        for side, (label, file) in enumerate(pair):
            x = left + side * TILE
            while draw.textlength(label, font) > TILE - GAP:
                label = label[:-1]
            draw.text((x, top), label, fill=INK, font=font)
            with Image.open(file) as image:
                sheet.paste(image.convert("RGB").resize((TILE, TILE)), (x, top + LABEL))
    with atomic_file(path) as temporary:
        sheet.save(temporary)
