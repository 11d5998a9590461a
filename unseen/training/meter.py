"""Means between two lines of the log."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Meter:
    """Adds up what happened since the last log entry; part of a checkpoint."""

    steps: int = 0
    """All steps, the skipped ones among them."""
    good_steps: int = 0
    examples: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)

    def add_step(self, examples: int, seconds: float) -> None:
        """Count one step, good or skipped."""
        self.steps += 1
        self.examples += examples
        self.seconds += seconds

    def add_values(self, values: dict[str, float]) -> None:
        """Count the named numbers of a good step."""
        self.good_steps += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Means over the good steps; empty when there was none."""
        return {name: value / self.good_steps for name, value in self.sums.items()}

    def examples_per_second(self) -> float:
        return self.examples / max(self.seconds, 1e-9)

    def seconds_per_step(self) -> float:
        return self.seconds / max(self.steps, 1)

    def state(self) -> dict[str, Any]:
        """What `Meter(**state)` rebuilds it from."""
        return dataclasses.asdict(self)
