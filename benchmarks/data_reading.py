"""Examples per second from a folder of files and from shards of the same data.

    python -m benchmarks.data_reading                     # objects made here
    python -m benchmarks.data_reading --data DATA --side 64

One process without workers and caches; every reading takes the same examples. "cold"
asks the kernel to forget the files' pages before (posix_fadvise), "warm" reads what was
just read. Ratios are of one run.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from unseen.data.formats import open_dataset, open_reader
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.data.shard_writer import ShardSettings, write_shards
from unseen.data.streaming import ExampleStream


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time a training stream over a data set and over its shards."""

    data: Path | None = None
    """A data set of any format; procedural objects if not given."""
    objects: int = 200
    """Procedural objects to make, with 16 views of 64x64 pixels."""
    side: int | None = None
    """Frame images to squares of so many pixels, in both."""
    size_mb: float = 8.0
    """Megabytes a shard."""
    examples: int = 200
    """Examples (1 context and 2 target views) per reading."""
    buffer: int = 64
    """Scenes that the reading shard by shard shuffles at a time."""

    def run(self) -> None:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            data = self.data or _make(Path(folder) / "data", self.objects)
            shards = Path(folder) / "shards"
            settings = ShardSettings(self.size_mb, self.side)
            begin = time.perf_counter()
            manifest = write_shards(open_reader(data), shards, settings)
            packing = time.perf_counter() - begin
            table = Table("source", "order")
            for name in ("cold", "warm"):
                table.add_column(f"{name}, examples/s", justify="right")
                table.add_column("ratio", justify="right")
            first: list[float] = []
            for source, order, buffer in (
                (data, "all objects", None),
                (shards, "all objects", None),
                (shards, "shard by shard", self.buffer),
            ):
                speeds = self._measure(source, buffer)
                first = first or speeds
                cells = [
                    cell
                    for speed, base in zip(speeds, first, strict=True)
                    for cell in (f"{speed:.1f}", f"{speed / base:.2f}")
                ]
                name = "folder" if source is data else "shards"
                table.add_row(name, order, *cells)
        console = Console()
        console.print(table)
        scenes = sum(len(shard.scenes) for shard in manifest.shards)
        console.print(
            f"{scenes} scenes in {len(manifest.shards)} shards, packed in "
            f"{packing:.1f} s by this process. Speeds are those of the clock: compare "
            f"them within one run, on a machine that does nothing else."
        )

    def _measure(self, source: Path, buffer: int | None) -> list[float]:
        """Examples per second, cold and then warm."""
        dataset = open_dataset(source, depths=False, side=self.side)
        stream = ExampleStream([dataset], 1, 2, seed=0, buffer=buffer)
        _forget(source)
        speeds = []
        for _ in range(2):
            begin = time.perf_counter()
            for index in range(self.examples):
                stream.example(index)
            speeds.append(self.examples / (time.perf_counter() - begin))
        return speeds


def _make(folder: Path, objects: int) -> Path:
    write_procedural(folder, objects, ProceduralSettings(16, 64, depth=False))
    return folder


def _forget(folder: Path) -> None:
    """Drop the files' pages from the page cache; they have to be on the disk first."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
