"""A quick look at the folders of a data set, however large it is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

LOOKED_AT = 20
"""Folders of one folder that a reader looks into before it says what it sees."""


def sample_folders(path: Path, depth: int = 1) -> Iterator[Path]:
    """`path` itself and the first few folders in it, down to `depth` levels.

    Hidden folders and macOS' leftovers are passed over.
    """
    yield path
    if depth == 0 or not path.is_dir():
        return
    with os.scandir(path) as entries:
        folders = (
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )
        chosen = list(itertools.islice(folders, LOOKED_AT))
    for folder in sorted(chosen):
        yield from sample_folders(folder, depth - 1)


def list_folders(path: Path) -> list[Path]:
    """All folders in `path` by name, without hidden ones and macOS' leftovers."""
    with os.scandir(path) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        ]
    return [path / name for name in sorted(names)]


def scene_folders(root: Path, is_scene: Callable[[Path], bool]) -> list[Path]:
    """`root` itself if it is the folder of a scene, or else those in it, by name."""
    if is_scene(root):
        return [root]
    return [path for path in list_folders(root) if is_scene(path)]
