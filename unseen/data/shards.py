"""Shards: a data set as a few large tar files, to be read in sequence or by offset.

    OUT/000000.tar, ...   per scene KEY.cameras.json, then for each view KEY.0000.png,
                          KEY.0000.mask.png (8 bit) and KEY.0000.depth.png (16 bit)
    OUT/shards.json       the manifest, written last
    OUT/shards.jsonl      while the shards are made: a header, a line per whole shard

This is the layout of the `webdataset` library, with a scene as one sample. Members are
in the order above and headers are 512 bytes each (ustar), so that the sizes of the
members, which KEY.cameras.json lists, are their offsets; the manifest has the offset of
each scene.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unseen.data.manifest import Split
from unseen.errors import UserError

FORMAT = "unseen-shards"
VERSION = 1
FINAL = "shards.json"
JOURNAL = "shards.jsonl"
CAMERAS = "cameras.json"
BLOCK = 512
"""Bytes: tar's unit. A member is a header of one and its bytes, in whole blocks."""


@dataclasses.dataclass(frozen=True)
class ShardScene:
    """One scene of a shard: the offset in bytes of its first header, and its views.

    `caption` says in words what it is, where the data told."""

    id: str
    offset: int
    views: int
    split: Split | None = None
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One tar file: its length in bytes, SHA-256 and scenes.

    `skipped` lists (scene, reason) of what could not be read between the scenes.
    """

    name: str
    size: int
    sha256: str
    scenes: tuple[ShardScene, ...]
    skipped: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class ShardManifest:
    """What the shards hold, and the settings that they were made with."""

    settings: dict[str, Any]
    shards: tuple[Shard, ...] = ()

    def header(self) -> dict[str, Any]:
        """What the manifest and the journal begin with."""
        return {"format": FORMAT, "version": VERSION, "settings": self.settings}


def member_offsets(sizes: Sequence[int]) -> list[int]:
    """Offsets of the bytes of consecutive members, from the first one's header."""
    offsets, position = [], 0
    for size in sizes:
        offsets.append(position + BLOCK)
        position += BLOCK + -(-size // BLOCK) * BLOCK
    return offsets


def read_shard_manifest(root: Path) -> ShardManifest:
    """The manifest of finished shards.

    Raises UserError where they are not finished, and for a manifest that is not ours.
    """
    path = root / FINAL
    if not path.is_file():
        raise UserError(
            f"The shards in {root} are not finished; run the command that makes them "
            f"again."
        )
    try:
        content = json.loads(path.read_text())
        return _parse(content, content["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a manifest of this program ({error}); make the shards "
            f"again."
        ) from error


def read_journal(root: Path) -> ShardManifest | None:
    """What is there of unfinished shards; None where none were begun.

    A torn last line is dropped. Raises UserError for a journal that is not ours.
    """
    path = root / JOURNAL
    if not path.is_file():
        return None
    lines: list[Any] = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    if not lines:
        return None
    try:
        return _parse(lines[0], lines[1:])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a journal of this program; remove the folder {root} and "
            f"start again."
        ) from error


def _parse(header: dict[str, Any], shards: list[dict[str, Any]]) -> ShardManifest:
    if (header["format"], header["version"]) != (FORMAT, VERSION):
        raise ValueError(f"it is {header['format']!r}, version {header['version']!r}")
    parsed = [
        Shard(
            entry["name"],
            entry["size"],
            entry["sha256"],
            tuple(ShardScene(*scene) for scene in entry["scenes"]),
            tuple((scene, reason) for scene, reason in entry["skipped"]),
        )
        for entry in shards
    ]
    if any("/" in shard.name or ".." in shard.name for shard in parsed):
        raise ValueError("it names a file outside of its folder")
    return ShardManifest(header["settings"], tuple(parsed))


def to_entry(shard: Shard) -> dict[str, Any]:
    """A shard as JSON: its scenes as short rows, for there may be many."""
    scenes = [list(dataclasses.astuple(scene)) for scene in shard.scenes]
    return dataclasses.asdict(shard) | {"scenes": scenes}


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_shards(root: Path) -> Iterator[tuple[Shard, str | None]]:
    """Read every shard; (shard, what is wrong with it or None), one at a time.

    Raises UserError where there is no manifest of finished shards.
    """
    for shard in read_shard_manifest(root).shards:
        path = root / shard.name
        if not path.is_file():
            yield shard, "is missing"
        elif path.stat().st_size != shard.size:
            yield shard, f"has {path.stat().st_size} bytes instead of {shard.size}"
        else:
            same = hash_file(path) == shard.sha256
            yield shard, None if same else "has other bytes than were written"
