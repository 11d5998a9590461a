"""The SRN layout in one HDF5 file per class and split, as LFN reads it.

    FILE.hdf5: OBJECT/rgb/000000.png       the bytes of a PNG or JPEG (or its pixels)
               OBJECT/pose/000000.txt      the bytes of a pose file (or a 4x4 array)
               OBJECT/intrinsics.txt       the bytes of an intrinsics file

Sitzmann et al., "Light Field Networks" (NeurIPS 2021).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from unseen.data.frame_dataset import (
    DecodedFrame,
    FoundScene,
    FrameDataset,
    Scene,
    decode_image,
)
from unseen.data.world import RELATIVE_RADIUS
from unseen.errors import UserError

SUFFIXES = (".hdf5", ".h5")


class HDF5Dataset(FrameDataset):
    """Reads HDF5 files of the SRN layout; needs h5py.

    Cameras: OpenCV camera-to-world in a z-up world, as in the SRN layout; intrinsics
    "f cx cy 0." in pixels, with "height width" in the file's last line of two numbers.
    near and far are the camera's distance from the origin -+ 0.385 of it
    (`RELATIVE_RADIUS`). Images with alpha are laid on white and have masks.

    An image belongs to the pose of its name. An image without pose or a pose without
    image is left out, so is an object without intrinsics.
    """

    format_name: ClassVar[str] = "SRN in HDF5"

    def __init__(
        self, root: str | Path, cache: bool = False, depths: bool = True
    ) -> None:
        self._file: tuple[int, Any] | None = None
        super().__init__(root, cache=cache, depths=depths)

    def __getstate__(self) -> dict[str, Any]:
        # An open file cannot be handed to another process.
        return self.__dict__ | {"_file": None}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it is a file with the ending of HDF5."""
        return path.is_file() and path.suffix.lower() in SUFFIXES

    def _opened(self) -> Any:
        """The file; every process has to open its own."""
        if self._file is None or self._file[0] != os.getpid():
            self._file = os.getpid(), _open(self.root)
        return self._file[1]

    def _find(self) -> Iterator[FoundScene]:
        for name, group in sorted(self._opened().items()):
            place = self.root / name
            try:
                images = {PurePosixPath(key).stem: key for key in group["rgb"]}
                poses = {PurePosixPath(key).stem: key for key in group["pose"]}
                intrinsics = _parse_intrinsics(_bytes(group["intrinsics.txt"]))
            except (LookupError, TypeError, AttributeError, ValueError):
                reason = "It lacks rgb, pose or intrinsics.txt."
                self._report(place, reason, "scene")
                continue
            for stem in sorted(images.keys() ^ poses.keys()):
                missing = "pose" if stem in images else "image"
                self._report(place / stem, f"It has no {missing}.", "view")
            every = sorted(images.keys() | poses.keys())
            both = images.keys() & poses.keys()
            numbers = [k for k, stem in enumerate(every) if stem in both]
            names = [every[number] for number in numbers]
            if not names:
                self._report(place, "It has no views.", "scene")
                continue
            entries = [group["pose"][poses[stem]] for stem in names]
            extrinsics = np.stack([_parse_pose(entry) for entry in entries])
            distance = np.linalg.norm(extrinsics[:, :3, 3], axis=-1)
            yield FoundScene(
                name,
                place,
                [images[stem] for stem in names],
                extrinsics,
                np.tile(intrinsics, (len(names), 1, 1)),
                (1 - RELATIVE_RADIUS) * distance,
                (1 + RELATIVE_RADIUS) * distance,
                numbers,
            )

    def _read(self, scene: Scene, names: Sequence[str]) -> list[DecodedFrame]:
        group = self._opened()[scene.id]["rgb"]
        return [_read_image(group[name], f"{scene.path}/rgb/{name}") for name in names]


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{path} is an HDF5 file, which needs h5py: install unseen[hdf5]."
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is no HDF5 file, or is cut short.") from error


def _bytes(dataset: Any) -> bytes:
    value = dataset[()]
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


def _parse_pose(dataset: Any) -> Float[ndarray, "4 4"]:
    """NaN where there is no pose, which the checks report."""
    try:
        value = np.asarray(dataset[()])
        if value.dtype.kind != "f":
            value = np.array(_bytes(dataset).decode("ascii").split(), np.float64)
        return value.astype(np.float64).reshape(4, 4)
    except (ValueError, OSError):
        return np.full((4, 4), np.nan)


def _parse_intrinsics(content: bytes) -> Float[ndarray, "3 3"]:
    """Normalised; ValueError for what is no intrinsics file."""
    lines = [line.split() for line in content.decode("ascii").splitlines()]
    focal, cx, cy = (float(word) for word in lines[0][:3])
    # Some files have a line for the near plane before it, some a flag after it.
    height, width = [map(float, line) for line in lines if len(line) == 2][-1]
    return np.array(
        [[focal / width, 0, cx / width], [0, focal / height, cy / height], [0, 0, 1]]
    )


def _read_image(dataset: Any, where: str) -> DecodedFrame:
    """Pixels that are stored as such, or an encoded image; alpha is transparency."""
    try:
        value = np.asarray(dataset[()])
    except OSError as error:
        raise UserError(f"{where} is damaged; get the file again.") from error
    if value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] in (3, 4):
        if value.shape[2] == 3:
            return DecodedFrame(value)
    else:
        value = decode_image(_bytes(dataset), "RGBA", where)
    mask = np.ascontiguousarray(value[..., 3])
    return DecodedFrame(np.ascontiguousarray(value[..., :3]), mask, transparent=True)
