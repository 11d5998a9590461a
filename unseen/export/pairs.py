"""Pictures side by side, two and two: a sample and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from unseen.files import atomic_file

TILE, GAP, LABEL, COLUMNS = 128, 8, 20, 4
"""Pixels: side of a picture, space between pairs, height of a line; pairs per row."""
INK, PAPER = (28, 30, 36), (255, 255, 255)


def save_pairs(pairs: Sequence[tuple[str, Path, Path]], path: str | Path) -> None:
    """Write a picture of (label, left picture, right picture), whole or not at all."""
    columns = min(COLUMNS, len(pairs))
    rows = (len(pairs) + columns - 1) // columns
    width, height = 2 * TILE + 2 * GAP, TILE + LABEL + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (label, *pictures) in enumerate(pairs):
        x = GAP + width * (number % columns)
        y = GAP + height * (number // columns)
        draw.text((x, y), label, fill=INK, font=font)
        for side, file in enumerate(pictures):
            with Image.open(file) as image:
                shown = image.convert("RGB").resize((TILE, TILE))
            sheet.paste(shown, (x + side * TILE, y + LABEL))
    with atomic_file(path) as temporary:
        sheet.save(temporary)
