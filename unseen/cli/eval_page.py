"""The page of `unseen eval`, from the values of its `results.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unseen.evaluation.curves import angle_curve, bin_width
from unseen.evaluation.summary import ALL
from unseen.evaluation.tables import Table, metric_head, number, short
from unseen.export.charts import (
    GREY,
    MARKERS,
    Axis,
    Point,
    Series,
    choose_style,
    draw_chart,
)
from unseen.export.evaluation_page import (
    Card,
    CardRow,
    EvaluationPage,
    PageTable,
    Shown,
    build_page,
)

Results = Mapping[str, Any]


def evaluation_page(
    results: Results, tables: Sequence[Table], notes: Sequence[str], folder: Path
) -> str:
    """The HTML text; pictures are read from `folder`."""
    protocol, settings = results["protocol"], results["settings"]
    posterior = protocol["name"] == "posterior"
    data = [f"{d['name']}: {d['scenes']} held out" for d in settings["data"]]
    legend = [] if posterior else _styles(results)
    return build_page(
        EvaluationPage(
            title=protocol["title"],
            summary=f"{protocol['summary']} Source: {protocol['source']}.",
            facts=[
                *_kinds(results),
                *data,
                f"device {settings['device']}",
                f"unseen {results['unseen']}",
            ],
            tables=[PageTable(t.title, t.columns, t.rows) for t in tables],
            muted=[m["label"] for m in results["methods"] if m["kind"] == "baseline"],
            legend=legend,
            charts=[] if posterior else list(_charts(results, legend)),
            cards=list((_samples if posterior else _scenes)(results, folder)),
            notes=notes,
            settings=_plain_settings(results),
            command=results["command"],
        )
    )


def _kinds(results: Results) -> Iterator[str]:
    """How many methods and baselines there are."""
    for kind in ("method", "baseline"):
        count = sum(m["kind"] == kind for m in results["methods"])
        if count:
            yield f"{count} {kind}{'' if count == 1 else 's'}"


def _plain_settings(results: Results) -> dict[str, str]:
    """Settings as text, and where each model comes from."""
    hidden = ("format", "data", "methods", "metrics", "train")
    shown = {
        name: str(value)
        for name, value in results["settings"].items()
        if name not in hidden and value is not None
    }
    for method in results["methods"]:
        if method["kind"] == "method":
            origin = method["provenance"]
            words = [f"{k} {origin[k]}" for k in _ORIGIN if origin.get(k) is not None]
            told = ", ".join([method["method"], *words, f"digest {method['digest']}"])
            shown[method["label"]] = told
    return shown


_ORIGIN = ("imported", "preset", "step")


def _styles(results: Results) -> list[Series]:
    """One series without points per method, which says how it is drawn."""
    styles = []
    grey = 0
    for index, method in enumerate(results["methods"]):
        if method["kind"] == "baseline":
            styles.append(Series(method["label"], [], GREY, MARKERS[grey], True))
            grey += 1
        else:
            styles.append(Series(method["label"], [], *choose_style(index)))
    return styles


def _with(series: Series, points: list[Point]) -> Series:
    return Series(series.name, points, series.color, series.marker, series.dashed)


def _charts(results: Results, styles: Sequence[Series]) -> Iterator[str]:
    scenes, width = results["scenes"], bin_width(results["scenes"])
    for metric in results["metrics"]:
        name, digits = metric["name"], metric["digits"]
        series = []
        for style in styles:
            points = [
                Point(
                    b.middle,
                    b.mean,
                    f"{number(b.mean, digits)} at {b.low:g} to {b.high:g} degrees "
                    f"({b.views} views)",
                )
                for b in angle_curve(scenes, style.name, name, width)
            ]
            series.append(_with(style, points))
        if any(s.points for s in series):
            x = Axis("degrees between the input and the view that is asked for")
            yield draw_chart(f"{name} by angle", series, x, _axis(metric), lines=True)
    yield from _cost_charts(results, styles)


def _cost_charts(results: Results, styles: Sequence[Series]) -> Iterator[str]:
    metric = next((m for m in results["metrics"] if m["missing"] is None), None)
    if metric is None:
        return
    for field, words in (
        ("seconds_per_scene", "seconds until there is a scene"),
        ("seconds_per_frame", "seconds per rendered frame"),
    ):
        series = []
        for style in styles:
            cost = results["cost"].get(style.name)
            found = results["numbers"][style.name]
            value = found.get(ALL, next(iter(found.values())))[metric["name"]]
            if cost is not None and cost[field] > 0 and value is not None:
                hint = f"{number(value, metric['digits'])}, {short(cost[field])} s"
                series.append(_with(style, [Point(cost[field], value, hint)]))
        title = f"{metric['name']} by {field.replace('_', ' ')}"
        x = Axis(f"{words}, logarithmic", logarithmic=True)
        yield draw_chart(title, series, x, _axis(metric), lines=False)


def _axis(metric: Mapping[str, Any]) -> Axis:
    return Axis(metric_head(metric))


def _scenes(results: Results, folder: Path) -> Iterator[Card]:
    """The scenes of which every method has pictures."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for record in results["scenes"]:
        if record["numbers"]["pictures"] is not None:
            key = (record["data"], record["scene"])
            groups.setdefault(key, []).append(record)
    for (data, scene), records in groups.items():
        finest = max(records, key=lambda r: _size(results, r["method"]))
        pictures = finest["numbers"]["pictures"]
        rows = []
        for number_, shown in enumerate(pictures["shown"]):
            rows.append(
                CardRow(
                    f"view {shown['view']}, {shown['angle']:.0f}°",
                    folder / shown["truth"],
                    [_shown(results, r, number_, folder) for r in records],
                )
            )
        given = [folder / path for path in pictures["given"]]
        yield Card(f"{data} / {scene}", given, rows)


def _shown(
    results: Results, record: Mapping[str, Any], index: int, folder: Path
) -> Shown:
    numbers = record["numbers"]
    shown = numbers["pictures"]["shown"][index]
    place = numbers["views"].index(shown["view"])
    caption = ""
    for metric in results["metrics"]:
        values = numbers["values"].get(metric["name"], [])
        if len(values) == len(numbers["views"]):
            caption = f"{number(values[place], metric['digits'])} {metric['unit']}"
            break
    return Shown(
        record["method"], folder / shown["image"], folder / shown["truth"], caption
    )


def _size(results: Results, label: str) -> int:
    return next(m["image_size"] for m in results["methods"] if m["label"] == label)


def _samples(results: Results, folder: Path) -> Iterator[Card]:
    """Objects with samples and the deterministic branch."""
    several = len(results["methods"]) > 1
    for record in results["scenes"]:
        pictures = record["numbers"]["pictures"]
        if pictures is None:
            continue
        shown = pictures["shown"]
        truth = folder / shown["truth"]
        others = [
            Shown(name, folder / path, truth)
            for name, path in shown.items()
            if name != "truth"
        ]
        title = f"{record['data']} / {record['scene']}"
        if several:
            title = f"{record['method']}: {title}"
        given = [folder / path for path in pictures["given"]]
        label = f"{pictures['angle']:.0f}° from the input"
        yield Card(title, given, [CardRow(label, truth, others)])
