"""Packs any data set into shards, in an order that a kill does not change."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from unseen.data.dataset import PosedDataset, PosedReader
from unseen.data.framing import FramedDataset
from unseen.data.manifest import Split
from unseen.data.shard_scene import PackedScene, pack_scene
from unseen.data.shards import (
    FINAL,
    JOURNAL,
    Shard,
    ShardManifest,
    ShardScene,
    hash_file,
    read_journal,
    read_shard_manifest,
    to_entry,
)
from unseen.errors import UserError
from unseen.files import atomic_file, make_folder, write_errors


@dataclasses.dataclass(frozen=True)
class ShardSettings:
    """A shard ends with the scene that brings it to `size_mb` (10^6 bytes).

    With `side` images are framed (`FramedDataset`): squares of so many pixels.
    """

    size_mb: float = 256.0
    side: int | None = None

    def __post_init__(self) -> None:
        if not self.size_mb > 0 or (self.side is not None and self.side < 1):
            raise UserError("The size of shards and the side of images are positive.")


@dataclasses.dataclass(frozen=True)
class _Unreadable:
    """A scene that could not be read, and why."""

    scene: str
    reason: str


def write_shards(
    dataset: PosedReader,
    out: str | Path,
    settings: ShardSettings,
    splits: Mapping[str, Split] | None = None,
    workers: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ShardManifest:
    """Write shards and, at last, their manifest.

    Scenes keep their order. One that cannot be read is left out and listed in the
    manifest. `splits` says to which split scenes belong. `workers` processes encode
    (0: this one); the bytes do not depend on it. `on_progress` is told the number of
    scenes that have been dealt with.

    Calling again after an interruption keeps the whole shards, and ends with the same
    bytes as if there had been none; where all is done already, nothing is.

    Raises UserError for a folder that holds something else, or shards that were made
    with other settings or of other data, and where no scene can be read.
    """
    out = Path(out)
    manifest = ShardManifest(_describe(dataset, settings))
    if (out / FINAL).is_file():
        found = read_shard_manifest(out)
        _require_same(out, found, manifest)
        return found
    shards = _resume(out, manifest)
    ids = dataset.scene_ids
    done = sum(len(shard.scenes) + len(shard.skipped) for shard in shards)
    side = settings.side
    framed = dataset if side is None else FramedDataset(dataset, side)
    packed = _pack_from(framed, done, workers)
    while done < len(ids):
        # What is left of a killed run has no record, and is written anew.
        place = out / f"{len(shards):06d}.tar"
        scenes, skipped = [], []
        with atomic_file(place) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                while done < len(ids) and tar.offset < settings.size_mb * 1e6:
                    scene = next(packed)
                    if isinstance(scene, _Unreadable):
                        skipped.append((scene.scene, scene.reason))
                    else:
                        split = (splits or {}).get(scene.id)
                        place_in = (scene.id, tar.offset, scene.views, split)
                        scenes.append(ShardScene(*place_in, dataset.caption(done)))
                        _add(tar, scene)
                    done += 1
                    on_progress(done)
            size, digest = temporary.stat().st_size, hash_file(temporary)
        shard = Shard(place.name, size, digest, tuple(scenes), tuple(skipped))
        shards.append(shard)
        _record(out, shard)
    if not any(shard.scenes for shard in shards):
        raise UserError(
            f"No scene of {dataset.root} can be read: {shards[0].skipped[0][1]}"
        )
    return _finish(out, dataclasses.replace(manifest, shards=tuple(shards)))


def _describe(dataset: PosedReader, settings: ShardSettings) -> dict[str, Any]:
    """The settings, and what tells one data set from another."""
    scenes = [
        f"{scene} {_count_views(dataset, index)}\n"
        for index, scene in enumerate(dataset.scene_ids)
    ]
    return {
        "source": dataset.root.resolve().name,
        "source_format": dataset.format_name,
        "scenes": len(scenes),
        "scenes_sha256": hashlib.sha256("".join(scenes).encode()).hexdigest(),
        "size_mb": float(settings.size_mb),
        "side": settings.side,
    }


def _count_views(dataset: PosedReader, index: int) -> int:
    try:
        return dataset.num_views(index)
    except UserError:
        # Packing it will say what is wrong.
        return 0


def _require_same(out: Path, found: ShardManifest, wanted: ShardManifest) -> None:
    for name, value in wanted.settings.items():
        if found.settings.get(name) != value:
            raise UserError(
                f"{out} holds shards that were made with other settings or of other "
                f"data ({name} is {found.settings.get(name)!r} there and {value!r} "
                f"now); choose another folder."
            )


def _resume(out: Path, manifest: ShardManifest) -> list[Shard]:
    """The shards that are whole; the folder is made ready for the next one."""
    make_folder(out)
    found = read_journal(out)
    if found is None and any(p.name != JOURNAL for p in out.iterdir()):
        raise UserError(
            f"{out} holds files that are no shards of this program; choose an empty "
            f"or a new folder."
        )
    shards: list[Shard] = []
    if found is not None:
        _require_same(out, found, manifest)
        for shard in found.shards:
            path = out / shard.name
            if not path.is_file() or path.stat().st_size != shard.size:
                break
            shards.append(shard)
    for leftover in out.glob(".partial-*.tar"):
        leftover.unlink()
    # Started anew from what is known, no torn line stays behind.
    lines = [manifest.header(), *(to_entry(shard) for shard in shards)]
    with atomic_file(out / JOURNAL) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return shards


def _record(out: Path, shard: Shard) -> None:
    with write_errors(out / JOURNAL), open(out / JOURNAL, "a") as file:
        file.write(json.dumps(to_entry(shard)) + "\n")


def _finish(out: Path, manifest: ShardManifest) -> ShardManifest:
    content = manifest.header() | {"shards": [to_entry(s) for s in manifest.shards]}
    with atomic_file(out / FINAL) as temporary:
        temporary.write_text(json.dumps(content) + "\n")
    with write_errors(out):
        (out / JOURNAL).unlink(missing_ok=True)
    return manifest


def _add(tar: tarfile.TarFile, scene: PackedScene) -> None:
    """Members whose bytes say nothing of when, where and by whom they were made."""
    for name, content in scene.members:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _pack_from(
    dataset: PosedDataset, first: int, workers: int
) -> Iterator[PackedScene | _Unreadable]:
    """Encoded scenes from `first` on, in order, a few of them ahead of time."""
    return iter(
        DataLoader(
            _Packing(dataset),
            batch_size=None,
            sampler=range(first, len(dataset)),
            num_workers=workers,
            collate_fn=_unchanged,
        )
    )


class _Packing(TorchDataset):
    """Scenes, encoded; errors of the user are values, so that they cross processes."""

    def __init__(self, dataset: PosedDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> PackedScene | _Unreadable:
        try:
            return pack_scene(self._dataset, index)
        except UserError as error:
            return _Unreadable(self._dataset.scene_ids[index], str(error))


def _unchanged(item: Any) -> Any:
    return item
