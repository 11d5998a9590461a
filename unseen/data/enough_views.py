"""Which scenes have views enough for an example, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError

NAMED = 3
"""Scenes that a report names."""


class EnoughViews:
    """The scenes of data sets that have at least `needed` views.

    All are counted at once, so that a scene with too few ends nothing later. One whose
    views cannot be counted has none.
    """

    def __init__(self, datasets: Sequence[PosedDataset], needed: int) -> None:
        self._datasets, self._needed = datasets, needed
        self._counts = [
            [_count_views(dataset, index) for index in range(len(dataset))]
            for dataset in datasets
        ]

    def scenes(self, number: int) -> list[int]:
        """Indices of those of one data set, rising."""
        counts = enumerate(self._counts[number])
        return [index for index, count in counts if count >= self._needed]

    def runs(self, number: int) -> list[int]:
        """How many of them lie one after another in each file (`PosedDataset.runs`)."""
        counts = iter(self._counts[number])
        return [
            sum(next(counts) >= self._needed for _ in range(run))
            for run in self._datasets[number].runs
        ]

    def require(self, numbers: Sequence[int]) -> None:
        """Refuse data sets, taken together, that have none.

        Raises:
            UserError: no scene has enough views; it says how many there are.
        """
        counts = [count for number in numbers for count in self._counts[number]]
        most = max(counts, default=0)
        if most < self._needed:
            roots = ", ".join(str(self._datasets[number].root) for number in numbers)
            raise UserError(
                f"no scene of {roots} has the {self._needed} views that an example "
                f"takes (the most is {most}): lower --num-target, or give data with "
                "more views."
            )

    def report(self) -> str | None:
        """One line on the scenes that have fewer; None where all have enough."""
        names = [
            name
            for dataset, counts in zip(self._datasets, self._counts, strict=True)
            for name, count in zip(dataset.scene_ids, counts, strict=True)
            if count < self._needed
        ]
        if not names:
            return None
        total = sum(len(counts) for counts in self._counts)
        have, are = ("has", "is") if len(names) == 1 else ("have", "are")
        more = ", ..." if len(names) > NAMED else ""
        return (
            f"{len(names)} of {total} scenes {have} fewer than {self._needed} views "
            f"and {are} left out: {', '.join(names[:NAMED])}{more}"
        )


def _count_views(dataset: PosedDataset, index: int) -> int:
    try:
        return dataset.num_views(index)
    except UserError:
        return 0
