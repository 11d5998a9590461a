"""Reads all of a data set to say what it holds and what is wrong with it."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from unseen.data.dataset import PosedDataset, PosedReader, Problem
from unseen.data.world import focus_point
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.check import check_cameras

Report = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


@dataclasses.dataclass(frozen=True)
class SceneSurvey:
    """What decoding every image of a scene showed.

    `views` are the indices of those that could be read; `sizes` (height, width) and
    `cameras` (None for no views) are theirs, in order.
    """

    id: str
    views: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    cameras: Cameras | None
    has_masks: bool
    has_depths: bool
    problems: tuple[Problem, ...]


def survey_scene(
    dataset: PosedDataset, index: int, report: Report | None = None
) -> SceneSurvey:
    """Load every view of a scene by itself; what cannot be loaded is a problem."""
    name = dataset.scene_ids[index]
    place = dataset.root / name
    found: list[Problem] = []
    views, sizes, cameras, masks, depths = [], [], [], True, True
    try:
        count = dataset.num_views(index)
    except UserError as error:
        found.append(Problem(place, str(error), "scene"))
        count = 0
    for view in range(count):
        try:
            loaded = dataset.load(index, [view])
            check_cameras(loaded.cameras, f"view {view} of {name}")
        except UserError as error:
            found.append(Problem(place, str(error), "view"))
        else:
            views.append(view)
            sizes.append(loaded.size)
            cameras.append(loaded.cameras)
            masks &= loaded.masks is not None
            depths &= loaded.depths is not None
        if report is not None:
            report(view + 1, count)
    found += _mixed_sizes(dataset, index, views, sizes)
    return SceneSurvey(
        name,
        tuple(views),
        tuple(sizes),
        Cameras.cat(cameras) if cameras else None,
        masks and bool(views),
        depths and bool(views),
        tuple(dict.fromkeys(found)),
    )


def _mixed_sizes(
    dataset: PosedDataset,
    index: int,
    views: list[int],
    sizes: list[tuple[int, int]],
) -> list[Problem]:
    counts = collections.Counter(sizes)
    if len(counts) < 2:
        return []
    name = dataset.scene_ids[index]
    (usual, _), *_ = counts.most_common(1)
    other = next(i for i, size in enumerate(sizes) if size != usual)
    reason = (
        f"{name} has images of {len(counts)} sizes: most are {usual[0]}x{usual[1]} "
        f"(height x width), view {views[other]} is {sizes[other][0]}x{sizes[other][1]}."
    )
    return [Problem(dataset.root / name, reason)]


def check(dataset: PosedDataset, images: bool = True) -> tuple[Problem, ...]:
    """All problems of a data set, each once; with `images`, by decoding every image.

    Without, only lists and cameras are read, as far as the format keeps them apart.
    """
    found: dict[Problem, None] = {}
    for index in range(len(dataset)):
        if images:
            found.update(dict.fromkeys(survey_scene(dataset, index).problems))
        else:
            try:
                dataset.num_views(index)
            except UserError as error:
                place = dataset.root / dataset.scene_ids[index]
                found[Problem(place, str(error), "scene")] = None
    # Reading on may have added to the data set's own.
    return tuple(dict.fromkeys([*dataset.problems, *found]))


def summarize_problems(problems: Sequence[Problem]) -> str:
    """One sentence: how many views and scenes are left out, and the first reason."""
    counts = collections.Counter(problem.skipped for problem in problems)
    parts = [
        f"{counts[kind]} {kind}{'s' if counts[kind] > 1 else ''} left out"
        for kind in ("view", "scene")
        if counts[kind]
    ]
    if counts[None]:
        parts.append(f"{counts[None]} more remark{'s' if counts[None] > 1 else ''}")
    return f"{', '.join(parts)}; the first: {problems[0].reason}"


def describe(dataset: PosedReader, surveys: Sequence[SceneSurvey]) -> dict[str, Any]:
    """What a data set holds, as plain values: see docs/data.md for the fields.

    Ranges are [least, greatest] over all views of the `surveys`; angles are degrees.
    """
    problems = [*dataset.problems, *(p for s in surveys for p in s.problems)]
    counts = [len(survey.views) for survey in surveys]
    sizes = collections.Counter(size for s in surveys for size in s.sizes)
    return {
        "format": dataset.format_name,
        "path": str(dataset.root),
        "scenes": len(dataset),
        "scenes_read": len(surveys),
        "views": sum(counts),
        "views_per_scene": [min(counts), max(counts)],
        "sizes": {f"{w}x{h}": n for (h, w), n in sizes.most_common()},
        **_camera_ranges(surveys),
        "masks": all(survey.has_masks for survey in surveys),
        "depths": all(survey.has_depths for survey in surveys),
        "notes": list(dataset.notes),
        "problems": [
            {"path": str(p.path), "reason": p.reason, "skipped": p.skipped}
            for p in dict.fromkeys(problems)
        ],
    }


def _camera_ranges(surveys: Sequence[SceneSurvey]) -> dict[str, list[float] | None]:
    values: dict[str, list[float]] = collections.defaultdict(list)
    for survey in surveys:
        if survey.cameras is not None:
            for name, number in _camera_numbers(survey.cameras):
                values[name].append(number)
    names = ("field_of_view", "distance", "elevation", "near", "far")
    return {
        name: [min(values[name]), max(values[name])] if values[name] else None
        for name in names
    }


def _camera_numbers(cameras: Cameras) -> Iterator[tuple[str, float]]:
    """Horizontal field of view, near and far; distance to and elevation above what the
    cameras look at, if they look at one point."""
    cameras = cameras.to(torch.float64)
    for focal in cameras.intrinsics[:, 0, 0].tolist():
        yield "field_of_view", math.degrees(2 * math.atan(0.5 / focal))
    for name, bounds in (("near", cameras.near), ("far", cameras.far)):
        for bound in bounds.tolist():
            yield name, bound
    center = focus_point(cameras.extrinsics)
    if center is None:
        return
    for x, y, z in (cameras.centers - center).tolist():
        yield "distance", math.hypot(x, y, z)
        yield "elevation", math.degrees(math.atan2(z, math.hypot(x, y)))
