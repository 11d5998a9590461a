"""What the readers of scenes made of frames share: checks, skipping, caching."""

from __future__ import annotations

import abc
import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from numpy import ndarray
from PIL import Image

from unseen.data.dataset import PosedReader, Problem
from unseen.data.manifest import Split
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.check import TOLERANCE
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class DecodedFrame:
    """One image as it lies on disk.

    `depth` is z in the camera frame in world units, 0 where unknown. `transparent`
    says that `mask` is the alpha of `rgb`, which is then laid on white.
    """

    rgb: UInt8[ndarray, "height width 3"]
    mask: UInt8[ndarray, "height width"] | None = None
    depth: Float32[ndarray, "height width"] | None = None
    transparent: bool = False


@dataclasses.dataclass(frozen=True)
class FoundScene:
    """A scene before it is checked: its frames' names and cameras.

    `extrinsics` are OpenCV camera-to-world in a z-up world, `intrinsics` normalised,
    `path` is the file or folder that errors name. `numbers` are those of
    `PosedDataset.frame_numbers`.
    """

    id: str
    path: Path
    names: Sequence[str]
    extrinsics: Float[ndarray, "view 4 4"]
    intrinsics: Float[ndarray, "view 3 3"]
    near: Float[ndarray, "view"]
    far: Float[ndarray, "view"]
    numbers: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene that was checked: what is left of its frames, with their cameras."""

    id: str
    path: Path
    names: tuple[str, ...]
    cameras: Cameras
    numbers: tuple[int, ...]


class FrameDataset(PosedReader):
    """A reader that finds scenes of named frames and reads frames by name.

    All cameras are read when the data set is opened. A frame whose camera is none
    (NaN, no rotation, no positive focal length) is left out, and so is a scene without
    frames; both are in `problems`. `split` chooses among what `splits` names; `cache`
    keeps frames in memory as 8-bit arrays.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split | None = None,
        cache: bool = False,
        depths: bool = True,
    ) -> None:
        self.root = Path(root)
        self._split: Split | None = split
        self._depths = depths
        self._cache: dict[tuple[int, str], DecodedFrame] | None = {} if cache else None
        self._problems: list[Problem] = []
        found = sorted(self._find(), key=lambda scene: scene.id)
        checked = [self._check(scene) for scene in found]
        self._scenes = [scene for scene in checked if scene is not None]
        if not self._scenes:
            reason = self._problems[0].reason if self._problems else "it is empty"
            raise UserError(
                f"{self.root} ({self.format_name}) has no scene that can be used: "
                f"{reason}"
            )

    @abc.abstractmethod
    def _find(self) -> Iterator[FoundScene]:
        """All scenes, in any order; what is wrong with the files goes to `_report`."""

    @abc.abstractmethod
    def _read(self, scene: Scene, names: Sequence[str]) -> list[DecodedFrame]:
        """Frames of a scene, by name."""

    @property
    def scene_ids(self) -> list[str]:
        """Names of the scenes, sorted."""
        return [scene.id for scene in self._scenes]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out, each thing once."""
        return tuple(self._problems)

    def num_views(self, index: int) -> int:
        """How many usable views the scene has."""
        return len(self._scenes[index].names)

    def frame_numbers(self, index: int) -> Sequence[int]:
        """Places of the usable frames among all that the files list."""
        return self._scenes[index].numbers

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Views (view) of the scene with this index; all of them by default.

        Raises UserError, naming the file, for an image that is missing or damaged and
        for images of different sizes.
        """
        scene = self._scenes[index]
        if view_indices is None:
            view_indices = list(range(len(scene.names)))
        frames = self._frames(index, [scene.names[view] for view in view_indices])
        sizes = sorted({frame.rgb.shape[:2] for frame in frames})
        if len(sizes) > 1:
            raise UserError(
                f"{scene.path} has images of different sizes ({sizes[0]} and "
                f"{sizes[1]}); bring them to one size."
            )
        return unpack_frames(frames, scene.cameras[view_indices])

    def _frames(self, index: int, names: list[str]) -> list[DecodedFrame]:
        if self._cache is None:
            return self._read(self._scenes[index], names)
        missing = [name for name in names if (index, name) not in self._cache]
        if missing:
            frames = self._read(self._scenes[index], missing)
            for name, frame in zip(missing, frames, strict=True):
                self._cache[index, name] = frame
        return [self._cache[index, name] for name in names]

    def _report(self, path: Path, reason: str, skipped: str | None = None) -> None:
        self._problems.append(Problem(path, reason, skipped))

    def _check(self, found: FoundScene) -> Scene | None:
        """What of a scene can be used; the rest is reported."""
        faults = camera_faults(found.extrinsics, found.intrinsics)
        good = [index for index, fault in enumerate(faults) if fault is None]
        for name, fault in zip(found.names, faults, strict=True):
            if fault is not None:
                self._report(found.path, f"{name} {fault}.", "view")
        if not good:
            self._report(found.path, f"{found.id} has no usable views.", "scene")
            return None

        def chosen(array: ndarray) -> torch.Tensor:
            return torch.from_numpy(array[good].astype(np.float32))

        cameras = Cameras(
            chosen(found.extrinsics),
            chosen(found.intrinsics),
            chosen(found.near),
            chosen(found.far),
        )
        names = tuple(found.names[index] for index in good)
        numbers = tuple(int(found.numbers[index]) for index in good)
        return Scene(found.id, found.path, names, cameras, numbers)


def camera_faults(
    extrinsics: Float[ndarray, "view 4 4"], intrinsics: Float[ndarray, "view 3 3"]
) -> list[str | None]:
    """What is wrong with each camera, as the end of a sentence; None for a good one."""
    rotation = extrinsics[:, :3, :3]
    numbers = np.concatenate([extrinsics[:, :3], intrinsics], axis=2).reshape(-1, 21)
    finite = [bool(row.all()) for row in np.isfinite(numbers)]
    safe = np.where(np.isfinite(rotation), rotation, 0.0)
    error = np.abs(safe @ safe.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    determinant = np.linalg.det(safe)
    focal = intrinsics[:, [0, 1], [0, 1]].min(1)

    def fault(index: int) -> str | None:
        if not finite[index]:
            return "has numbers that are not finite"
        if not (error[index] < TOLERANCE and determinant[index] > 0):
            return "has a pose that is no rotation and translation"
        return None if focal[index] > 0 else "has a focal length that is not positive"

    return [fault(index) for index in range(len(extrinsics))]


def first_of_each(keys: Sequence[object]) -> Bool[ndarray, "key"]:
    """Whether each key is the first of its value."""
    seen: set[object] = set()
    fresh: ndarray = np.zeros(len(keys), bool)
    for index, key in enumerate(keys):
        fresh[index] = key not in seen
        seen.add(key)
    return fresh


def decode_image(source: Path | bytes, mode: str, where: str) -> UInt8[ndarray, "..."]:
    """An encoded image as 8-bit pixels of PIL's `mode`; `where` names it in errors.

    Raises UserError for an image that is missing, damaged or cut short.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"The image {where} is missing or damaged; make or download it again."
        ) from error


def unpack_frames(frames: Sequence[DecodedFrame], cameras: Cameras) -> Views:
    """Float views; what not every frame has is left out."""
    images = torch.from_numpy(np.stack([frame.rgb for frame in frames]))
    images = images.permute(0, 3, 1, 2).to(torch.float32) / 255
    masks = [frame.mask for frame in frames if frame.mask is not None]
    depths = [frame.depth for frame in frames if frame.depth is not None]
    alpha = None
    if len(masks) == len(frames):
        alpha = torch.from_numpy(np.stack(masks)).to(torch.float32) / 255
        seen_through = torch.tensor([frame.transparent for frame in frames])
        blend = images * alpha[:, None] + (1 - alpha[:, None])
        images = torch.where(seen_through[:, None, None, None], blend, images)
    depth = torch.from_numpy(np.stack(depths)) if len(depths) == len(frames) else None
    return Views(images, cameras, alpha, depth)
