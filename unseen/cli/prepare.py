"""What a method makes of the training data, before `unseen train` begins."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from unseen.cli.progress import labelled_bars

if TYPE_CHECKING:
    from unseen.data.streaming import ExampleStream
    from unseen.methods.method import Method
    from unseen.training.run_folder import Run


def prepare(run: Run, stream: ExampleStream, method: Method, out: Path) -> None:
    """Let a method prepare, all processes together; the first one shows its progress.

    None goes on before all are done. What it keeps lies in `out`/prepared, or where the
    run says.
    """
    from unseen.methods.method import TrainingScenes
    from unseen.training import distributed

    members = [(d, k) for d in stream.datasets for k in range(len(d))]
    scenes = TrainingScenes(
        tuple(f"{d.root.name}/{d.scene_ids[k]}" for d, k in members),
        lambda number: members[number][0].load(members[number][1]),
    )
    folder = out / "prepared" if run.prepared is None else Path(run.prepared)
    if distributed.rank() == 0:
        with labelled_bars() as bars:
            # The bar appears with the first report: most methods prepare nothing.
            bar = functools.cache(lambda: bars("prepare"))
            method.prepare(scenes, folder, lambda done, total: bar()(done, total))
    else:
        method.prepare(scenes, folder)
    distributed.wait()
