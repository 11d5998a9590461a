"""The page that shows results: one HTML file that needs neither network nor server."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unseen.export.template import definition_list, fill_template

TEMPLATE = "assets/results_page.html"


@dataclasses.dataclass(frozen=True)
class SamplePanel:
    """What the page shows of one sample.

    `color` and `depth` (None where there is none) are MP4 files that are embedded;
    `links` (label to path, relative to the page) are files that lie beside the page;
    `note` is one sentence or empty.
    """

    name: str
    color: Path
    depth: Path | None
    links: Mapping[str, str]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    """The contents of a results page; all texts are plain text.

    `image` (None where there is none) and `sheet` are PNG files that are embedded.
    """

    title: str
    summary: str
    image: Path | None
    sheet: Path
    samples: Sequence[SamplePanel]
    settings: Mapping[str, Any]
    command: str


def build_page(page: Page) -> str:
    """The HTML text, with pictures and videos embedded as base64.

    The videos play in step; a slider (or dragging on a video) turns all of them.
    """
    values = {
        "title": html.escape(page.title),
        "summary": html.escape(page.summary),
        "input": ""
        if page.image is None
        else f'<img src="{_embed(page.image, "image/png")}" alt="The input image">',
        "sheet": _embed(page.sheet, "image/png"),
        "samples": "\n".join(_panel(sample) for sample in page.samples),
        "settings": definition_list(
            {name: _show(value) for name, value in page.settings.items()}
        ),
        "command": html.escape(page.command),
    }
    return fill_template(TEMPLATE, values)


def _embed(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _panel(sample: SamplePanel) -> str:
    name = html.escape(sample.name)
    videos = "".join(
        f'<video class="{kind}" src="{_embed(path, "video/mp4")}" muted loop '
        f'playsinline preload="auto" aria-label="{name}, {label}"></video>'
        for kind, label, path in (
            ("color", "colour", sample.color),
            ("depth", "depth", sample.depth),
        )
        if path is not None
    )
    links = "".join(
        f'<a href="{html.escape(target)}">{html.escape(label)}</a>'
        for label, target in sample.links.items()
    )
    note = (
        f'<span class="note">{html.escape(sample.note)}</span>' if sample.note else ""
    )
    return (
        f'<figure class="sample"><div class="pictures">{videos}</div>'
        f"<figcaption><strong>{name}</strong>{links}{note}</figcaption></figure>"
    )


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "—" if value is None else str(value)
