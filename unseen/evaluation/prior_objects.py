"""The objects that samples of a prior are compared with, and how they are looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.baselines import Report
from unseen.evaluation.places import named_seed
from unseen.evaluation.surfaces import depth_points
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class PriorSettings:
    """How many samples, and what is looked at of each.

    Raises:
        UserError: too few to measure anything.
    """

    samples: int = 64
    """Scenes per model."""
    views: int = 4
    """Renderings of each, at the cameras of the first views of a held-out object."""
    points: int = 1024
    """Points on each surface."""
    seed: int = 0
    """Other seeds give other samples."""

    def __post_init__(self) -> None:
        if self.samples < 2 or min(self.views, self.points) < 1:
            raise UserError(
                "measuring a prior takes at least two samples, one view and one "
                f"point, not {self.samples}, {self.views} and {self.points}."
            )


@dataclasses.dataclass(frozen=True)
class KnownObjects:
    """Objects of a data set, images of their first views, and their surfaces.

    `points` is None where the data has no depth maps, which tell surfaces.
    """

    names: Sequence[str]
    views: Sequence[Views]
    points: Sequence[Float[Tensor, "point 3"]] | None


def study_objects(
    dataset: PosedDataset,
    most: int | None,
    side: int,
    settings: PriorSettings,
    report: Report | None = None,
) -> KnownObjects:
    """The first `most` objects of a data set whose images have `side` pixels.

    Raises:
        UserError: an object has too few views.
    """
    count = len(dataset) if most is None else min(most, len(dataset))
    names, views, points = dataset.scene_ids[:count], [], []
    for index, name in enumerate(names):
        loaded = dataset.load(index)
        if len(loaded) < settings.views:
            raise UserError(
                f"{name} has {len(loaded)} views and {settings.views} are compared: "
                "ask for fewer with --views."
            )
        if loaded.depths is not None:
            generator = torch.Generator().manual_seed(named_seed(settings.seed, name))
            points.append(depth_points(loaded, settings.points, generator))
        first = loaded[: settings.views]
        views.append(Views(first.images, first.cameras).shrink((side, side)))
        if report is not None:
            report(index + 1, count)
    return KnownObjects(names, views, points if len(points) == count else None)
