"""What a run says while it trains: a JSONL file, TensorBoard, the terminal."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import rich.console
import rich.progress

from unseen.files import atomic_file


def read_log(path: Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """The entries of a `log.jsonl`, up to `last_step` where it is given.

    A line that a kill cut short is left out.
    """
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [e for e in entries if last_step is None or e["step"] <= last_step]


def format_duration(seconds: float) -> str:
    """12.3 s as '12s', two hours as '2h 00m'."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


class RunLog:
    """Writes the log of one run; a context manager.

    Args:
        folder: The run folder, which gets `log.jsonl` and `tensorboard/`.
        first_step: Steps that are done already; later entries of an earlier process,
            which a resumed run repeats, are removed.
        steps: Steps of the whole run.
    """

    def __init__(self, folder: Path, first_step: int, steps: int) -> None:
        self._path = folder / "log.jsonl"
        self._steps = steps
        self._first_step = first_step
        entries = read_log(self._path, first_step)
        with atomic_file(self._path) as temporary:
            lines = "".join(json.dumps(entry) + "\n" for entry in entries)
            temporary.write_text(lines, encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._tensorboard = _open_tensorboard(folder / "tensorboard", first_step)
        self._progress = _open_progress(sys.stdout.isatty())
        self._task = self._progress.add_task(
            "training", total=steps, completed=first_step, text=""
        )

    def __enter__(self) -> RunLog:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def advance(self, step: int) -> None:
        """Show that `step` steps are done."""
        self._progress.update(self._task, completed=step)

    def write(self, entry: dict[str, Any], seconds_left: float) -> None:
        """Write one entry: 'step' and named numbers."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            for name, value in entry.items():
                if name != "step":
                    self._tensorboard.add_scalar(name, value, entry["step"])
        # There is no loss when every step since the last entry was skipped.
        text = (
            f"loss {entry.get('loss', math.nan):.4g}"
            f"  {entry['examples_per_second']:.3g} examples/s"
            f"  {format_duration(seconds_left)} left"
        )
        self._progress.update(self._task, text=text)
        if self._progress.disable:
            print(f"step {entry['step']}/{self._steps}  {text}", flush=True)

    def say(self, sentence: str) -> None:
        """Print a sentence above the progress bar."""
        if self._progress.disable:
            print(sentence, flush=True)
        else:
            self._progress.console.print(sentence, highlight=False)


def _open_progress(terminal: bool) -> rich.progress.Progress:
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[text]}"),
        rich.progress.TimeElapsedColumn(),
    )
    return rich.progress.Progress(
        *columns, console=rich.console.Console(), disable=not terminal
    )


def _open_tensorboard(folder: Path, first_step: int) -> Any:
    """A TensorBoard writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)
