"""What every reader of posed images is: scenes, each with views."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from unseen.data.manifest import Split
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something wrong with a data set: the file, one sentence, and what became of it.

    `skipped` says what is left out for it ("view", "scene"); None where nothing is.
    """

    path: Path
    reason: str
    skipped: str | None = None


class PosedDataset(abc.ABC):
    """Scenes of posed images, by index: the interface of all readers.

    A reader is opened quickly: it looks at lists of files and cameras, not at images.
    What is wrong is found once, kept in `problems`, and left out by a rule that the
    reader states; what cannot be used at all raises UserError.
    """

    root: Path
    """Where the data set lies."""

    @property
    @abc.abstractmethod
    def scene_ids(self) -> list[str]:
        """Names of the scenes, in the order of their indices."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found wrong when the data set was opened, each thing once."""
        return ()

    @property
    def runs(self) -> Sequence[int]:
        """How many scenes lie one after another in each file, in the scenes' order.

        Where every scene has files of its own, as by default, all runs are 1.
        """
        return [1] * len(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader did to the data or had to assume, a sentence each."""
        return ()

    def caption(self, index: int) -> str:
        """What the scene is, in words; "" where the data does not tell."""
        return ""

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scene_ids)

    @abc.abstractmethod
    def num_views(self, index: int) -> int:
        """How many usable views the scene has."""

    def frame_numbers(self, index: int) -> Sequence[int]:
        """The number of each usable view in its scene, counted from 0.

        It is the view's place among all that the scene's files list, those that cannot
        be used too: published lists of views mean these numbers, and `load` does not.
        By default nothing is missing between the views.
        """
        return range(self.num_views(index))

    @abc.abstractmethod
    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Views (view,) of the scene with this index; all of them by default.

        Images are in [0, 1], cameras OpenCV camera-to-world with normalised
        intrinsics in a z-up world. Masks and depths are there where the data knows
        them. Raises UserError, naming the file, for what cannot be read.
        """


class PosedReader(PosedDataset):
    """A data set on disk of one format: each format is a final class in its own file.

    Readers are listed in `formats.READERS`, and are made by
    `Reader(path, cache=False, depths=True)`, with `split` where `splits` names some.
    """

    format_name: ClassVar[str]
    """What people call the format, as messages say it."""

    @classmethod
    @abc.abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether this folder looks like the format, judged by names of files."""

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """Which parts of the data set are told apart there; none by default."""
        return ()
