"""`unseen data shard`: pack data sets into shards, and check shards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.data.manifest import Split
    from unseen.data.shards import ShardManifest


@dataclasses.dataclass(frozen=True)
class Shard:
    """Pack any data set that can be read into a few large tar files (webdataset).

    Training reads them like the data set itself, with fewer and larger reads. Run the
    same command again to continue after an interruption. Finished shards are compared
    with their checksums by `unseen data shard OUT --verify`.
    """

    data: tyro.conf.Positional[str]
    """The data set to pack, or the shards to verify."""
    out: tyro.conf.Positional[str | None] = None
    """Folder to write."""
    size_mb: float = 256.0
    """A shard ends with the scene that brings it to so many megabytes."""
    side: int | None = None
    """Average the square in the middle of every image down to so many pixels a side;
    without, images stay as they are."""
    workers: int = 2
    """Processes that read and encode; 0 does it in this one."""
    verify: bool = False
    """Read the shards in DATA and compare their checksums; write nothing."""

    def run(self) -> None:
        if self.verify:
            _verify(Path(self.data))
        elif self.out is None:
            raise UserError("Name a folder to write the shards to, or give --verify.")
        else:
            self._write(Path(self.data), Path(self.out))

    def _write(self, data: Path, out: Path) -> None:
        from rich.console import Console
        from rich.progress import Progress

        from unseen.data.formats import find_reader, open_reader
        from unseen.data.shard_writer import ShardSettings, write_shards

        settings = ShardSettings(self.size_mb, self.side)
        dataset = open_reader(data)
        splits: dict[str, Split] = {}
        for split in find_reader(data).splits(data):
            splits |= dict.fromkeys(open_reader(data, split).scene_ids, split)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("scenes", total=len(dataset))
            manifest = write_shards(
                dataset,
                out,
                settings,
                splits,
                self.workers,
                lambda done: progress.update(task, completed=done),
            )
            progress.update(task, completed=len(dataset))
        for problem in dataset.problems:
            print(f"{problem.path}: {problem.reason}")
        _report(manifest, out)


def _report(manifest: ShardManifest, out: Path) -> None:
    for shard in manifest.shards:
        for scene, reason in shard.skipped:
            print(f"skipped {scene}: {reason}")
    scenes = sum(len(shard.scenes) for shard in manifest.shards)
    megabytes = sum(shard.size for shard in manifest.shards) / 1e6
    print(
        f"{scenes} scenes in {len(manifest.shards)} shards ({megabytes:.1f} MB): {out}"
    )


def _verify(root: Path) -> None:
    from unseen.data.shards import verify_shards

    count, faults = 0, []
    for shard, fault in verify_shards(root):
        count += 1
        if fault is not None:
            faults.append(f"{root / shard.name} {fault}")
            print(faults[-1])
    if faults:
        raise UserError(
            f"{len(faults)} of {count} shards are damaged; remove {root} and make the "
            f"shards again."
        )
    print(f"all {count} shards in {root} are as they were written")
