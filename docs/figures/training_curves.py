"""The figure of docs/methods/training.md: training losses of runs.

    python docs/figures/training_curves.py RUN... [--out FILE.png]

One panel per run: the loss of its log (`log.jsonl`), logarithmic, over steps.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import tyro
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, COLUMNS, MARGIN = 300, 190, 3, 44


@dataclasses.dataclass(frozen=True)
class Figure:
    """Draw the curves."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("docs/images/training_curves.png")

    def run(self) -> None:
        rows = math.ceil(len(self.runs) / COLUMNS)
        sheet = Image.new("RGB", (COLUMNS * WIDTH, rows * HEIGHT), "white")
        draw = ImageDraw.Draw(sheet)
        for index, run in enumerate(self.runs):
            lines = (run / "log.jsonl").read_text().splitlines()
            records = [json.loads(line) for line in lines]
            points = [(r["step"], r["loss"]) for r in records if r.get("loss", 0) > 0]
            corner = (index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT)
            _panel(draw, corner, run.name, points)
        sheet.save(self.out, optimize=True)
        print(self.out)


def _panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    points: list[tuple[int, float]],
) -> None:
    font = ImageFont.load_default(11)
    left, top = corner[0] + MARGIN, corner[1] + 24
    right, bottom = corner[0] + WIDTH - 12, corner[1] + HEIGHT - 26
    last = points[-1][0]
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        up = math.log(y / low) / max(math.log(high / low), 1e-9)
        return left + x / last * (right - left), bottom - up * (bottom - top)

    draw.text((left, corner[1] + 6), title, fill="black", font=font)
    draw.rectangle((left, top, right, bottom), outline="#c0c0c0")
    for value, y in ((high, top - 6), (low, bottom - 6)):
        draw.text((corner[0] + 4, y), f"{value:.3g}", fill="#505050", font=font)
    draw.text((right - 60, bottom + 6), f"{last} steps", fill="#505050", font=font)
    draw.line([place(*point) for point in points], fill="#5b3fa0", width=2)


if __name__ == "__main__":
    tyro.cli(Figure).run()
