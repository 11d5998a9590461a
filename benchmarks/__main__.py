"""`python -m benchmarks`: the benchmarks that need no data, and a gate.

    make bench
    make bench ARGS=--gate    # fails where a fast path lost its lead
    make bench ARGS=--save    # writes the baseline

The gate compares ratios inside one run, fast path against slow twin, with those of
`benchmarks/baseline.json`: machines differ in seconds, and much less in ratios. What
seems slower is measured again before it counts, because noise never makes a
path faster in all of several runs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import tyro

from benchmarks.sampling import Benchmark as Sampling
from benchmarks.systems import Benchmark as Systems
from benchmarks.training import Benchmark as Training

BASELINE = Path(__file__).with_name("baseline.json")

Measure = Callable[[], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Benchmarks:
    """Run all benchmarks that need no data."""

    gate: bool = False
    """Compare ratios with the baseline; exit with 1 where one is lost."""
    save: bool = False
    """Write the ratios as the new baseline."""
    tolerance: float = 0.3
    """Share of a ratio above 1 that may be lost to noise and to other machines."""
    attempts: int = 3
    """How often a ratio that seems lost is measured in all."""

    def run(self) -> None:
        """Print the tables, and gate or save."""
        measures: list[Measure] = [Sampling().run, Training().run]
        found = [measure() for measure in measures]
        if not self.gate:
            Systems().run()
        if self.save:
            merged = {name: x for ratios in found for name, x in ratios.items()}
            rounded = {name: round(x, 2) for name, x in merged.items()}
            BASELINE.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
            print(BASELINE)
        if self.gate:
            self._gate(measures, found)

    def _gate(self, measures: list[Measure], found: list[dict[str, float]]) -> None:
        baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
        best: dict[str, float] = {}
        for measure, first in zip(measures, found, strict=True):
            ratios = dict(first)
            for _ in range(self.attempts - 1):
                if not lost(ratios, baseline, self.tolerance):
                    break
                again = measure()
                ratios = {name: max(x, again[name]) for name, x in ratios.items()}
            best |= ratios
        failures = lost(best, baseline, self.tolerance)
        failures += [f"{name}: no longer measured" for name in baseline.keys() - best]
        for failure in failures:
            print(failure)
        print(f"{len(baseline) - len(failures)} of {len(baseline)} ratios hold")
        if failures:
            sys.exit(1)


def lost(
    ratios: dict[str, float], baseline: dict[str, float], tolerance: float
) -> list[str]:
    """One line for each ratio whose lead over 1 shrank by more than the tolerance."""
    return [
        f"{name}: {ratios[name]:.2f}x, and it was {before:.2f}x"
        for name, before in baseline.items()
        if name in ratios and ratios[name] < before - tolerance * max(before - 1, 0.2)
    ]


if __name__ == "__main__":
    tyro.cli(Benchmarks).run()
