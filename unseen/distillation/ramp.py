"""Settings that change while a scene is distilled."""

from __future__ import annotations

import dataclasses
import itertools


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A number that depends on the step: linear between (step, value) pairs.

    Before the first and after the last pair it is constant. Two pairs at one step are a
    jump, which that step has behind it.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.points]
        if not steps or steps != sorted(steps):
            raise ValueError("a ramp needs (step, value) pairs whose steps ascend")

    def at(self, step: int) -> float:
        """The value at a step, which counts from 0."""
        for (first, low), (last, high) in itertools.pairwise(self.points):
            if first <= step < last:
                return low + (high - low) * (step - first) / (last - first)
        return self.points[0][1] if step < self.points[0][0] else self.points[-1][1]


Number = int | float | Ramp
"""A setting that may change."""


def value_at(number: Number, step: int) -> float:
    """A setting's value at a step."""
    return number.at(step) if isinstance(number, Ramp) else float(number)


def ramp(first: int, start: int | float, end: int | float, last: int) -> Ramp:
    """From `start` at the step `first` to `end` at the step `last`."""
    return Ramp(((first, float(start)), (last, float(end))))
