"""Reads shards; see `shards` for their layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from unseen.data.dataset import PosedReader, Problem
from unseen.data.frame_dataset import DecodedFrame, unpack_frames
from unseen.data.manifest import Split
from unseen.data.shard_scene import decode_frame, parse_header
from unseen.data.shards import (
    BLOCK,
    FINAL,
    JOURNAL,
    ShardScene,
    member_offsets,
    read_shard_manifest,
    verify_shards,
)
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

HEADERS_KEPT = 1024
"""Cameras of so many scenes stay in memory."""


class ShardDataset(PosedReader):
    """Reads shards by offset: every view of every scene costs a seek and a read.

    Opening reads the manifest only. A shard that is missing or has not the length that
    the manifest says is left out with its scenes, and is among the `problems`;
    `verify=True` also reads all bytes and leaves out shards with a wrong checksum.

    Cameras are bit for bit those of the data set that was packed, images are rounded
    to 8 bit. `cache` keeps frames in memory as 8-bit arrays.
    """

    format_name: ClassVar[str] = "shards"

    def __init__(
        self,
        root: str | Path,
        split: Split | None = None,
        cache: bool = False,
        depths: bool = True,
        verify: bool = False,
    ) -> None:
        self.root = Path(root)
        self._depths = depths
        self._cache: dict[tuple[int, int], DecodedFrame] | None = {} if cache else None
        self._headers: dict[int, tuple[dict[str, Any], int, Cameras]] = {}
        self._places: list[tuple[Path, ShardScene]] = []
        self._problems: list[Problem] = []
        self._runs: list[int] = []
        self._open(split, verify)
        if not self._places:
            reason = self._problems[0].reason if self._problems else ""
            kind = "" if split is None else f" of split {split}"
            raise UserError(f"{self.root} holds no scenes{kind}. {reason}".rstrip())

    def _open(self, split: Split | None, verify: bool) -> None:
        manifest = read_shard_manifest(self.root)
        faults = {}
        if verify:
            faults = {shard.name: fault for shard, fault in verify_shards(self.root)}
        for shard in manifest.shards:
            path = self.root / shard.name
            try:
                wrong = os.stat(path).st_size != shard.size
            except OSError:
                wrong = True
            if wrong or faults.get(shard.name):
                reason = (
                    f"It {faults.get(shard.name) or 'is missing or cut short'}; its "
                    f"{len(shard.scenes)} scenes are left out."
                )
                self._problems.append(Problem(path, reason, "scene"))
                continue
            scenes = [s for s in shard.scenes if split in (None, s.split)]
            self._places += [(path, scene) for scene in scenes]
            self._runs += [len(scenes)] if scenes else []

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a manifest of shards, finished or in the making."""
        return (path / FINAL).is_file() or (path / JOURNAL).is_file()

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """What the manifest tells apart."""
        shards = read_shard_manifest(path).shards
        found = {scene.split for shard in shards for scene in shard.scenes}
        names: tuple[Split, ...] = ("train", "test")
        return tuple(name for name in names if name in found)

    @property
    def scene_ids(self) -> list[str]:
        """Names of the scenes, in the order in which they were packed."""
        return [scene.id for _, scene in self._places]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Shards that are left out."""
        return tuple(self._problems)

    @property
    def runs(self) -> Sequence[int]:
        """Numbers of scenes of the shards."""
        return self._runs

    def caption(self, index: int) -> str:
        """That of the data set that was packed."""
        return self._places[index][1].caption

    def num_views(self, index: int) -> int:
        """How many views the scene has."""
        return self._places[index][1].views

    def frame_numbers(self, index: int) -> Sequence[int]:
        """Those of the data set that was packed."""
        return self._header(index)[0]["frames"]

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Views (view) of the scene with this index; all of them by default.

        Raises UserError, naming the shard, for what is damaged.
        """
        path, scene = self._places[index]
        header, start, cameras = self._header(index)
        if view_indices is None:
            view_indices = list(range(scene.views))
        cache = {} if self._cache is None else self._cache
        missing = [view for view in view_indices if (index, view) not in cache]
        if missing:
            frames = self._read(path, header, start, missing)
            cache |= {
                (index, view): frame
                for view, frame in zip(missing, frames, strict=True)
            }
        frames = [cache[index, view] for view in view_indices]
        return unpack_frames(frames, cameras[view_indices])

    def _header(self, index: int) -> tuple[dict[str, Any], int, Cameras]:
        """What cameras.json says, the offset of what follows it, and the cameras."""
        if index in self._headers:
            return self._headers[index]
        path, scene = self._places[index]
        try:
            with open(path, "rb") as file:
                file.seek(scene.offset)
                size = int(file.read(BLOCK)[124:136].rstrip(b"\0 "), 8)
                header, cameras = parse_header(file.read(size), scene.id)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise self._damage(path, scene.id) from error
        start = scene.offset + member_offsets([size, 0])[1] - BLOCK
        if len(self._headers) >= HEADERS_KEPT:
            del self._headers[next(iter(self._headers))]
        self._headers[index] = header, start, cameras
        return self._headers[index]

    def _read(
        self, path: Path, header: dict[str, Any], start: int, views: list[int]
    ) -> list[DecodedFrame]:
        members = header["members"]
        offsets = member_offsets([size for _, size in members])
        places = {
            name: (start + offset, size)
            for (name, size), offset in zip(members, offsets, strict=True)
        }
        try:
            with open(path, "rb") as file:

                def fetch(name: str) -> bytes | None:
                    if name not in places:
                        return None
                    file.seek(places[name][0])
                    return file.read(places[name][1])

                frames = []
                # In the order of the file, which is what a slow disk likes.
                for view in sorted(set(views)):
                    depth = fetch(f"{view:04d}.depth.png") if self._depths else None
                    frame = decode_frame(
                        fetch(f"{view:04d}.png") or b"",
                        fetch(f"{view:04d}.mask.png"),
                        depth,
                        header["depth_unit"],
                        f"{view} of {header['scene']} in {path}",
                    )
                    frames.append((view, frame))
        except OSError as error:
            raise self._damage(path, header["scene"]) from error
        found = dict(frames)
        return [found[view] for view in views]

    def _damage(self, path: Path, scene: str) -> UserError:
        return UserError(
            f"{path} is damaged where {scene} should be: check it with `unseen data "
            f"shard {self.root} --verify`."
        )
