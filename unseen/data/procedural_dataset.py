"""Renders the procedural world to disk in the SRN layout."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from unseen.data.cameras import MARGIN, object_cameras
from unseen.data.manifest import Manifest, ManifestWriter, ObjectRecord, split_of
from unseen.data.procedural import CATEGORIES, make_object
from unseen.data.srn_layout import write_object
from unseen.errors import UserError


@dataclasses.dataclass(frozen=True)
class ProceduralSettings:
    """What decides every pixel of a procedural data set, but not how many objects."""

    views: int = 16
    size: int = 64
    seed: int = 0
    categories: tuple[str, ...] = CATEGORIES
    cameras: Literal["random", "spiral"] = "random"
    fov_range: tuple[float, float] = (30.0, 50.0)
    elevation_range: tuple[float, float] = (-5.0, 50.0)
    supersample: int = 2
    depth: bool = True

    def check(self) -> None:
        """Raise UserError for settings that make no data set."""
        unknown = [name for name in self.categories if name not in CATEGORIES]
        if unknown or not self.categories:
            raise UserError(
                f"There is no category {', '.join(unknown) or 'given'}; choose among "
                f"{', '.join(CATEGORIES)}."
            )
        for name in ("views", "size", "supersample"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} must be at least 1, not {getattr(self, name)}."
                )

    def depth_unit(self) -> float:
        """The step that fits the farthest depth into 16 bit."""
        farthest = MARGIN / math.sin(0.5 * math.radians(self.fov_range[0])) + 1
        return farthest / 65535


def write_procedural(
    root: str | Path, num: int, settings: ProceduralSettings, workers: int = 1
) -> Manifest:
    """Write `num` objects, taking the categories in turn; continue what was begun.

    Object number i is of category i mod the number of categories, with seed
    `settings.seed` * 1,000,000 + i; the same settings give the same files whatever the
    number of workers. Shows a progress bar.
    """
    settings.check()
    if num < 1 or workers < 1:
        raise UserError("Ask for at least one object and one worker.")
    root = Path(root)
    # `object_cameras` refuses bad ranges before anything is written.
    object_cameras(1, torch.Generator(), settings.cameras, *_ranges(settings))
    writer = ManifestWriter(
        root,
        {"generator": "procedural", **dataclasses.asdict(settings)},
        depth_unit=settings.depth_unit(),
    )
    records = [_record(index, settings) for index in range(num)]
    done = writer.done
    missing = []
    for record in records:
        if record.id in done:
            continue
        # Only whole folders bear an object's name: a kill came before its record.
        if (root / record.id).is_dir():
            writer.add(record)
        else:
            missing.append(record)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("objects", total=num, completed=num - len(missing))
        for record in _render_all(root, missing, settings, workers):
            writer.add(record)
            progress.advance(task)
    return writer.finish()


def _ranges(settings: ProceduralSettings) -> tuple[Any, Any]:
    return settings.fov_range, settings.elevation_range


def _record(index: int, settings: ProceduralSettings) -> ObjectRecord:
    category = settings.categories[index % len(settings.categories)]
    name = f"{category}-{settings.seed * 1_000_000 + index}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    return ObjectRecord(name, name, digest, category, split_of(name), settings.views)


def _render_all(
    root: Path,
    records: Sequence[ObjectRecord],
    settings: ProceduralSettings,
    workers: int,
) -> Iterator[ObjectRecord]:
    """Render, yielding records as they are finished."""
    if workers == 1:
        for record in records:
            yield _render(root, record, settings)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker
    )
    try:
        futures = [pool.submit(_render, root, r, settings) for r in records]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render(
    root: Path, record: ObjectRecord, settings: ProceduralSettings
) -> ObjectRecord:
    seed = int(record.id.rpartition("-")[2])
    generator = torch.Generator().manual_seed(int(record.sha256[:15], 16))
    cameras = object_cameras(
        settings.views, generator, settings.cameras, *_ranges(settings)
    )
    item = make_object(record.category, seed)
    views = item.render(cameras, settings.size, settings.supersample)
    if not settings.depth:
        views = dataclasses.replace(views, depths=None)
    write_object(root, record.id, views, settings.depth_unit())
    return record


def _start_worker() -> None:
    """One thread per worker, and none outlives a killed parent."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
