"""The numbers of an evaluation of novel views, from its journal: what is printed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from unseen.evaluation.journal import Journal, Record
from unseen.evaluation.novel_views import Plan
from unseen.evaluation.scores import Metric, compare_sets

FRAME_COSTS = ("evaluations_per_ray", "operations", "peak_bytes")

ALL = "all"
"""The name under which several data sets are averaged together."""


def collect_numbers(
    label: str, plan: Plan, journal: Journal
) -> dict[str, dict[str, float | int | None]]:
    """Of each data set, and of all together where there are several.

    Scenes count the same. A metric that is missing is None.
    """
    groups: dict[str, list[Record]] = {}
    for place in plan.places:
        record = journal.records[(label, place.data, place.scene)]
        groups.setdefault(place.data, []).append(record)
    if len(groups) > 1:
        groups[ALL] = [record for group in groups.values() for record in group]
    return {name: _average(group, plan, journal) for name, group in groups.items()}


def _average(
    records: Sequence[Record], plan: Plan, journal: Journal
) -> dict[str, float | int | None]:
    numbers: dict[str, float | int | None] = {
        "scenes": len(records),
        "views": sum(len(r.numbers["views"]) for r in records),
    }
    for metric in plan.metrics:
        if isinstance(metric, Metric):
            numbers[metric.name] = None
            if metric.missing is None:
                values = [r.numbers["values"][metric.name] for r in records]
                numbers[metric.name] = statistics.fmean(map(statistics.fmean, values))
    features = [journal.read_features(r) for r in records]
    return numbers | compare_sets(features, list(plan.metrics))


def collect_cost(
    label: str, plan: Plan, journal: Journal
) -> dict[str, float | int | None]:
    """Medians over scenes, because the first one also pays for compilation.

    `seconds_per_scene` is the time until there is a scene, `seconds_per_frame` that of
    rendering a view of it, `seconds` the sum of everything. `evaluations_per_ray`,
    `operations` and `peak_bytes` are of one frame, see `RenderCost`.
    """
    records = [journal.records[(label, p.data, p.scene)] for p in plan.places]
    scene = [r.numbers["cost"]["scene"] for r in records]
    render = [r.numbers["cost"]["render"] for r in records]
    frames = [len(r.numbers["views"]) for r in records]
    frame = next(r.numbers["cost"]["frame"] for r in records)
    return {
        **{name: frame[name] for name in FRAME_COSTS},
        "seconds": sum(scene) + sum(render),
        "seconds_per_scene": statistics.median(scene),
        "seconds_per_frame": statistics.median(
            r / n for r, n in zip(render, frames, strict=True)
        ),
    }


def list_scenes(plan: Plan, labels: Sequence[str], journal: Journal) -> list[Any]:
    """Every scene by every method, with the values of its views, as JSON values."""
    records = [
        journal.records[(label, p.data, p.scene)]
        for p in plan.places
        for label in labels
    ]
    return [dataclasses.asdict(r) for r in records]


def describe_metrics(plan: Plan) -> list[dict[str, Any]]:
    """Names, units and directions of the metrics, as JSON values."""
    names = ("name", "unit", "better", "digits", "missing")
    return [{name: getattr(m, name) for name in names} for m in plan.metrics]
