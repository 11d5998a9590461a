"""Charts as SVG text, drawn by hand: lines and points on linear or logarithmic axes.

Texts take the page's colour, so that charts suit light and dark pages. Every point
tells its numbers when it is pointed at.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import Literal

WIDTH, HEIGHT = 520, 310
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 46
"""The frame of a chart, in its own units."""

LETTER, LINE = 6.6, 14
"""About how wide a letter of a name is, and how high its line."""

COLORS = (
    "#3b7dd8",
    "#e07b39",
    "#2f9e6e",
    "#c653a0",
    "#b8930f",
    "#7a5fd0",
    "#1b9aaa",
    "#d0453f",
)
GREY = "#8a8f99"
Number = int | float
Marker = Literal["circle", "square", "diamond", "triangle"]
MARKERS: tuple[Marker, ...] = ("circle", "square", "diamond", "triangle")


@dataclasses.dataclass(frozen=True)
class Point:
    x: Number
    y: Number
    hint: str
    """What is said when it is pointed at."""


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of one name, drawn in one style."""

    name: str
    points: Sequence[Point]
    color: str
    marker: Marker = "circle"
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
    """A label, and whether equal steps are equal ratios."""

    label: str
    logarithmic: bool = False


def choose_style(index: int) -> tuple[str, Marker]:
    """Colour and marker of the index-th series; together they do not repeat soon."""
    return COLORS[index % len(COLORS)], MARKERS[index // len(COLORS) % len(MARKERS)]


def draw_chart(
    title: str, series: Sequence[Series], x: Axis, y: Axis, lines: bool
) -> str:
    """An `<svg>` element; `lines` joins the points of each series in order of x.

    Without any point there is a sentence instead.
    """
    points = [p for s in series for p in s.points]
    if not points:
        return f'<p class="empty">{html.escape(title)}: no numbers.</p>'
    across = _Scale([p.x for p in points], x.logarithmic, LEFT, WIDTH - RIGHT)
    up = _Scale([p.y for p in points], y.logarithmic, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">',
        f'<text class="title" x="{LEFT}" y="16">{html.escape(title)}</text>',
        *_grid(across, up, x, y),
        *(_draw(s, across, up, lines) for s in series if s.points),
        *([] if lines else _names(series, across, up)),
        "</svg>",
    ]
    return "".join(parts)


def draw_key(color: str, marker: Marker, dashed: bool) -> str:
    """A small `<svg>` that shows a series' style, for legends."""
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        '<svg class="key" viewBox="0 0 26 12" aria-hidden="true">'
        f'<path d="M1 6H25" stroke="{color}" stroke-width="2"{dash}/>'
        f"{_marker(marker, 13, 6, color)}</svg>"
    )


class _Scale:
    """Maps values to places between `low` and `high`, with round ticks."""

    def __init__(
        self, values: Sequence[Number], logarithmic: bool, low: Number, high: Number
    ) -> None:
        self.logarithmic, self.low, self.high = logarithmic, low, high
        numbers = [self._number(v) for v in values]
        least, most = min(numbers), max(numbers)
        # Points do not lie on the frame, and a single one lies in the middle.
        margin = 0.06 * (most - least) or (0.5 if logarithmic else abs(most) * 0.1 or 1)
        self.least, self.most = least - margin, most + margin

    def _number(self, value: Number) -> float:
        return math.log10(value) if self.logarithmic else float(value)

    def place(self, value: Number) -> float:
        part = (self._number(value) - self.least) / (self.most - self.least)
        return self.low + part * (self.high - self.low)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return _round_steps(self.least, self.most, 6)
        decades = range(math.floor(self.least), math.ceil(self.most) + 1)
        span = self.most - self.least
        factors = (1, 2, 5) if span < 2 else (1, 3) if span < 4 else (1,)
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        return [t for t in found if self.least <= math.log10(t) <= self.most]


def _round_steps(least: Number, most: Number, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about `count` of them."""
    rough = (most - least) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough)
    first = math.ceil(least / step)
    return [i * step for i in range(first, math.floor(most / step) + 1)]


def _grid(across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[str]:
    parts = []
    bottom = HEIGHT - BOTTOM
    for tick in across.ticks():
        place = f"{across.place(tick):.1f}"
        parts.append(
            f'<path class="grid" d="M{place} {TOP}V{bottom}"/>'
            f'<text class="tick" x="{place}" y="{bottom + 16}" text-anchor="middle">'
            f"{tick:g}</text>"
        )
    for tick in up.ticks():
        place = up.place(tick)
        parts.append(
            f'<path class="grid" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">'
            f"{tick:.4g}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{html.escape(x.label)}</text>"
        f'<text class="axis" x="{WIDTH - RIGHT}" y="16" text-anchor="end">'
        f"{html.escape(y.label)}</text>"
    )
    return parts


def _draw(series: Series, across: _Scale, up: _Scale, lines: bool) -> str:
    points = sorted(series.points, key=lambda p: p.x)
    places = [(across.place(p.x), up.place(p.y)) for p in points]
    parts = [f'<g data-series="{html.escape(series.name)}">']
    if lines and len(places) > 1:
        dash = ' stroke-dasharray="6 4"' if series.dashed else ""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="line" d="M{path}" stroke="{series.color}"{dash}/>')
    for point, (x, y) in zip(points, places, strict=True):
        parts.append(
            f"<g><title>{html.escape(f'{series.name}: {point.hint}')}</title>"
            f'<circle class="target" cx="{x:.1f}" cy="{y:.1f}" r="10"/>'
            f"{_marker(series.marker, x, y, series.color)}</g>"
        )
    return "".join([*parts, "</g>"])


def _names(series: Sequence[Series], across: _Scale, up: _Scale) -> list[str]:
    """Names beside their points, on the side that has room, and not on one another."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    points = [
        (s.name, across.place(p.x), up.place(p.y)) for s in series for p in s.points
    ]
    for name, x, y in sorted(points, key=lambda point: point[2]):
        length = LETTER * len(name)
        left = x + 9 + length > WIDTH - RIGHT
        anchor, start = ("end", x - 9 - length) if left else ("start", x + 9)
        row = y + 4
        # From top to bottom, each name below those that it would meet.
        for begin, end, other in taken:
            if begin < start + length and start < end and abs(row - other) < LINE:
                row = other + LINE
        taken.append((start, start + length, row))
        place = x - 9 if left else x + 9
        parts.append(
            f'<text class="name" data-series="{html.escape(name)}" x="{place:.1f}" '
            f'y="{row:.1f}" text-anchor="{anchor}">{html.escape(name)}</text>'
        )
    return parts


def _marker(marker: Marker, x: Number, y: Number, color: str) -> str:
    shapes = {
        "square": f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
        "diamond": f"M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5-5.5z",
        "triangle": f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
    }
    if marker == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    return f'<path d="{shapes[marker]}" fill="{color}"/>'
