"""Common Objects in 3D, version 2: annotated videos of objects.

    ROOT/CATEGORY/frame_annotations.jgz       gzip JSON, one entry per frame
    ROOT/CATEGORY/sequence_annotations.jgz    optional, quality of each sequence
    ROOT/CATEGORY/set_lists/set_lists_*.json  optional, which sequences are for testing
    ROOT/CATEGORY/SEQUENCE/{images,masks,depths,depth_masks}/...

ROOT may also be one category's folder. Reizenstein et al., "Common Objects in 3D"
(ICCV 2021); the annotation's fields are those of the authors' `data_types.py`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray
from PIL import Image

from unseen.data.frame_dataset import (
    DecodedFrame,
    FoundScene,
    FrameDataset,
    Scene,
    decode_image,
)
from unseen.data.manifest import Split
from unseen.data.world import turn_upright
from unseen.errors import UserError

FRAMES = "frame_annotations.jgz"
NEAR, FAR = 0.5, 40.0
"""The depths between which Diffusion with Forward Models trains on CO3D."""

_OPENCV = np.diag([-1.0, -1.0, 1.0])
"""PyTorch3D's camera (x left, y up, z forward) to OpenCV's."""


class CO3DDataset(FrameDataset):
    """Reads CO3Dv2; a sequence is a scene, called CATEGORY/SEQUENCE.

    Cameras: PyTorch3D's X_camera = X_world R + T in row vectors, so that the world to
    OpenCV camera transform is diag(-1, -1, 1) (R^T, T). Focal length and principal
    point p are in NDC (x left, y up): with h = (width, height) / 2 in pixels the focal
    length is s f and the principal point h - s p, where s = h ("ndc_norm_image_bounds")
    or s = min(h) ("ndc_isotropic").

    A sequence's world is turned so that the mean of its cameras' up vectors is z
    (`turn_upright`; that they have none is reported); its scale is that of the data.
    The background is kept; masks are the foreground's probability; depths are read
    where all frames have them, 0 where the depth mask is 0. near and far are 0.5 and
    40.

    `split` takes the sequences that the set lists (`set_lists_fewview_dev.json`, else
    the first file of all) name for training only, or else for testing or validation.
    A frame without its image, or without a camera, is left out. A frame's number is its
    place among the sequence's annotated images, in the order of `frame_number`.
    """

    format_name: ClassVar[str] = "CO3Dv2"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder, or a folder in it, has frame annotations."""
        return bool(_categories(path))

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """What the set lists tell apart."""
        names: tuple[Split, ...] = ("train", "test")
        folders = _categories(path)
        return tuple(n for n in names if any(_read_split(f, n) for f in folders))

    def caption(self, index: int) -> str:
        """The sequence's category."""
        return self.scene_ids[index].partition("/")[0]

    def _find(self) -> Iterator[FoundScene]:
        self._entries: dict[str, dict[str, dict[str, Any]]] = {}
        for folder in _categories(self.root):
            chosen = None
            if self._split is not None:
                # Without lists everything is for training.
                nothing = None if self._split == "train" else set()
                chosen = _read_split(folder, self._split)
                chosen = nothing if chosen is None else chosen
            sequences: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for entry in _read_annotations(folder / FRAMES):
                name = str(entry.get("sequence_name"))
                if chosen is None or name in chosen:
                    sequences[name].append(entry)
            for name, entries in sequences.items():
                found = self._find_sequence(folder, name, entries)
                if found is not None:
                    yield found

    def _find_sequence(
        self, folder: Path, name: str, entries: list[dict[str, Any]]
    ) -> FoundScene | None:
        """A sequence's frames that have a camera and an image."""
        path, usable, numbers = folder / name, {}, []
        if not path.is_dir():
            self._report(path, "The sequence is annotated but not there.", "scene")
            return None
        there: dict[Path, set[str]] = {}
        listed: dict[Path, int] = {}
        for entry in sorted(entries, key=lambda e: e.get("frame_number", 0)):
            image = _inside(folder, entry["image"]["path"])
            number = listed.setdefault(image, len(listed))
            if image.parent not in there:
                there[image.parent] = _names(image.parent)
            if image.name not in there[image.parent]:
                self._report(image, "The image is missing.", "view")
            elif entry.get("viewpoint") is None:
                self._report(image, "The annotation has no camera.", "view")
            elif image.name in usable:
                self._report(image, "The frame is annotated twice.", "view")
            else:
                usable[image.name] = entry | {"folder": folder}
                numbers.append(number)
        scene = f"{folder.name}/{name}"
        if not usable:
            self._report(path, "The sequence has no usable frames.", "scene")
            return None
        self._entries[scene] = usable
        cameras = [convert_camera(entry, folder) for entry in usable.values()]
        extrinsics = np.stack([camera[0] for camera in cameras])
        finite = torch.from_numpy(extrinsics[np.isfinite(extrinsics).all((1, 2))])
        motion = turn_upright(finite)
        if motion is None:
            self._report(path, "Its cameras have no common up: z is the file's.")
        else:
            extrinsics = motion.numpy() @ extrinsics
        count = len(usable)
        return FoundScene(
            scene,
            path,
            list(usable),
            extrinsics,
            np.stack([camera[1] for camera in cameras]),
            np.full(count, NEAR),
            np.full(count, FAR),
            numbers,
        )

    def _read(self, scene: Scene, names: Sequence[str]) -> list[DecodedFrame]:
        return [self._read_frame(self._entries[scene.id][name]) for name in names]

    def _read_frame(self, entry: dict[str, Any]) -> DecodedFrame:
        folder = entry["folder"]
        image = _inside(folder, entry["image"]["path"])
        rgb = decode_image(image, "RGB", str(image))
        mask = depth = None
        if entry.get("mask") is not None:
            mask = _read_mask(_inside(folder, entry["mask"]["path"]), rgb.shape[:2])
        if self._depths and entry.get("depth") is not None:
            depth = _read_depth(folder, entry["depth"], rgb.shape[:2])
        return DecodedFrame(rgb, mask, depth)


def convert_camera(
    entry: dict[str, Any], where: Path
) -> tuple[Float[ndarray, "4 4"], Float[ndarray, "3 3"]]:
    """Extrinsics and normalised intrinsics of a frame annotation; see `CO3DDataset`.

    Raises UserError, naming `where`, for an annotation that lacks a number.
    """
    try:
        view, (height, width) = entry["viewpoint"], entry["image"]["size"]
        rotation = _OPENCV @ np.array(view["R"], np.float64).reshape(3, 3).T
        translation = _OPENCV @ np.array(view["T"], np.float64).reshape(3)
        focal = np.array(view["focal_length"], np.float64).reshape(2)
        point = np.array(view["principal_point"], np.float64).reshape(2)
        layout = view.get("intrinsics_format", "ndc_norm_image_bounds").lower()
        half = np.array([width, height], np.float64) / 2
        scale = {"ndc_norm_image_bounds": half, "ndc_isotropic": half.min()}[layout]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"A frame annotation in {where} is damaged ({error!r}); download it again."
        ) from error
    extrinsics, intrinsics = np.eye(4), np.eye(3)
    extrinsics[:3, :3] = rotation.T
    extrinsics[:3, 3] = -rotation.T @ translation
    intrinsics[[0, 1], [0, 1]] = scale * focal / (2 * half)
    intrinsics[:2, 2] = (half - scale * point) / (2 * half)
    return extrinsics, intrinsics


def _categories(root: Path) -> list[Path]:
    if (root / FRAMES).is_file():
        return [root]
    return sorted(file.parent for file in root.glob(f"*/{FRAMES}"))


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def _inside(folder: Path, path: str) -> Path:
    """A path that the annotation gives below the root, CATEGORY/SEQUENCE/...

    Its first part is replaced by the category's folder, whatever that is called.
    """
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or ".." in parts or parts[0] == "/":
        raise UserError(
            f"{folder / FRAMES} names a file outside of its folder ({path}); it is "
            f"damaged, download it again."
        )
    return folder.joinpath(*parts[1:])


def _read_annotations(path: Path) -> list[dict[str, Any]]:
    try:
        with gzip.open(path, "rb") as file:
            entries = json.load(file)
        if all(isinstance(e, dict) and "path" in e["image"] for e in entries):
            return entries
        raise ValueError("an entry is no frame annotation")
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); download it again.") from error


def _read_split(folder: Path, split: Split) -> set[str] | None:
    """Names of a split's sequences; None where there are no lists."""
    files = sorted((folder / "set_lists").glob("set_lists_*.json"))
    if not files:
        return None
    preferred = folder / "set_lists" / "set_lists_fewview_dev.json"
    path = preferred if preferred in files else files[0]
    try:
        lists = json.loads(path.read_text())
        held_out = {entry[0] for name in ("val", "test") for entry in lists[name]}
        train = {entry[0] for entry in lists["train"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error!r}); download it again.") from error
    return held_out - train if split == "test" else train


def _resize(array: ndarray, size: tuple[int, ...]) -> ndarray:
    """Nearest pixel: maps may come in another size than their image."""
    if array.shape == size:
        return array
    rows, columns = (
        (np.arange(new) * old // new)
        for new, old in zip(size, array.shape, strict=True)
    )
    return array[rows[:, None], columns[None]]


def _read_mask(path: Path, size: tuple[int, ...]) -> UInt8[ndarray, "height width"]:
    return _resize(decode_image(path, "L", str(path)), size)


def _read_depth(
    folder: Path, entry: dict[str, Any], size: tuple[int, ...]
) -> Float32[ndarray, "height width"]:
    """Depth from the bits of 16-bit floats that a PNG holds as integers."""
    path = _inside(folder, entry["path"])
    try:
        with Image.open(path) as image:
            bits = np.asarray(image).astype(np.uint16)
    except (OSError, SyntaxError) as error:
        raise UserError(
            f"The depth image {path} is missing or damaged; download it again."
        ) from error
    depth = bits.view(np.float16).astype(np.float32) * entry["scale_adjustment"]
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    depth = _resize(depth, size)
    if entry.get("mask_path"):
        valid = _read_mask(_inside(folder, entry["mask_path"]), size) > 0
        depth = np.where(valid, depth, 0).astype(np.float32)
    return depth
