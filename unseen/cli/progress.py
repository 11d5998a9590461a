"""Progress bars of commands."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.progress

Bars = Callable[[str], Callable[[int, int], None]]
"""Makes a bar of its label, which is called with what is done and what there is."""


class Bar:
    """A progress bar whose length is known with the first report."""

    def __init__(self, progress: rich.progress.Progress, label: str) -> None:
        self._progress = progress
        progress.start()
        self._task = progress.add_task(label, total=None)

    def report(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[rich.progress.Progress]:
    """Bars on the error stream: the output holds the paths alone.

    Nothing is drawn before the first bar, so that the sentence of an early error stands
    alone.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    progress = Progress(*columns, console=Console(stderr=True))
    try:
        yield progress
    finally:
        # Bars that were never drawn would end in an empty line all the same.
        if progress.live.is_started:
            progress.stop()


@contextmanager
def labelled_bars() -> Iterator[Bars]:
    """The same bars as a function of their labels, for the length of the block."""
    with progress_bars() as progress:
        yield lambda label: Bar(progress, label).report


@contextmanager
def one_line_warnings(progress: rich.progress.Progress) -> Iterator[None]:
    """Print every warning for the user once, in one line; hide those of libraries."""
    from unseen.data.image_input import PictureWarning
    from unseen.model import SampleWarning

    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        text = str(message)
        if category in (PictureWarning, SampleWarning) and text not in said:
            said.add(text)
            progress.console.print(
                f"unseen: note: {text}", markup=False, highlight=False, soft_wrap=True
            )

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield
