"""Charts: points lie where their numbers are, and names on nothing else."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from unseen.export.charts import (
    Axis,
    Point,
    Series,
    choose_style,
    draw_chart,
    draw_key,
)


def points(*places: tuple[float, float]) -> list[Point]:
    return [Point(x, y, f"{x} & {y}") for x, y in places]


def centres(svg: str) -> list[tuple[float, float]]:
    found = re.findall(r'<circle class="target" cx="([\d.]+)" cy="([\d.]+)"', svg)
    return [(float(x), float(y)) for x, y in found]


def test_linear_axes() -> None:
    series = Series("a", points((10, 0), (0, 1), (30, 2)), "#123456")
    svg = draw_chart("t", [series], Axis("x"), Axis("y"), lines=True)
    (x0, y0), (x1, y1), (x2, y2) = centres(svg)
    # In order of x, equal steps for equal numbers, and up is up.
    assert (x2 - x1) == pytest.approx(2 * (x1 - x0), abs=0.3)
    assert y1 > y0 > y2 and (y1 - y0) == pytest.approx(y0 - y2, abs=0.3)
    assert "10 &amp; 0" in svg and svg.count('class="line"') == 1
    ElementTree.fromstring(svg)


def test_logarithmic_axes() -> None:
    series = Series("a", points((0.01, 1), (1, 1), (100, 1)), "#123456")
    axis = Axis("x", logarithmic=True)
    svg = draw_chart("t", [series], axis, Axis("y"), lines=False)
    (x0, _), (x1, _), (x2, _) = centres(svg)
    assert x2 - x1 == pytest.approx(x1 - x0, abs=0.3)
    ticks = re.findall(r'text-anchor="middle">([^<]+)<', svg)
    assert {"0.01", "0.1", "1", "10", "100"} <= set(ticks)


def test_names_do_not_lie_on_one_another() -> None:
    series = [
        Series(f"method {i}", points((1, 5 + i / 1000)), "#123") for i in range(4)
    ]
    svg = draw_chart("t", series, Axis("x"), Axis("y"), lines=False)
    rows = sorted(float(y) for y in re.findall(r'class="name"[^>]* y="([\d.]+)"', svg))
    assert all(b - a > 13 for a, b in itertools.pairwise(rows))


def test_nothing_one_point_and_strange_names() -> None:
    assert "no numbers" in draw_chart("t", [], Axis("x"), Axis("y"), lines=True)
    series = Series('<b>"&', points((0, 0)), "#123456")
    svg = draw_chart("<t>", [series], Axis("<x>"), Axis("y"), lines=True)
    assert ElementTree.fromstring(svg).get("aria-label") == "<t>"
    assert len(centres(svg)) == 1


def test_styles_do_not_repeat_soon() -> None:
    styles = [choose_style(i) for i in range(32)]
    assert len(set(styles)) == 32
    keys = {draw_key(color, marker, False) for color, marker in styles}
    assert len(keys) == 32
