"""RealEstate10K as pixelSplat packs it: chunks of clips, each one `.torch` file.

    ROOT[/train,test]/000000.torch   torch.save of a list of clips: dicts with "key",
                                     "cameras" (view 18), "timestamps" (view) and
                                     "images", encoded JPEGs as uint8 tensors
    ROOT[/train,test]/index.json     which chunk holds which key; optional

Charatan et al., "pixelSplat" (CVPR 2024). ACID, DL3DV and others are packed alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from unseen.data.frame_dataset import (
    DecodedFrame,
    FoundScene,
    FrameDataset,
    Scene,
    decode_image,
    first_of_each,
)
from unseen.data.manifest import Split
from unseen.data.realestate10k import FAR, NEAR, convert_rows
from unseen.errors import UserError

INDEX = "index.json"
OPEN_CHUNKS = 8
"""Chunks that stay open; they are mapped into memory, not read."""


class PixelSplatDataset(FrameDataset):
    """Reads pixelSplat's chunks; a clip is a scene.

    A camera's 18 numbers are a row of RealEstate10K without its timestamp, converted
    as `RealEstate10KDataset` does, with the same near and far (0.7 and 10; pixelSplat
    itself starts from 0.1 and 1000). Images stay encoded until they are used.

    A chunk that cannot be read is left out with its clips; so is a clip whose numbers
    of cameras and images differ or whose entry lacks a part. Of two frames of one
    timestamp the second is left out. A key of index.json that no chunk holds is
    reported. `split` takes the chunks in ROOT/train or ROOT/test.
    """

    format_name: ClassVar[str] = "pixelSplat chunks"

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes open chunks of their own.
        return self.__dict__ | {"_chunks": {}}

    def _open(self, path: Path) -> list[dict[str, Any]]:
        """The clips of a chunk; the chunks that were used last stay open."""
        clips = self._chunks.pop(path, None) or _load_chunk(path)
        self._chunks[path] = clips
        if len(self._chunks) > OPEN_CHUNKS:
            del self._chunks[next(iter(self._chunks))]
        return clips

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder, or its folder train or test, has chunks."""
        return bool(_chunks(path, None))

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """The ones that ROOT has folders of."""
        names: tuple[Split, ...] = ("train", "test")
        return tuple(name for name in names if _chunks(path, name))

    def _find(self) -> Iterator[FoundScene]:
        self._places: dict[str, tuple[Path, int]] = {}
        self._chunks: dict[Path, list[dict[str, Any]]] = {}
        chunks = _chunks(self.root, self._split)
        for chunk in chunks:
            try:
                clips = self._open(chunk)
            except UserError as error:
                self._report(chunk, str(error), "scene")
                continue
            for position, clip in enumerate(clips):
                found = self._find_clip(chunk, position, clip)
                if found is not None:
                    yield found
        for folder in sorted({chunk.parent for chunk in chunks}):
            self._check_index(folder / INDEX)

    def _find_clip(self, chunk: Path, position: int, clip: Any) -> FoundScene | None:
        try:
            key, rows = str(clip["key"]), clip["cameras"].numpy().astype(np.float64)
            count, stamps = len(clip["images"]), clip["timestamps"].tolist()
            whole = rows.shape == (count, 18) and len(stamps) == count
        except (KeyError, TypeError, AttributeError):
            self._report(chunk, f"Entry {position} is no clip.", "scene")
            return None
        if not whole:
            reason = f"{key} has {len(rows)} cameras and {count} images."
            self._report(chunk, reason, "scene")
            return None
        if key in self._places:
            self._report(chunk, f"{key} is there twice.", "scene")
            return None
        fresh = first_of_each(stamps)
        for index in np.flatnonzero(~fresh):
            reason = f"The timestamp {stamps[index]} of {key} is there twice."
            self._report(chunk, reason, "view")
        self._places[key] = chunk, position
        numbers = np.flatnonzero(fresh).tolist()
        extrinsics, intrinsics = convert_rows(rows[fresh])
        return FoundScene(
            key,
            chunk,
            [str(index) for index in numbers],
            extrinsics,
            intrinsics,
            np.full(len(extrinsics), NEAR),
            np.full(len(extrinsics), FAR),
            numbers,
        )

    def _check_index(self, path: Path) -> None:
        """Report keys that are listed and not there."""
        if not path.is_file():
            return
        try:
            listed = json.loads(path.read_text())
            absent = sorted(key for key in listed if key not in self._places)
        except (ValueError, TypeError) as error:
            self._report(path, f"It is no index ({error}).")
            return
        for key in absent:
            reason = f"{key} is listed in {listed[key]} and not there."
            self._report(path, reason, "scene")

    def _read(self, scene: Scene, names: Sequence[str]) -> list[DecodedFrame]:
        chunk, position = self._places[scene.id]
        images = self._open(chunk)[position]["images"]
        return [
            DecodedFrame(
                decode_image(
                    images[int(name)].numpy().tobytes(),
                    "RGB",
                    f"{name} of {scene.id} in {chunk}",
                )
            )
            for name in names
        ]


def _chunks(root: Path, split: Split | None) -> list[Path]:
    folders = [root, root / "train", root / "test"] if split is None else [root / split]
    return [file for folder in folders for file in sorted(folder.glob("*.torch"))]


def _load_chunk(path: Path) -> list[dict[str, Any]]:
    """A chunk's clips, mapped into memory; UserError if it cannot be read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        # Files in torch's format of before 2020 cannot be mapped.
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(
                f"{path} is damaged or no file of tensors; download it again."
            ) from error
    if not isinstance(content, list):
        raise UserError(f"{path} is no list of clips; download it again.")
    return content
