"""What the readers of listed frames share: usable ones, read when they are asked for.

The rule for bad data, of all of them: a view whose image is not there or whose camera
is none is left out; a scene without a usable view, or whose list cannot be read, is
left out; a data set without a usable scene is refused. Each is reported once. What
only decoding shows (a truncated image) is refused, with its name, when it is read.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from unseen.data.dataset import PosedReader, Problem
from unseen.data.frames import Frame, Pixels
from unseen.data.world import RELATIVE_RADIUS, bounds_of_cameras, turn_upright
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

LISTED_AT_ONCE = 1000
"""Scenes whose lists are read on opening; those after them when they are first used."""

UPRIGHT = "The world is turned so that the mean of the cameras' up vectors is +z."
AROUND = (
    "near and far are the depth of the point nearest to all optical axes -+ {:.1f} "
    "percent of its distance."
)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The frames that a scene's files list, and what else is to be said of them.

    `upright` says whether the world's z is up already; if not, it is turned. Frames
    without near and far get those of a ball around the point that the cameras look
    at, whose radius is `radius_share` of their distance. `problems` are those that the
    list itself has; `notes` say what was done to the data, a sentence each.
    """

    frames: tuple[Frame, ...]
    upright: bool = False
    radius_share: float = RELATIVE_RADIUS
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


class FrameReader(PosedReader):
    """A data set whose scenes are lists of image files with cameras.

    `cache` keeps every view that was read in memory, in 8 bits.
    """

    def __init__(
        self, path: str | Path, cache: bool = False, depths: bool = True
    ) -> None:
        # None of these formats has depths, so there are none to leave alone.
        self.root = Path(path)
        self._cache: dict[tuple[int, int], Pixels] | None = {} if cache else None
        self._problems: list[Problem] = []
        self._notes: dict[str, None] = {}
        self._listings: dict[int, tuple[Frame, ...]] = {}
        places = self._find_scenes()
        self._places = self._list_first(places[:LISTED_AT_ONCE])
        self._places += places[LISTED_AT_ONCE:]
        if not self._places:
            self._refuse()

    @abc.abstractmethod
    def _find_scenes(self) -> list[Path]:
        """Where the scenes lie, by name."""

    @abc.abstractmethod
    def _list_frames(self, place: Path) -> Listing:
        """All frames of a scene, usable or not; UserError where there is no telling."""

    def _list_first(self, places: list[Path]) -> list[Path]:
        """Those places that have usable frames, which are kept."""
        kept: list[Path] = []
        for place in places:
            try:
                frames = self._usable(place)
            except UserError as error:
                self._problems.append(Problem(place, str(error), "scene"))
                continue
            if not frames:
                reason = f"{place} has no usable view."
                self._problems.append(Problem(place, reason, "scene"))
                continue
            self._listings[len(kept)] = frames
            kept.append(place)
        return kept

    def _usable(self, place: Path) -> tuple[Frame, ...]:
        listing = self._list_frames(place)
        self._notes.update(dict.fromkeys(listing.notes))
        self._problems += listing.problems
        kept: dict[Path, Frame] = {}
        for number, frame in enumerate(listing.frames):
            fault = frame.fault()
            if fault is None and frame.image in kept:
                fault = "is listed twice"
            if fault is not None:
                reason = f"{frame.image} {fault}."
                self._problems.append(Problem(frame.image, reason, "view"))
            else:
                kept[frame.image] = dataclasses.replace(frame, number=number)
        frames = self._mask_all(place, list(kept.values()))
        if frames and not listing.upright:
            frames = self._turn(place, frames)
        if any(frame.near is None for frame in frames):
            frames = self._bound(place, frames, listing.radius_share)
        return tuple(frames)

    def _mask_all(self, place: Path, frames: list[Frame]) -> list[Frame]:
        """The frames with masks for all or for none: batches hold one or the other."""
        missing = [f for f in frames if f.mask is None or not f.mask.is_file()]
        if not missing or all(frame.mask is None for frame in frames):
            return frames
        reason = (
            f"{len(missing)} of {len(frames)} images of {place} have no mask "
            f"({missing[0].image.name} is the first), so no masks are used there."
        )
        self._problems.append(Problem(place, reason))
        return [dataclasses.replace(frame, mask=None) for frame in frames]

    def _turn(self, place: Path, frames: list[Frame]) -> list[Frame]:
        motion = turn_upright(torch.stack([frame.extrinsics for frame in frames]))
        if motion is None:
            reason = f"The cameras of {place} have no common up: z is the file's."
            self._problems.append(Problem(place, reason))
            return frames
        self._notes[UPRIGHT] = None
        return [
            dataclasses.replace(frame, extrinsics=motion @ frame.extrinsics)
            for frame in frames
        ]

    def _bound(self, place: Path, frames: list[Frame], share: float) -> list[Frame]:
        poses = torch.stack([frame.extrinsics for frame in frames])
        bounds = bounds_of_cameras(poses, share)
        if bounds is None:
            reason = f"{place} states no near and far, and its cameras do not tell."
            self._problems.append(Problem(place, reason, "scene"))
            return []
        near, far, guess = bounds
        if guess is not None:
            self._problems.append(Problem(place, f"In {place}, {guess}."))
        else:
            self._notes[AROUND.format(100 * share)] = None
        return [
            dataclasses.replace(frame, near=float(n), far=float(f))
            if frame.near is None
            else frame
            for frame, n, f in zip(frames, near, far, strict=True)
        ]

    def _refuse(self) -> None:
        first = f" {self._problems[0].reason}" if self._problems else ""
        raise UserError(
            f"{self.root} has no usable scene of the format {self.format_name}.{first}"
        )

    @property
    def scene_ids(self) -> list[str]:
        """Paths of the scenes below the root; the root's own name for itself."""
        return [
            place.relative_to(self.root).as_posix()
            if place != self.root
            else self.root.resolve().name
            for place in self._places
        ]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found wrong so far, each thing once."""
        return tuple(self._problems)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, each thing once."""
        return tuple(self._notes)

    def frames(self, index: int) -> tuple[Frame, ...]:
        """The usable frames of the scene with this index.

        Raises:
            UserError: it is one of those that opening did not look at, and has none.
        """
        if index not in self._listings:
            found = self._usable(self._places[index])
            if not found:
                raise UserError(f"{self._places[index]} has no usable view; remove it.")
            self._listings[index] = found
        return self._listings[index]

    def num_views(self, index: int) -> int:
        """How many usable views the scene has."""
        return len(self.frames(index))

    def frame_numbers(self, index: int) -> Sequence[int]:
        """Places of the usable frames in the scene's list."""
        return [frame.number for frame in self.frames(index)]

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Views (view,) of the scene with this index; all of them by default.

        Raises:
            UserError: a file cannot be read, or the views have several sizes.
        """
        frames = self.frames(index)
        if view_indices is None:
            view_indices = list(range(len(frames)))
        chosen = [frames[view] for view in view_indices]
        pixels = [self._read(index, view) for view in view_indices]
        sizes = {
            tuple(p.colors.shape[1:]): f for p, f in zip(pixels, chosen, strict=True)
        }
        if len(sizes) > 1:
            names = [f"{f.image} ({h}x{w})" for (h, w), f in sizes.items()]
            raise UserError(
                f"The images {names[0]} and {names[1]} of one scene have different "
                f"sizes (height x width); open the data set with one side for all."
            )
        unpacked = [p.unpack() for p in pixels]
        masks = [mask for _, mask in unpacked if mask is not None]
        return Views(
            torch.stack([colors for colors, _ in unpacked]),
            frame_cameras(chosen),
            torch.stack(masks) if len(masks) == len(pixels) else None,
        )

    def _read(self, index: int, view: int) -> Pixels:
        if self._cache is None:
            return self.frames(index)[view].read()
        if (index, view) not in self._cache:
            self._cache[index, view] = self.frames(index)[view].read()
        return self._cache[index, view]


def frame_cameras(frames: list[Frame]) -> Cameras:
    """The cameras (view,) of frames whose near and far are known."""
    near = torch.tensor([frame.near for frame in frames], dtype=torch.float32)
    far = torch.tensor([frame.far for frame in frames], dtype=torch.float32)
    return Cameras(
        torch.stack([frame.extrinsics for frame in frames]).float(),
        torch.stack([frame.intrinsics for frame in frames]).float(),
        near,
        far,
    )
