"""The page that shows results: one HTML file that needs neither network nor server."""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unseen.data.cameras import MARGIN
from unseen.export.splat_files import splat_records
from unseen.export.template import definition_list, fill_template
from unseen.scenes.gaussians import GaussianScene

TEMPLATE = "assets/results_page.html"
SPLAT_VIEW = "assets/splat_view.js"


@dataclasses.dataclass(frozen=True)
class SamplePanel:
    """What the page shows of one sample.

    `color` and `depth` (None where there is none) are MP4 files that are embedded;
    `links` (label to path, relative to the page) are files that lie beside the page;
    `note` is one sentence or empty; `splats` are drawn in 3D (None where there are
    none).
    """

    name: str
    color: Path
    depth: Path | None
    links: Mapping[str, str]
    note: str = ""
    splats: GaussianScene | None = None


@dataclasses.dataclass(frozen=True)
class Page:
    """The contents of a results page; all texts are plain text.

    `image` (None where there is none) and `sheet` are PNG files that are embedded.
    `fov` (full) and `elevation` are those of the videos' cameras, in degrees.
    """

    title: str
    summary: str
    image: Path | None
    sheet: Path
    samples: Sequence[SamplePanel]
    settings: Mapping[str, Any]
    command: str
    fov: float = 40.0
    elevation: float = 20.0


def build_page(page: Page) -> str:
    """The HTML text, with pictures and videos embedded as base64.

    The videos play in step; a slider (or dragging on a video) turns all of them. So
    does it turn the splats, which WebGL2 draws, and another slider blends the image
    and the samples' pictures.
    """
    splat_view = importlib.resources.files("unseen").joinpath(SPLAT_VIEW)
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
        "between": "From sample to sample"
        if page.image is None
        else "From the image to its samples",
        "fov": f"{page.fov:g}",
        "elevation": f"{page.elevation:g}",
        "margin": f"{MARGIN:g}",
        "splat_view": splat_view.read_text(encoding="utf-8"),
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
    if sample.splats is not None:
        records = base64.b64encode(splat_records(sample.splats)).decode()
        background = [round(x, 3) for x in sample.splats.background.tolist()]
        videos += (
            f'<canvas data-splats="{records}" data-background="{background}" '
            f'aria-label="{name}, in 3D"></canvas>'
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
