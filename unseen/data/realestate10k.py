"""RealEstate10K: camera paths of video clips, with the frames in one of three forms.

    **/CLIP.txt           the official poses: a URL, then "timestamp fx fy cx cy k1 k2"
                          and a 3x4 world-to-camera matrix, row by row, per frame
    {train,test}.mat      or the same rows as one array per clip (MATLAB 5)
    **/CLIP/TIMESTAMP.jpg frames named by their timestamp (.jpg, .jpeg, .png), or
    **/CLIP.mp4           a video that holds one frame per pose

`**` is ROOT or a folder in it. Zhou et al., "Stereo Magnification" (SIGGRAPH 2018); the
.mat files are those of "Learning to Render Novel Views from Wide-Baseline Stereo Pairs"
(Du et al., CVPR 2023), which Diffusion with Forward Models uses too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from unseen.data.folders import list_folders, sample_folders
from unseen.data.frame_dataset import (
    DecodedFrame,
    FoundScene,
    FrameDataset,
    Scene,
    decode_image,
    first_of_each,
)
from unseen.data.manifest import Split
from unseen.data.world import OPENCV_CAMERA
from unseen.errors import UserError

NEAR, FAR = 0.7, 10.0
"""The bounds of Diffusion with Forward Models on RealEstate10K, in the data's units."""

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4",)

_COLUMNS = 19


class RealEstate10KDataset(FrameDataset):
    """Reads RealEstate10K; a clip is a scene.

    Cameras: the rows hold intrinsics normalised by the image's width and height, which
    is what ours are, so a frame may be squashed to any size; and OpenCV
    world-to-camera, which is inverted. The world has the axes of an upright camera and
    is turned to z up (`OPENCV_CAMERA`). The distortion k1, k2 is 0 in the released
    files; a clip where it is not is left out. near and far are 0.7 and 10.

    A frame belongs to the pose with its timestamp, never to the one in its position. A
    pose without its frame is left out; how many there are is reported per clip. Views
    keep the number of their row (`frame_numbers`). The
    frames of a video have no timestamps: a clip whose video does not have exactly one
    frame per pose is left out. So is a clip without frames. Of two rows of one
    timestamp the second is left out.

    `split` takes the clips below ROOT/train or of ROOT/train.mat (or of test).
    """

    format_name: ClassVar[str] = "RealEstate10K"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder has a file of poses or a .mat with its frames."""
        first = (next(f.glob("*.txt"), None) for f in sample_folders(path))
        texts = any(file is not None and _is_pose_file(file) for file in first)
        return texts or bool(_tables(path))

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """The ones that ROOT has folders of."""
        names: tuple[Split, ...] = ("train", "test")
        return tuple(name for name in names if (path / name).is_dir())

    def _find(self) -> Iterator[FoundScene]:
        self._suffixes: dict[str, dict[str, str]] = {}
        self._video: tuple[Path, list[DecodedFrame]] | None = None
        base = self.root if self._split is None else self.root / self._split
        folders = [base, *list_folders(base)] if base.is_dir() else []
        self._media: dict[str, Path] = _find_media(folders)
        seen: set[str] = set()
        for clip, path, rows in self._find_rows(folders):
            if clip in seen:
                self._report(path, f"The poses of {clip} are there twice.", "scene")
                continue
            seen.add(clip)
            found = self._match(clip, path, rows)
            if found is not None:
                yield found

    def _find_rows(
        self, folders: list[Path]
    ) -> Iterator[tuple[str, Path, Float[ndarray, "view 19"]]]:
        """Name, file and rows of every clip."""
        for file in (f for folder in folders for f in sorted(folder.glob("*.txt"))):
            if not _is_pose_file(file):
                continue
            try:
                yield file.stem, file, _read_rows(file)
            except ValueError:
                self._report(file, "A row is not 19 numbers.", "scene")
        for file in _tables(self.root):
            if self._split in (None, file.stem):
                for clip, rows in _read_table(file):
                    yield clip, file, rows

    def _match(
        self, clip: str, path: Path, rows: Float[ndarray, "view 19"]
    ) -> FoundScene | None:
        """A clip's poses that have a frame."""
        media = self._media.get(clip)
        if media is None:
            self._report(path, f"There are no frames of {clip}.", "scene")
            return None
        if np.abs(rows[:, 5:7]).max(initial=0) > 0:
            self._report(path, f"The lens of {clip} is distorted.", "scene")
            return None
        fresh = first_of_each(rows[:, 0].tolist())
        for stamp in rows[~fresh, 0]:
            self._report(path, f"The timestamp {stamp:.0f} is there twice.", "view")
        names = [f"{stamp:.0f}" for stamp in rows[:, 0]]
        if media.is_dir():
            self._suffixes[clip] = {
                file.stem: file.suffix
                for file in media.iterdir()
                if file.suffix.lower() in IMAGES
            }
            keep = fresh & [name in self._suffixes[clip] for name in names]
            self._report_missing(media, names, fresh & ~keep)
        else:
            count = _count_frames(media)
            if count != len(rows):
                self._report(
                    media, f"It has {count} frames for {len(rows)} poses.", "scene"
                )
                return None
            names, keep = [str(index) for index in range(count)], fresh
        chosen = rows[keep]
        return FoundScene(
            clip,
            path,
            [name for name, kept in zip(names, keep, strict=True) if kept],
            *convert_rows(chosen[:, 1:]),
            np.full(len(chosen), NEAR),
            np.full(len(chosen), FAR),
            np.flatnonzero(keep).tolist(),
        )

    def _report_missing(
        self, folder: Path, names: Sequence[str], missing: ndarray
    ) -> None:
        absent = [name for name, gone in zip(names, missing, strict=True) if gone]
        if absent:
            self._report(
                folder,
                f"{len(absent)} of {len(names)} poses have no frame (the first is "
                f"{absent[0]}).",
                "view",
            )

    def _read(self, scene: Scene, names: Sequence[str]) -> list[DecodedFrame]:
        media = self._media[scene.id]
        if media.is_dir():
            suffixes = self._suffixes[scene.id]
            files = [media / f"{name}{suffixes[name]}" for name in names]
            return [
                DecodedFrame(decode_image(file, "RGB", str(file))) for file in files
            ]
        if self._video is None or self._video[0] != media:
            # Views are often asked for one by one, and a video is decoded as a whole.
            self._video = media, _read_video(media)
        frames = self._video[1]
        if any(int(name) >= len(frames) for name in names):
            raise UserError(f"The video {media} is cut short; get it again.")
        return [frames[int(name)] for name in names]


def convert_rows(
    rows: Float[ndarray, "view 18"],
) -> tuple[Float[ndarray, "view 4 4"], Float[ndarray, "view 3 3"]]:
    """Extrinsics in a z-up world and intrinsics from rows without their timestamp.

    A row is fx, fy, cx, cy, k1, k2 and the 3x4 world-to-camera matrix. What is not
    finite stays so.
    """
    count = len(rows)
    world_to_camera = rows[:, 6:].reshape(count, 3, 4)
    rotation = world_to_camera[:, :, :3].transpose(0, 2, 1)
    extrinsics = np.tile(np.eye(4), (count, 1, 1))
    # A rigid motion is inverted by transposing: a bad rotation stays visible as one.
    extrinsics[:, :3, :3] = rotation
    extrinsics[:, :3, 3:] = -rotation @ world_to_camera[:, :, 3:]
    intrinsics = np.tile(np.eye(3), (count, 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = rows[:, 0], rows[:, 1]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = rows[:, 2], rows[:, 3]
    return OPENCV_CAMERA @ extrinsics, intrinsics


def _is_pose_file(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"http"


def _tables(root: Path) -> list[Path]:
    """.mat files that have a folder of their name beside them."""
    return [f for f in sorted(root.glob("*.mat")) if (root / f.stem).is_dir()]


def _find_media(folders: list[Path]) -> dict[str, Path]:
    """Folders of frames and videos by the name of their clip.

    A folder is that of a clip unless it is one of `folders` with other folders in it.
    """
    media: dict[str, Path] = {}
    for folder in folders:
        # A scan tells folders from files without asking the disk about each.
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)
                if entry.is_dir():
                    media.setdefault(path.name, path)
                elif path.suffix.lower() in VIDEOS:
                    media.setdefault(path.stem, path)
    return media


def _read_rows(path: Path) -> Float[ndarray, "view 19"]:
    lines = path.read_text().splitlines()[1:]
    numbers = np.array(" ".join(lines).split(), np.float64)
    if numbers.size % _COLUMNS or not numbers.size:
        raise ValueError
    return numbers.reshape(-1, _COLUMNS)


def _read_table(path: Path) -> Iterator[tuple[str, Float[ndarray, "view 19"]]]:
    # Slow to import, and only this form needs it.
    import scipy.io

    try:
        content = scipy.io.loadmat(path)
    except Exception as error:
        raise UserError(f"{path} is no MATLAB 5 file ({error}).") from error
    for clip, rows in sorted(content.items()):
        if clip.startswith("__"):
            continue
        if rows.ndim != 2 or rows.shape[1] != _COLUMNS or rows.dtype.kind not in "fiu":
            raise UserError(
                f"{path} holds {clip} of shape {rows.shape}; rows have 19 numbers."
            )
        yield clip, rows.astype(np.float64)


def _count_frames(path: Path) -> int:
    import imageio_ffmpeg

    try:
        return int(imageio_ffmpeg.count_frames_and_secs(str(path))[0])
    except (RuntimeError, OSError):
        return 0


def _read_video(path: Path) -> list[DecodedFrame]:
    """All frames of a video."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        width, height = next(reader)["size"]
        pixels = [np.frombuffer(data, np.uint8) for data in reader]
    except (OSError, RuntimeError, StopIteration) as error:
        raise UserError(f"The video {path} cannot be decoded; get it again.") from error
    return [DecodedFrame(frame.reshape(height, width, 3).copy()) for frame in pixels]
