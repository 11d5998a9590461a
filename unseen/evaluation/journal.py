"""The folder of an evaluation: what is measured is kept scene by scene.

    DIR/settings.json     what is measured, and how
    DIR/scenes.jsonl      one line per method and scene, appended when it is complete
    DIR/features/         features of a scene's images, for distances between sets
    DIR/pictures/         PNG files of the scenes that are shown

A line is appended after the files that belong to it, and synced, so that an evaluation
that was killed loses the scene that it was at and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unseen.configuration import read_json, write_json
from unseen.errors import UserError
from unseen.files import (
    TEMPORARY,
    atomic_file,
    make_folder,
    read_tensors,
    write_errors,
    write_tensors,
)

SETTINGS, SCENES = "settings.json", "scenes.jsonl"

Key = tuple[str, str, str]
"""Label of the method, name of the data set, name of the scene."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What was measured of one scene by one method; JSON values."""

    method: str
    data: str
    scene: str
    numbers: dict[str, Any]
    features: str | None = None
    """Path of the features below the folder."""

    @property
    def key(self) -> Key:
        return (self.method, self.data, self.scene)


class Journal:
    """Opens the folder of an evaluation, new or begun.

    Args:
        folder: Made where it is missing.
        settings: JSON values that determine every number.

    Raises:
        UserError: the folder holds something else, or an evaluation with other
            settings; or it cannot be written.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        # What JSON makes of the settings is what will be read back.
        settings = json.loads(json.dumps(settings))
        # A kill within a file leaves a temporary one.
        for leftover in self.folder.rglob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
        if (self.folder / SETTINGS).is_file():
            _require_same(self.folder, read_json(self.folder / SETTINGS), settings)
        else:
            make_folder(self.folder)
            if any(self.folder.iterdir()):
                raise UserError(
                    f"{self.folder} holds files that are no evaluation: name a new or "
                    "an empty folder with --out."
                )
            write_json(self.folder / SETTINGS, settings)
        self.records = self._read()

    def _read(self) -> dict[Key, Record]:
        """The complete lines; what a kill left of another one is cut off."""
        path = self.folder / SCENES
        if not path.is_file():
            return {}
        whole, found = 0, {}
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            found[record.key] = record
        with write_errors(path), open(path, "r+b") as file:
            file.truncate(whole)
        return found

    def add(self, record: Record) -> None:
        """Append a record whose files are written."""
        path = self.folder / SCENES
        with write_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[record.key] = record

    def write_features(self, key: Key, features: dict[str, Tensor]) -> str:
        """Keep the features of a scene's images; returns their path for the record."""
        name = f"features/{file_name(*key)}.safetensors"
        write_tensors(self.folder / name, features, {})
        return name

    def read_features(self, record: Record) -> dict[str, Tensor]:
        """The features of a record; none where it has none."""
        if record.features is None:
            return {}
        return read_tensors(self.folder / record.features)[0]

    def write_picture(self, name: str, image: Float[Tensor, "3 height width"]) -> str:
        """Keep an image in [0, 1] as PNG; returns its path below the folder."""
        path = f"pictures/{name}.png"
        pixels = (image.detach().clamp(0, 1) * 255).round().byte().cpu()
        with atomic_file(self.folder / path) as temporary:
            Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0))).save(
                temporary
            )
        return path


def file_name(*parts: str) -> str:
    """Names joined to one that is a file name on every system, and unique."""
    return "=".join(
        "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):x}" for c in part)
        for part in parts
    )


def _require_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]
    if different:
        raise UserError(
            f"{folder} holds an evaluation with other settings "
            f"({', '.join(sorted(different))}): name another folder with --out, or "
            "give the settings that it was begun with."
        )
