"""What came out, as a page that needs nothing beside it, and as a picture."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.janus.score import JanusScore
from unseen.export.colormap import to_bytes

SHOWN = 12
"""Views of a turntable that are shown."""
TILE, LABEL, LINE = 64, 190, 6
"""Pixels of the picture: a view, the names on the left, the mark below a front."""
INK, PAPER, MARK = (28, 30, 36), (255, 255, 255), (230, 110, 20)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto;
  padding: 0 1rem; color: #1c1e24; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; }
td, th { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
img { image-rendering: pixelated; display: block; max-width: 100%; }
.scroll { overflow-x: auto; }
p.score { margin: .1rem 0 .9rem; color: #555; }
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """A scene: its name, its turntable, its score, and the seconds that it needed."""

    name: str
    images: Float[Tensor, "view 3 height width"]
    score: JanusScore
    seconds: float

    @property
    def sentence(self) -> str:
        """The score in words."""
        s = self.score
        return (
            f"{s.fronts} of {len(self.images)} views look like the front, in "
            f"{s.arcs} arc{'' if s.arcs == 1 else 's'}; agreement {s.agreement:.2f}, "
            f"error {s.error:.0f}°, certainty {s.certainty:.2f}; {self.seconds:.0f} s"
        )


@dataclasses.dataclass(frozen=True)
class Section:
    """Scenes of one origin."""

    title: str
    text: str
    rows: Sequence[Row]


@dataclasses.dataclass(frozen=True)
class Table:
    """Heads and rows of text; the first cell of a row is its name."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As documents hold it."""
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def html(self) -> str:
        """As pages hold it."""

        def line(cells: Sequence[str], tag: str) -> str:
            inner = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells)
            return f"<tr>{inner}</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        return f"<table>{line(self.heads, 'th')}{body}</table>"


def draw_turn(row: Row) -> Image.Image:
    """Views of a turntable side by side; those that look like the front are marked."""
    step = len(row.images) // SHOWN
    strip = Image.new("RGB", (SHOWN * TILE, TILE + LINE), PAPER)
    draw = ImageDraw.Draw(strip)
    for place in range(SHOWN):
        number = place * step
        strip.paste(_tile(row.images[number]), (place * TILE, 0))
        if row.score.front[number]:
            left = place * TILE + 4
            draw.rectangle((left, TILE, left + TILE - 8, TILE + LINE - 2), fill=MARK)
    return strip


def draw_sheet(sections: Sequence[Section]) -> Image.Image:
    """All scenes, one below the other."""
    rows = [(section, row) for section in sections for row in section.rows]
    step = TILE + LINE + 4
    sheet = Image.new("RGB", (LABEL + SHOWN * TILE, len(rows) * step), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (_, row) in enumerate(rows):
        sheet.paste(draw_turn(row), (LABEL, place * step))
        lines = [
            row.name,
            f"{row.score.fronts} fronts, {row.score.arcs} arcs",
            f"agreement {row.score.agreement:.2f}, {row.seconds:.0f} s",
        ]
        for line, text in enumerate(lines):
            draw.text((6, place * step + 6 + 18 * line), text, INK, font)
    return sheet


def draw_samples(images: Float[Tensor, "group view 3 height width"]) -> Image.Image:
    """Groups of views side by side, with a gap between groups."""
    groups, views = images.shape[:2]
    width = groups * (views * TILE + 12) - 12
    strip = Image.new("RGB", (width, TILE), PAPER)
    for group in range(groups):
        for view in range(views):
            left = group * (views * TILE + 12) + view * TILE
            strip.paste(_tile(images[group, view]), (left, 0))
    return strip


def _tile(image: Float[Tensor, "3 height width"]) -> Image.Image:
    pixels = np.ascontiguousarray(to_bytes(image).permute(1, 2, 0).numpy())
    return Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.NEAREST)


def write_page(
    summary: str,
    table: Table,
    samples: Sequence[tuple[str, Image.Image]],
    sections: Sequence[Section],
) -> str:
    """The HTML page."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        "<title>Janus: how many fronts?</title>",
        f"<style>{STYLE}</style><h1>Janus: how many fronts?</h1>",
        f"<p>{html.escape(summary)}</p><div class='scroll'>{table.html()}</div>",
        "<p>Turntables start near the world's x axis, where the prior that is told the "
        "camera sees the front. An orange bar is below what looks like the front.</p>",
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts.append(f"<p>{html.escape(section.text)}</p>")
        for row in section.rows:
            parts.append(_picture(draw_turn(row), f"Turntable of {row.name}"))
            text = f"{row.name}: {row.sentence}"
            parts.append(f"<p class='score'>{html.escape(text)}</p>")
    parts.append("<h2>Images that the priors draw by themselves</h2>")
    for text, picture in samples:
        parts.append(f"<p>{html.escape(text)}</p>{_picture(picture, text)}")
    return "\n".join(parts) + "\n"


def _picture(image: Image.Image, text: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(text, quote=True)
    return f"<img alt='{alt}' src='data:image/png;base64,{data}'>"
