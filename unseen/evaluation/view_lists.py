"""Published lists of which views of a scene are given and which are asked for."""

from __future__ import annotations

import json
from pathlib import Path

from unseen.errors import UserError


def read_source_views(path: str | Path) -> dict[str, int]:
    """The given view of each object, from lines of `category object view`.

    This is the layout of the list that pixelNeRF, VisionNeRF and LFN share for the
    renderings of Kato et al. (`src_dvr.txt`). Objects are found by their name, and by
    `category/object`.

    Raises:
        UserError: the file cannot be read, or a line is something else.
    """
    views: dict[str, int] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or not words[2].isdigit():
            raise UserError(
                f"line {number} of {path} is not `category object view`: name the list "
                "of source views that pixelNeRF published (src_dvr.txt)."
            )
        category, name, view = words
        views[f"{category}/{name}"] = views[name] = int(view)
    if not views:
        raise UserError(f"{path} lists no objects: name the list of source views.")
    return views


Frames = tuple[list[int], list[int]]
"""The given frames, and those that are asked for."""


def read_frame_index(path: str | Path) -> dict[str, Frames | None]:
    """Given and wanted frames of each clip, from pixelSplat's evaluation index.

    It is a JSON object of clip to `{"context": [...], "target": [...]}`, or to null
    for clips that have no place in the evaluation.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        entries = json.loads(_read(path))
        return {
            str(key): None
            if entry is None
            else (_frames(entry["context"]), _frames(entry["target"]))
            for key, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no evaluation index of clips to context and target frames: "
            "name the JSON file that pixelSplat published."
        ) from error


def _frames(values: list) -> list[int]:
    if not values or not all(type(v) is int and v >= 0 for v in values):
        raise ValueError("frames are whole numbers from 0 on")
    return list(values)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read: name the file of the protocol's views."
        ) from error
