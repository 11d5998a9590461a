"""Labelled bars on the error stream: the output holds results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Bars = Callable[[str], Callable[[int, int], None]]
"""Makes a bar of its label, which is called with what is done and what there is."""


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Bars that are shown for the length of the block."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:

        def bar(label: str) -> Callable[[int, int], None]:
            task = progress.add_task(label, total=None)

            def report(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            return report

        yield bar
