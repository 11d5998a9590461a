"""`unseen view` on a distillation's folder: its scene, anew with every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from unseen.distillation.run_folder import CHECKPOINT, read_snapshot
from unseen.errors import UserError
from unseen.viewer.sample import Sample, Sphere
from unseen.viewer.studio import Exhibition

UNIT_SPHERE = Sphere(torch.zeros(3), 1.0)
"""What the cameras of a distillation look at, however small its scene is as yet."""


def open_run(folder: Path) -> Exhibition:
    """The scene of the last checkpoint, which follows the run; see `read_snapshot`."""
    run = _Run(folder)
    return Exhibition(folder.resolve().name, run.read(), newer=run.newer)


class _Run:
    """Knows which checkpoint was read last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[int, ...] | None = None

    def read(self) -> list[Sample]:
        """The scene of the checkpoint that is there."""
        self._last = self._mark()
        found = read_snapshot(self._folder)
        provenance = {**found.settings, "step": found.step}
        name = f"step {found.step}"
        return [Sample(name, found.scene, None, provenance, UNIT_SPHERE)]

    def newer(self) -> Sequence[Sample] | None:
        """The scene of another checkpoint than that of the last call, if there is one.

        A run that is started anew removes its files first: nothing is newer then.
        """
        if self._mark() in (None, self._last):
            return None
        try:
            return self.read()
        except UserError:
            return None

    def _mark(self) -> tuple[int, ...] | None:
        """What differs from one checkpoint to the next, which takes its place."""
        try:
            found = (self._folder / CHECKPOINT).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
