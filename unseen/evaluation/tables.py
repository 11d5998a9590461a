"""The tables of an evaluation's results, as text: rows that any printer can show.

Results are the JSON values of `results.json`; `cli/eval_results.py` makes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"
"""What stands where there is no number."""

ARROWS = {"higher": "↑", "lower": "↓"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, the heads of the columns (the first is of names), and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table under a heading."""
        lines = [f"## {self.title}", ""]
        lines.append(f"| {' | '.join(self.columns)} |")
        lines.append("|---" + "|---:" * (len(self.columns) - 1) + "|")
        # A bar would end the cell.
        for row in self.rows:
            lines.append(f"| {' | '.join(c.replace('|', '/') for c in row)} |")
        return "\n".join(lines) + "\n"


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """Quality on each data set and on all together, then what it costs."""
    if results["protocol"]["name"] == "posterior":
        return [_posterior(results)]
    first = next(iter(results["numbers"].values()))
    return [*(_quality(results, name) for name in first), _cost(results)]


def metric_head(metric: Mapping[str, Any]) -> str:
    """Name, unit and direction: "PSNR, dB ↑"."""
    unit = f", {metric['unit']}" if metric["unit"] else ""
    return f"{metric['name']}{unit} {ARROWS[metric['better']]}"


def number(value: float | int | None, digits: int) -> str:
    """A number with so many decimals, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def short(value: float | int | None) -> str:
    """A number with three digits, or a dash."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def counts(found: Mapping[str, Any]) -> str:
    """How many scenes and views numbers are means of."""
    scenes, views = found["scenes"], found["views"]
    return (
        f"{scenes} scene{'' if scenes == 1 else 's'}, "
        f"{views:,} view{'' if views == 1 else 's'}"
    )


def notes(results: Mapping[str, Any]) -> list[str]:
    """Sentences below the tables: what dashes mean, and what was left out."""
    lines = [
        f"{m['name']} was not measured: {m['missing']}"
        for m in results.get("metrics", [])
        if m["missing"] is not None
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for entry in results.get("left_out", []):
        reasons.setdefault((entry["data"], entry["reason"]), []).append(entry["scene"])
    for (data, reason), scenes in reasons.items():
        more = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
        lines.append(f"Left out of {data}: {scenes[0]}{more} ({reason}).")
    return lines


def _quality(results: Mapping[str, Any], data: str) -> Table:
    metrics, methods = results["metrics"], results["methods"]
    first = results["numbers"][methods[0]["label"]][data]
    rows = []
    for method in methods:
        found = results["numbers"][method["label"]][data]
        values = [number(found[m["name"]], m["digits"]) for m in metrics]
        rows.append([method["label"], str(method["image_size"]), *values])
    heads = [metric_head(metric) for metric in metrics]
    return Table(f"{data}: {counts(first)}", ["method", "pixels", *heads], rows)


COST_HEADS = (
    "parameters",
    "evaluations per ray",
    "GFLOP per frame",
    "seconds per scene",
    "seconds per frame",
    "frames per second",
    "MB per frame",
)


def cost_cells(method: Mapping[str, Any], cost: Mapping[str, Any]) -> list[str]:
    """The cells below `COST_HEADS`."""
    frame = cost["seconds_per_frame"]
    return [
        short(method["parameters"])
        if method["parameters"] < 1e6
        else f"{method['parameters'] / 1e6:.1f} M",
        short(cost["evaluations_per_ray"]),
        short(cost["operations"] / 1e9),
        short(cost["seconds_per_scene"]),
        short(frame),
        short(1 / frame if frame > 0 else None),
        short(cost["peak_bytes"] / 1e6),
    ]


def _cost(results: Mapping[str, Any]) -> Table:
    rows = [
        [method["label"], *cost_cells(method, results["cost"][method["label"]])]
        for method in results["methods"]
        if method["label"] in results["cost"]
    ]
    device = results["settings"]["device"]
    return Table(f"cost on {device}", ["method", *COST_HEADS], rows)


def _posterior(results: Mapping[str, Any]) -> Table:
    numbers = results["numbers"]
    columns = [(label, data) for label, found in numbers.items() for data in found]
    heads = [
        data if len(numbers) == 1 else f"{label}: {data}" for label, data in columns
    ]
    fields = list(next(iter(next(iter(numbers.values())).values())))
    rows = []
    for field in fields:
        values = [numbers[label][data][field] for label, data in columns]
        rows.append(
            [
                field.replace("_", " "),
                *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values),
            ]
        )
    title = f"{', '.join(numbers)} on held-out objects"
    return Table(title, ["", *heads], rows)
