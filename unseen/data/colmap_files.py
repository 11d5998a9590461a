"""The files of a COLMAP sparse model, text and binary: cameras, images, points3D.

    cameras   per camera: id, model, width, height, parameters in pixels
    images    per image: id, rotation (quaternion w x y z) and translation, world to
              camera with OpenCV's axes; camera id; name; observed points (x, y, id of
              the 3D point or -1)
    points3D  per point: id, position, colour, error, where it was observed

Binary files are little-endian. Source: COLMAP's documentation of its output format
(Schoenberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from unseen.data.frames import pixel_intrinsics
from unseen.data.lens import Lens
from unseen.errors import UserError

MODELS: dict[int, tuple[str, int]] = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
"""Models that are read, by their number in binary files: name and parameters."""


@dataclasses.dataclass(frozen=True)
class ColmapCamera:
    """Normalised intrinsics and lens of one camera."""

    intrinsics: Float[Tensor, "3 3"]
    lens: Lens


@dataclasses.dataclass(frozen=True)
class ColmapImage:
    """An image's name, camera, pose (world to camera) and the points that it sees."""

    name: str
    camera: int
    world_to_camera: Float[Tensor, "4 4"]
    points: Int[ndarray, "point"]


@dataclasses.dataclass(frozen=True)
class ColmapModel:
    """A sparse model: images by name; point ids, sorted, with their positions."""

    cameras: dict[int, ColmapCamera]
    images: tuple[ColmapImage, ...]
    point_ids: Int[ndarray, "point"]
    positions: Float[ndarray, "point 3"]


def is_model(folder: Path) -> bool:
    """Whether a folder holds the cameras and images of a model."""
    return any(
        all((folder / f"{name}.{kind}").is_file() for name in ("cameras", "images"))
        for kind in ("bin", "txt")
    )


def read_model(folder: Path) -> ColmapModel:
    """Read a sparse model, the binary files where both are there.

    Points are optional. Raises UserError for damaged files and other camera models.
    """
    kind = "bin" if (folder / "cameras.bin").is_file() else "txt"
    binary = kind == "bin"
    path = folder
    try:
        path = folder / f"cameras.{kind}"
        cameras = dict(_binary_cameras(path) if binary else _text_cameras(path))
        path = folder / f"images.{kind}"
        images = list(_binary_images(path) if binary else _text_images(path))
        path = folder / f"points3D.{kind}"
        points = list(_binary_points(path) if binary else _text_points(path))
    except (OSError, ValueError, IndexError, struct.error, ZeroDivisionError) as error:
        raise UserError(
            f"{path} is damaged or no file of a COLMAP model ({error}); export the "
            f"model again."
        ) from error
    points.sort(key=lambda point: point[0])
    return ColmapModel(
        cameras,
        tuple(sorted(images, key=lambda image: image.name)),
        np.array([number for number, _ in points], dtype=np.int64),
        np.array([xyz for _, xyz in points], dtype=np.float64).reshape(-1, 3),
    )


def _camera(
    path: Path, model: str, width: float, height: float, parameters: list[float]
) -> ColmapCamera:
    known = dict(MODELS.values())
    if model not in known:
        raise UserError(
            f"{path} has a camera of the model {model}; read are {', '.join(known)}: "
            f"undistort the images first (colmap image_undistorter)."
        )
    if len(parameters) != known[model]:
        raise ValueError(f"{model} has {known[model]} parameters")
    if model in ("PINHOLE", "OPENCV"):
        fx, fy, cx, cy, *rest = parameters
    else:
        fx, cx, cy, *rest = parameters
        fy = fx
    # k1, k2, p1, p2: the models differ in how many of them they have.
    return ColmapCamera(pixel_intrinsics(fx, fy, cx, cy, height, width), Lens(*rest))


def _pose(quaternion: list[float], translation: list[float]) -> Float[Tensor, "4 4"]:
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    pose[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return pose


class _Bytes:
    """Reads a binary file from front to back; struct.error where it is cut short."""

    def __init__(self, path: Path) -> None:
        self._data, self._place = path.read_bytes(), 0

    def take(self, form: str) -> tuple:
        found = struct.unpack_from(f"<{form}", self._data, self._place)
        self._place += struct.calcsize(f"<{form}")
        return found

    def name(self) -> str:
        end = self._data.index(b"\0", self._place)
        found = self._data[self._place : end].decode("utf-8")
        self._place = end + 1
        return found

    def array(self, kind: np.dtype, count: int) -> ndarray:
        found = np.frombuffer(self._data, kind, count, self._place)
        self._place += found.nbytes
        return found


def _binary_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    data = _Bytes(path)
    for _ in range(data.take("Q")[0]):
        number, model, width, height = data.take("IiQQ")
        name, count = MODELS.get(model, (f"number {model}", 0))
        yield number, _camera(path, name, width, height, list(data.take(f"{count}d")))


def _text_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in _lines(path):
        number, model, width, height, *parameters = line.split()
        numbers = [float(word) for word in parameters]
        yield (
            int(number),
            _camera(path, model, float(width), float(height), numbers),
        )


OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])


def _binary_images(path: Path) -> Iterator[ColmapImage]:
    data = _Bytes(path)
    for _ in range(data.take("Q")[0]):
        _, *pose, camera = data.take("I7dI")
        name = data.name()
        seen = data.array(OBSERVATION, data.take("Q")[0])["point"]
        yield ColmapImage(name, camera, _pose(pose[:4], pose[4:]), seen[seen >= 0])


def _text_images(path: Path) -> Iterator[ColmapImage]:
    lines = _lines(path, keep_empty=True)
    for line in lines:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        pose = [float(word) for word in words[1:8]]
        # An image without observations has an empty second line.
        seen = np.array([int(word) for word in next(lines, "").split()[2::3]])
        seen = seen.astype(np.int64)
        yield ColmapImage(
            words[9].strip(),
            int(words[8]),
            _pose(pose[:4], pose[4:]),
            seen[seen >= 0],
        )


def _binary_points(path: Path) -> Iterator[tuple[int, list[float]]]:
    if not path.is_file():
        return
    data = _Bytes(path)
    for _ in range(data.take("Q")[0]):
        number, *xyz = data.take("Q3d")
        data.take("3Bd")
        data.array(np.dtype("<u4"), 2 * data.take("Q")[0])
        yield number, xyz


def _text_points(path: Path) -> Iterator[tuple[int, list[float]]]:
    if not path.is_file():
        return
    for line in _lines(path):
        number, *rest = line.split(maxsplit=4)
        yield int(number), [float(word) for word in rest[:3]]


def _lines(path: Path, keep_empty: bool = False) -> Iterator[str]:
    """Lines of a text file without comments."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") and (keep_empty or line.strip()):
            yield line
