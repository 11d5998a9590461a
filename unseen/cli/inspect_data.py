"""`unseen data inspect`: what a data set holds, and whether its poses are right."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.data.dataset import PosedReader
    from unseen.data.inspection import SceneSurvey
    from unseen.data.pose_error import MatchedPair

MOST_PROBLEMS = 10
"""Problems that are listed one by one; --json lists all."""


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Say what a folder of posed images holds, and what is wrong with it.

    Recognises the format, decodes every image of the scenes that it reads, matches
    features between neighbouring views and measures how far they are from their
    epipolar lines. The picture shows the cameras, and points with their lines.
    """

    path: tyro.conf.Positional[Path]
    """Folder of the data set."""
    scene: str | None = None
    """Scene to read and to draw; by default all are read, and the first is drawn."""
    scenes: int | None = None
    """Read only the first so many scenes."""
    out: Path | None = None
    """PNG file to write the picture to."""
    json: bool = False
    """Print JSON, for programs."""

    def run(self) -> None:
        """Read, print, and draw where that was asked for."""
        from unseen.data.formats import open_reader
        from unseen.data.inspection import describe
        from unseen.export.inspection_picture import (
            draw_inspection,
            match_neighbours,
            save_picture,
        )

        self._check()
        dataset = open_reader(self.path)
        chosen = self._choose(dataset.scene_ids)
        surveys = _survey(dataset, chosen)
        pairs = match_neighbours(dataset, chosen[0], surveys[0])
        found = describe(dataset, surveys) | {"poses": _measure(surveys[0], pairs)}
        if self.out is not None:
            picture = draw_inspection(dataset, chosen[0], surveys[0], pairs)
            save_picture(picture, self.out)
            found["picture"] = str(self.out)
        if self.json:
            print(json.dumps(found, indent=2))
        else:
            _show(found)

    def _check(self) -> None:
        """Refuse what makes no sense before anything slow happens."""
        from unseen.files import check_place

        if self.scenes is not None and self.scenes < 1:
            raise UserError(f"--scenes is {self.scenes}: read at least one.")
        if self.out is not None:
            if self.out.suffix.lower() != ".png":
                raise UserError(f"{self.out} must end in .png: it will be a picture.")
            if self.out.exists():
                raise UserError(f"{self.out} exists: choose another file with --out.")
            check_place(self.out)

    def _choose(self, names: list[str]) -> list[int]:
        if self.scene is None:
            return list(range(len(names)))[: self.scenes]
        if self.scene not in names:
            raise UserError(
                f"{self.path} has no scene '{self.scene}': it has "
                f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
            )
        return [names.index(self.scene)]


def _survey(dataset: PosedReader, chosen: list[int]) -> list[SceneSurvey]:
    """Decode everything, with a bar on the error stream."""
    from rich.console import Console
    from rich.progress import Progress

    from unseen.data.inspection import survey_scene

    surveys = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        scenes = progress.add_task("scenes", total=len(chosen))
        views = progress.add_task("views", total=None)

        def report(done: int, total: int) -> None:
            progress.update(views, completed=done, total=total)

        for index in chosen:
            surveys.append(survey_scene(dataset, index, report))
            progress.update(scenes, advance=1)
    return surveys


def _measure(survey: SceneSurvey, pairs: list[MatchedPair]) -> dict[str, Any]:
    """Median epipolar distance over the pairs' matches, in pixels."""
    import torch

    distances = [pair.distances for pair in pairs if len(pair.distances)]
    together = torch.cat(distances) if distances else None
    return {
        "scene": survey.id,
        "pairs": [[pair.first, pair.second, len(pair.distances)] for pair in pairs],
        "matches": 0 if together is None else len(together),
        "median_pixels": None if together is None else float(together.median()),
    }


def _show(found: dict[str, Any]) -> None:
    """The facts as a list of lines."""

    def span(values: list[float] | None, unit: str = "", digits: int = 3) -> str:
        if values is None:
            return "unknown (the cameras do not look at one point)"
        low, high = (f"{value:.{digits}g}" for value in values)
        return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"

    low, high = found["views_per_scene"]
    per_scene = f"{low}" if low == high else f"{low} to {high}"
    read, scenes = found["scenes_read"], found["scenes"]
    sizes = ", ".join(f"{size} ({n})" for size, n in found["sizes"].items())
    poses = found["poses"]
    error = poses["median_pixels"]
    lines = {
        "format": found["format"],
        "scenes": f"{scenes}" if read == scenes else f"{scenes}, of which {read} read",
        "views": f"{found['views']}, per scene {per_scene}",
        "sizes": f"{sizes or 'none'} (width x height)",
        "field of view": span(found["field_of_view"], " degrees, horizontal"),
        "distance": span(found["distance"]),
        "elevation": span(found["elevation"], " degrees"),
        "near": span(found["near"]),
        "far": span(found["far"]),
        "masks, depths": ", ".join(
            "yes" if found[name] else "no" for name in ("masks", "depths")
        ),
        "poses": (
            "nothing looks the same in neighbouring views, so look at the picture"
            if error is None
            else f"matches of neighbours are {error:.2f} pixels (median) from their "
            f"epipolar lines ({poses['matches']} matches, {len(poses['pairs'])} pairs "
            f"of {poses['scene']})"
        ),
    }
    for name, text in lines.items():
        print(f"{name + ':':<15}{text}")
    for note in found["notes"]:
        print(f"{'note:':<15}{note}")
    _show_problems(found["problems"])
    if "picture" in found:
        print(f"{'picture:':<15}{found['picture']}")


def _show_problems(problems: list[dict[str, Any]]) -> None:
    counts = Counter(problem["skipped"] or "remark" for problem in problems)
    names = {"view": "views left out", "scene": "scenes left out", "remark": "remarks"}
    parts = [f"{counts[key]} {name}" for key, name in names.items() if counts[key]]
    print(f"{'problems:':<15}{', '.join(parts) or 'none'}")
    for problem in problems[:MOST_PROBLEMS]:
        print(f"  {problem['reason']}")
    if len(problems) > MOST_PROBLEMS:
        print(f"  and {len(problems) - MOST_PROBLEMS} more; --json lists all")
