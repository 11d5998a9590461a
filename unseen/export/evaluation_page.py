"""The page of an evaluation: one HTML file that needs neither network nor server."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unseen.export.charts import Series, draw_key
from unseen.export.colormap import colorize, to_bytes
from unseen.export.template import definition_list, fill_template

TEMPLATE = "assets/evaluation_page.html"

FULL_ERROR = 0.5
"""The error that is drawn with the colour map's lightest colour."""

PICTURE = 128
"""Pixels of a picture's side on the page: whole multiples of small images."""


@dataclasses.dataclass(frozen=True)
class PageTable:
    """Title, heads, and rows of text, whose first cell is a name.

    Heads that end in an arrow have their best number marked.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture of a method: its name, PNG file, truth of its size, short caption."""

    name: str
    image: Path
    truth: Path
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class CardRow:
    """One view: what it is, the truth, and what methods show of it."""

    label: str
    truth: Path
    shown: Sequence[Shown]


@dataclasses.dataclass(frozen=True)
class Card:
    """A scene: its name, the given views, and views that are compared."""

    title: str
    given: Sequence[Path]
    rows: Sequence[CardRow]


@dataclasses.dataclass(frozen=True)
class EvaluationPage:
    """The contents; all texts are plain text, charts are `<svg>` elements.

    `legend` are the series of the charts, `muted` the names of rows that are no method.
    """

    title: str
    summary: str
    facts: Sequence[str]
    tables: Sequence[PageTable]
    muted: Sequence[str]
    legend: Sequence[Series]
    charts: Sequence[str]
    cards: Sequence[Card]
    notes: Sequence[str]
    settings: Mapping[str, Any]
    command: str


def build_page(page: EvaluationPage) -> str:
    """The HTML text, with pictures embedded as base64."""
    values = {
        "title": html.escape(page.title),
        "summary": html.escape(page.summary),
        "facts": "".join(f"<li>{html.escape(fact)}</li>" for fact in page.facts),
        "tables": "\n".join(_table(table, page.muted) for table in page.tables),
        "legend": "".join(_legend(series) for series in page.legend),
        "charts": "\n".join(page.charts),
        "has_charts": "" if page.charts else " hidden",
        "cards": "\n".join(_card(card) for card in page.cards),
        "has_cards": "" if page.cards else " hidden",
        "scale": _scale(),
        "notes": "".join(f"<p>{html.escape(note)}</p>" for note in page.notes),
        "settings": definition_list(
            {name: str(value) for name, value in page.settings.items()}
        ),
        "command": html.escape(page.command),
    }
    return fill_template(TEMPLATE, values)


def error_map(
    image: Float[Tensor, "3 height width"], truth: Float[Tensor, "3 height width"]
) -> Float[Tensor, "3 height width"]:
    """Colours of the absolute difference, averaged over channels.

    Black is none, the lightest colour `FULL_ERROR` or more.
    """
    return colorize((image - truth).abs().mean(dim=0) / FULL_ERROR)


def _table(table: PageTable, muted: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in table.columns)
    best = _best_rows(table, muted)
    rows = []
    for number, row in enumerate(table.rows):
        name, *cells = row
        kind = ' class="muted"' if name in muted else ""
        marked = "".join(
            f'<td class="best">{html.escape(cell)}</td>'
            if number in best.get(column, ())
            else f"<td>{html.escape(cell)}</td>"
            for column, cell in enumerate(cells, 1)
        )
        rows.append(f'<tr{kind}><th scope="row">{html.escape(name)}</th>{marked}</tr>')
    return (
        f'<h3>{html.escape(table.title)}</h3><div class="wide"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _best_rows(table: PageTable, muted: Sequence[str]) -> dict[int, set[int]]:
    """Numbers of the rows that are best, by column; nothing wins alone."""
    best = {}
    for column, head in enumerate(table.columns):
        values = {}
        for number, row in enumerate(table.rows):
            try:
                if row[0] not in muted:
                    values[number] = float(row[column])
            except ValueError:
                continue
        if head.endswith(("↑", "↓")) and len(values) > 1:
            wanted = (max if head.endswith("↑") else min)(values.values())
            best[column] = {n for n, value in values.items() if value == wanted}
    return best


def _legend(series: Series) -> str:
    name = html.escape(series.name)
    key = draw_key(series.color, series.marker, series.dashed)
    return f'<button type="button" data-series="{name}">{key}{name}</button>'


def _card(card: Card) -> str:
    given = "".join(
        _figure(_read(path), "input" if len(card.given) == 1 else f"input {i}")
        for i, path in enumerate(card.given, 1)
    )
    rows = "".join(_row(row) for row in card.rows)
    return (
        f'<article class="card"><h3>{html.escape(card.title)}</h3>'
        f'<div class="scene"><div class="given">{given}</div>'
        f'<div class="wide">{rows}</div></div></article>'
    )


def _row(row: CardRow) -> str:
    columns = [_figure(_read(row.truth), "truth", row.label)]
    for shown in row.shown:
        image = _read(shown.image)
        error = error_map(image, _read(shown.truth))
        below = _image(error, f"error of {shown.name}")
        columns.append(_figure(image, shown.name, shown.caption, below))
    return f'<div class="row">{"".join(columns)}</div>'


def _figure(
    image: Float[Tensor, "3 height width"],
    name: str,
    caption: str = "",
    below: str = "",
) -> str:
    small = f"<small>{html.escape(caption)}</small>" if caption else ""
    return (
        f"<figure>{_image(image, name)}{below}"
        f'<figcaption><span title="{html.escape(name)}">{html.escape(name)}</span>'
        f"{small}</figcaption></figure>"
    )


def _image(image: Float[Tensor, "3 height width"], alt: str) -> str:
    height, width = image.shape[-2:]
    scale = max(1, round(PICTURE / max(height, width)))
    return (
        f'<img src="{_embed(image)}" width="{width * scale}" height="{height * scale}" '
        f'alt="{html.escape(alt)}">'
    )


def _read(path: Path) -> Float[Tensor, "3 height width"]:
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1).float() / 255


def _embed(image: Float[Tensor, "3 height width"]) -> str:
    pixels = to_bytes(image).permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _scale() -> str:
    """The legend of error maps."""
    ramp = colorize(torch.linspace(0, 1, 120).expand(10, -1))
    return (
        f'<img src="{_embed(ramp)}" width="120" height="10" alt="">'
        f"<span>0</span><span>{FULL_ERROR:g} or more</span>"
    )
