"""The list of what a data set of ours holds, written so that a kill loses nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from unseen.errors import UserError

FORMAT = "unseen-srn"
VERSION = 1
FINAL = "manifest.json"
JOURNAL = "manifest.jsonl"
TEMPORARY = ".unfinished-"
"""Prefix of folders that are still being written; no reader looks into them."""

Split = Literal["train", "test"]


def split_of(name: str) -> Split:
    """Which side an object is on: every fifth, by a hash of its name, is for testing.

    `name` is the file name of a mesh (without folders) or `category-seed`. The hash is
    the SHA-256 of the name in UTF-8, read as one big-endian number.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    return "test" if number % 5 == 0 else "train"


@dataclasses.dataclass(frozen=True)
class ObjectRecord:
    """One object of a data set.

    `source` names the file or the seed that it came from and `sha256` is the hash of
    that source's bytes (of its name for the procedural world).
    """

    id: str
    source: str
    sha256: str
    category: str
    split: Split
    views: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a data set holds and how it was made.

    `settings` are the generator's, `radius` is that of the sphere around the origin
    that holds every object, `depth_unit` is the depth in world units of one step of
    the 16-bit depth images, `skipped` lists (source, reason) of what could not be used.
    """

    settings: dict[str, Any]
    radius: float
    depth_unit: float
    objects: tuple[ObjectRecord, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def read_manifest(root: str | Path) -> Manifest | None:
    """The manifest in `root`, finished or in the making; None where there is none.

    Raises UserError for a manifest that is not ours or of a later version.
    """
    root = Path(root)
    final, journal = root / FINAL, root / JOURNAL
    if final.is_file():
        try:
            content = json.loads(final.read_text())
            return _parse(content, content["objects"], content["skipped"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{final} is not a manifest of this program ({error}); "
                f"remove it and make the data set again."
            ) from error
    if journal.is_file():
        return _read_journal(journal)
    return None


def _parse(header: dict[str, Any], objects: list, skipped: list) -> Manifest:
    if header["format"] != FORMAT:
        raise ValueError(f"its format is {header['format']!r}")
    if header["version"] != VERSION:
        raise ValueError(f"its version is {header['version']}, not {VERSION}")
    return Manifest(
        header["settings"],
        float(header["radius"]),
        float(header["depth_unit"]),
        tuple(ObjectRecord(**entry) for entry in objects),
        tuple((source, reason) for source, reason in skipped),
    )


def _read_journal(path: Path) -> Manifest:
    """A header line, then one line per object; a torn last line is dropped."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    try:
        objects = [line["object"] for line in lines[1:] if "object" in line]
        skipped = [line["skipped"] for line in lines[1:] if "skipped" in line]
        return _parse(lines[0], objects, skipped)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a journal of this program; remove the folder "
            f"{path.parent} and start again."
        ) from error


class ManifestWriter:
    """Writes a manifest object by object; opening it again continues.

    While a data set grows, `manifest.jsonl` gets a line per object. `finish` replaces
    it with `manifest.json`. A folder that was begun with other settings is refused, so
    is a folder that holds anything else.
    """

    def __init__(
        self,
        root: str | Path,
        settings: dict[str, Any],
        radius: float = 1.0,
        depth_unit: float = 1e-4,
    ) -> None:
        self.root = Path(root)
        # What JSON makes of the settings is what will be read back.
        settings = json.loads(json.dumps(settings))
        self._manifest = Manifest(settings, radius, depth_unit)
        self._objects: list[ObjectRecord] = []
        self._skipped: list[tuple[str, str]] = []
        with _writing(self.root):
            self._open()

    def _open(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root} is a file; name a folder to write.")
        self.root.mkdir(parents=True, exist_ok=True)
        found = read_manifest(self.root)
        if found is None and any(self.root.iterdir()):
            raise UserError(
                f"{self.root} holds files that are no data set of this program; "
                f"choose an empty or a new folder."
            )
        if found is not None:
            self._require_same(found)
            self._objects = list(found.objects)
            self._skipped = list(found.skipped)
        for leftover in self.root.glob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._rewrite_journal()

    def _require_same(self, found: Manifest) -> None:
        ours = self._manifest
        names = sorted({*found.settings, *ours.settings})
        different = [
            f"{name} is {found.settings.get(name)!r} there and "
            f"{ours.settings.get(name)!r} now"
            for name in names
            if found.settings.get(name) != ours.settings.get(name)
        ]
        if found.radius != ours.radius or found.depth_unit != ours.depth_unit:
            different.append("the scale differs")
        if different:
            raise UserError(
                f"{self.root} was made with other settings ({'; '.join(different)}); "
                f"choose another folder or the same settings."
            )

    @property
    def manifest(self) -> Manifest:
        """What has been recorded so far."""
        return dataclasses.replace(
            self._manifest,
            objects=tuple(self._objects),
            skipped=tuple(self._skipped),
        )

    @property
    def done(self) -> set[str]:
        """Ids of the objects that have been recorded."""
        return {record.id for record in self._objects}

    def add(self, record: ObjectRecord) -> None:
        """Record an object whose folder is complete."""
        self._objects.append(record)
        self._append({"object": dataclasses.asdict(record)})

    def skip(self, source: str, reason: str) -> None:
        """Record a source that could not be used, and why."""
        self._skipped.append((source, reason))
        self._append({"skipped": [source, reason]})

    def finish(self) -> Manifest:
        """Write `manifest.json`, sorted by id, in place of the journal."""
        self._objects.sort(key=lambda record: record.id)
        content = _header(self._manifest) | {
            "objects": [dataclasses.asdict(record) for record in self._objects],
            "skipped": [list(entry) for entry in self._skipped],
        }
        with _writing(self.root):
            _replace(self.root / FINAL, json.dumps(content, indent=1) + "\n")
            (self.root / JOURNAL).unlink(missing_ok=True)
        return self.manifest

    def _append(self, entry: dict[str, Any]) -> None:
        with _writing(self.root), open(self.root / JOURNAL, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def _rewrite_journal(self) -> None:
        """Start the journal anew from what is known: no torn line stays behind."""
        entries = [_header(self._manifest)]
        entries += [{"object": dataclasses.asdict(r)} for r in self._objects]
        entries += [{"skipped": list(entry)} for entry in self._skipped]
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        _replace(self.root / JOURNAL, text)
        (self.root / FINAL).unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Say in a sentence why a folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write to {root}: {error.strerror}; free some space or choose "
            f"another folder."
        ) from error


def _header(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": manifest.settings,
        "radius": manifest.radius,
        "depth_unit": manifest.depth_unit,
    }


def _replace(path: Path, text: str) -> None:
    """Write a file so that no reader ever sees half of it."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    os.replace(temporary, path)
