"""NeRF's synthetic (Blender) data: transforms_train.json, ..._val.json, ..._test.json.

The files' form is in `transforms_file`. z is up. Images are RGBA, composited on white.
near and far: the depth of the point that the cameras look at -+ half its distance,
which is the 2 and 6 in use for the released scenes, whose cameras are at distance 4.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from unseen.data.folders import list_folders, sample_folders
from unseen.data.frame_reader import FrameReader, Listing
from unseen.data.frames import Frame
from unseen.data.manifest import Split
from unseen.data.transforms_file import read_transforms

PARTS: dict[str, tuple[str, ...]] = {"train": ("train", "val"), "test": ("test",)}
RADIUS_SHARE = 0.5


class NeRFSyntheticDataset(FrameReader):
    """Reads one scene's folder, or a root of such folders.

    The parts are parts of every scene's views: "train" has those of the training and
    the validation file, "test" those of the test file; without `split`, all views.
    """

    format_name: ClassVar[str] = "NeRF-synthetic"

    def __init__(
        self,
        path: str | Path,
        cache: bool = False,
        depths: bool = True,
        split: Split | None = None,
    ) -> None:
        parts = [*PARTS["train"], *PARTS["test"]] if split is None else PARTS[split]
        self._files = [f"transforms_{part}.json" for part in parts]
        super().__init__(path, cache, depths)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a transforms_train.json here or one folder below."""
        name = "transforms_train.json"
        return any((folder / name).is_file() for folder in sample_folders(path))

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """Testing only where a scene has a file of test views."""
        name = "transforms_test.json"
        has_test = any((folder / name).is_file() for folder in sample_folders(path))
        return ("train", "test") if has_test else ("train",)

    def _find_scenes(self) -> list[Path]:
        places = [self.root, *list_folders(self.root)]
        return [p for p in places if any((p / name).is_file() for name in self._files)]

    def _list_frames(self, place: Path) -> Listing:
        files = [place / name for name in self._files if (place / name).is_file()]
        parts = [read_transforms(file) for file in files]
        frames: list[Frame] = [frame for part in parts for frame in part.frames]
        problems = [problem for part in parts for problem in part.problems]
        return Listing(tuple(frames), True, RADIUS_SHARE, tuple(problems))
