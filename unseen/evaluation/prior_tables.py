"""The tables and notes of models that sample without an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unseen.evaluation.journal import Journal
from unseen.evaluation.prior import PriorPlan
from unseen.evaluation.scores import SetMetric
from unseen.evaluation.tables import Table, metric_head, number

SURFACE_HEADS = {
    "with a surface": ("with a surface", 0),
    "coverage": ("coverage ↑", 3),
    "MMD": ("MMD, x 1000 ↓", 2),
    "nearest training object": ("nearest training object, x 1000", 2),
    "seconds per sample": ("seconds per sample", 1),
}


def prior_table(values: Mapping[str, Any], plan: PriorPlan) -> Table:
    """One row per model, and that of training objects."""
    heads: dict[str, tuple[str, int]] = {"samples": ("samples", 0)}
    for metric in plan.metrics:
        if isinstance(metric, SetMetric):
            described = {
                "name": metric.name,
                "unit": metric.unit,
                "better": metric.better,
            }
            heads[metric.name] = (metric_head(described), metric.digits)
    heads |= SURFACE_HEADS
    rows = [
        [label, *(number(found[name], digits) for name, (_, digits) in heads.items())]
        for label, found in values["numbers"].items()
    ]
    count = len(plan.held_out.names)
    title = f"{plan.data}: samples against {count} held-out objects"
    return Table(title, ["", *(head for head, _ in heads.values())], rows)


def nearest_table(journal: Journal) -> Table:
    """The nearest training object of every sample, the nearest first."""
    found = [
        (record.numbers["nearest"], record)
        for record in journal.records.values()
        if record.numbers["nearest"] is not None
    ]
    found.sort(key=lambda entry: entry[0]["distance"])
    return Table(
        "Nearest training objects",
        ["model", "sample", "training object", "distance, x 1000"],
        [
            [r.method, r.scene, near["object"], number(1000 * near["distance"], 2)]
            for near, r in found
        ],
    )


def prior_notes(
    values: Mapping[str, Any], plan: PriorPlan, journal: Journal
) -> list[str]:
    """Sentences below the table: what dashes mean, and what to compare with."""
    lines = [
        f"{m.name} was not measured: {m.missing}"
        for m in plan.metrics
        if isinstance(m, SetMetric) and m.missing is not None
    ]
    if not plan.has_surfaces:
        lines.append(
            f"{plan.data} has no depth maps, which tell where surfaces are, so there "
            "is neither coverage nor MMD nor a nearest object: render it with depth."
        )
    else:
        lines.append(
            f"Held-out objects are {number(values['held_out_nearest'], 2)} from their "
            "nearest training object (x 1000); samples that are much nearer were "
            "memorised."
        )
    reasons: dict[tuple[str, str], int] = {}
    for record in journal.records.values():
        if record.numbers["surface"] is not None:
            key = (record.method, record.numbers["surface"])
            reasons[key] = reasons.get(key, 0) + 1
    for (method, reason), count in reasons.items():
        lines.append(
            f"{count} of {plan.settings.samples} samples of {method} have no surface "
            f"({reason.rstrip('.')})."
        )
    return lines
