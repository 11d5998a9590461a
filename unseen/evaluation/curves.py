"""How quality depends on the angle between what is given and what is asked for."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0)
"""Widths that bins may have, in degrees; the finest that needs few enough is taken."""
MOST_BINS = 9


@dataclasses.dataclass(frozen=True)
class Bin:
    """Views whose angle lies in `low` to `high` degrees, their number and mean."""

    low: float
    high: float
    views: int
    mean: float

    @property
    def middle(self) -> float:
        return 0.5 * (self.low + self.high)


def bin_width(scenes: Sequence[Mapping[str, Any]]) -> float:
    """One width of bins for all methods, from the scenes of `results.json`."""
    most = max(angle for s in scenes for angle in s["numbers"]["angles"])
    return next((s for s in STEPS if s * MOST_BINS > most), STEPS[-1])


def angle_curve(
    scenes: Sequence[Mapping[str, Any]], label: str, metric: str, width: float
) -> list[Bin]:
    """The mean of a metric of every view, by angle, over all scenes of one method.

    Empty for a metric that has no value per view.
    """
    values: dict[int, list[float]] = {}
    for scene in scenes:
        numbers = scene["numbers"]
        found = numbers["values"].get(metric, [])
        if scene["method"] != label or len(found) != len(numbers["angles"]):
            continue
        for angle, value in zip(numbers["angles"], found, strict=True):
            values.setdefault(int(angle // width), []).append(value)
    return [
        Bin(i * width, (i + 1) * width, len(group), statistics.fmean(group))
        for i, group in sorted(values.items())
    ]
