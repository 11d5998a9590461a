"""How good the scenes of a model of objects themselves are: sampled without an image.

There is no truth beside a sample, so sets are compared. Renderings of the samples are
compared with images of held-out objects at the same cameras (distances of features),
and their surfaces with those of held-out objects (coverage and minimum matching
distance). A model that only repeats what it was trained on does well in all of these,
so the nearest training object of every sample is told besides.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.evaluation.baselines import Report
from unseen.evaluation.candidates import Candidate, render_views
from unseen.evaluation.journal import Journal, Record
from unseen.evaluation.places import named_seed
from unseen.evaluation.point_sets import (
    chamfer_distances,
    coverage,
    minimum_matching_distance,
)
from unseen.evaluation.prior_objects import KnownObjects, PriorSettings
from unseen.evaluation.scores import AnyMetric, SetMetric
from unseen.geometry.views import Views
from unseen.methods.method import SceneMethod
from unseen.scenes.scene import Scene

SurfacePoints = Callable[[Scene, int, torch.Generator], Float[Tensor, "point 3"]]
"""A scene's surface as so many points. Raises UserError if there is none."""


@dataclasses.dataclass(frozen=True)
class PriorPlan:
    """What samples are compared with, and how."""

    data: str
    held_out: KnownObjects
    training: KnownObjects
    settings: PriorSettings
    metrics: Sequence[AnyMetric]
    surface: SurfacePoints
    pictures: int
    """Samples that are shown beside their nearest training object."""

    def __post_init__(self) -> None:
        for what, known in (("held-out", self.held_out), ("training", self.training)):
            if len(known.names) < 2:
                raise UserError(
                    f"{self.data} has {len(known.names)} {what} object"
                    f"{'' if len(known.names) == 1 else 's'}: comparing sets takes at "
                    "least two, so name more data."
                )

    @property
    def has_surfaces(self) -> bool:
        """Whether the data's surfaces are known."""
        return self.held_out.points is not None and self.training.points is not None

    @property
    def set_metrics(self) -> list[SetMetric]:
        """The distances between sets of images that can be measured."""
        return [
            m for m in self.metrics if isinstance(m, SetMetric) and m.missing is None
        ]


def measure_prior(
    candidate: Candidate, plan: PriorPlan, journal: Journal, report: Report
) -> None:
    """Sample scenes that the journal does not hold yet, and keep what is measured."""
    count = plan.settings.samples
    for number in range(count):
        key = (candidate.label, plan.data, f"sample {number:04d}")
        if key not in journal.records:
            _measure_sample(candidate, plan, journal, number)
        report(number + 1, count)


@torch.no_grad()
def _measure_sample(
    candidate: Candidate, plan: PriorPlan, journal: Journal, number: int
) -> None:
    name = f"sample {number:04d}"
    key = (candidate.label, plan.data, name)
    method, side = candidate.method, candidate.image_size
    device = next(method.parameters()).device
    partner = plan.held_out.views[number % len(plan.held_out.views)]
    cameras = partner.cameras.to(device)
    nothing = Views(
        torch.empty(1, 0, 3, side, side, device=device), cameras[None][:, :0]
    )
    seed = named_seed(plan.settings.seed, name)
    started = time.perf_counter()
    assert isinstance(method, SceneMethod)
    scene = method.sample_scene(nothing, [seed], cameras[None], candidate.options)[0]
    seconds = time.perf_counter() - started
    images = render_views(scene, cameras, (side, side)).cpu().clamp(0, 1)
    features = {m.space: m.describe(images) for m in plan.set_metrics}
    numbers: dict[str, Any] = {"seconds": seconds, "nearest": None, "surface": None}
    if plan.has_surfaces:
        generator = torch.Generator().manual_seed(seed)
        try:
            points = plan.surface(scene, plan.settings.points, generator)
        except UserError as error:
            # One empty scene must not cost the others: it counts as none.
            numbers["surface"] = str(error)
        else:
            features["points"] = points
            numbers["nearest"] = _nearest(points, plan.training)
    if number < plan.pictures and numbers["nearest"] is not None:
        numbers["pictures"] = _show(scene, plan, journal, numbers["nearest"], key)
    path = journal.write_features(key, features)
    journal.add(Record(*key, numbers, path))


def _nearest(
    points: Float[Tensor, "point 3"], training: KnownObjects
) -> dict[str, Any]:
    """The training object whose surface is nearest, and how near it is."""
    assert training.points is not None
    distances = chamfer_distances([points], training.points)[0]
    index = int(distances.argmin())
    return {"object": training.names[index], "distance": float(distances[index])}


def _show(
    scene: Scene,
    plan: PriorPlan,
    journal: Journal,
    nearest: dict[str, Any],
    key: tuple[str, str, str],
) -> list[str]:
    """Pictures of a sample and of its nearest training object, at one camera."""
    views = plan.training.views[list(plan.training.names).index(nearest["object"])]
    camera = views.cameras[:1].to(scene.bounds().device)
    image = scene.render(camera, views.size).color[0].cpu()
    name = "=".join(part.replace("/", "-").replace(" ", "-") for part in key)
    return [
        journal.write_picture(name, image),
        journal.write_picture(f"{name}=nearest", views.images[0]),
    ]


def collect_prior(
    label: str, plan: PriorPlan, journal: Journal
) -> dict[str, float | int | None]:
    """The numbers of one model; None where something could not be measured.

    Distances of surfaces are in 1000ths of a squared world unit.
    """
    count = plan.settings.samples
    records = [
        journal.records[(label, plan.data, f"sample {number:04d}")]
        for number in range(count)
    ]
    features = [journal.read_features(record) for record in records]
    truth = [plan.held_out.views[i % len(plan.held_out.views)] for i in range(count)]
    shown = {
        m.space: torch.cat([f[m.space] for f in features]) for m in plan.set_metrics
    }
    points = [f["points"] for f in features if "points" in f]
    nearest = [
        r.numbers["nearest"] for r in records if r.numbers["nearest"] is not None
    ]
    found = _compare(plan, shown, truth, points)
    distances = torch.tensor([x["distance"] for x in nearest], dtype=torch.float64)
    seconds = torch.tensor([r.numbers["seconds"] for r in records])
    return {
        "samples": count,
        "with a surface": len(points) if plan.has_surfaces else None,
        **found,
        "nearest training object": 1000 * float(distances.mean()) if nearest else None,
        "seconds per sample": float(seconds.median()),
    }


def training_as_samples(plan: PriorPlan) -> dict[str, float | int | None]:
    """The same numbers of training objects in the place of samples: what a model that
    repeated its training data would get, and about the best to hope for."""
    count = min(plan.settings.samples, len(plan.training.names))
    views = plan.training.views[:count]
    truth = [plan.held_out.views[i % len(plan.held_out.views)] for i in range(count)]
    shown = {
        m.space: torch.cat([m.describe(v.images) for v in views])
        for m in plan.set_metrics
    }
    points = [] if plan.training.points is None else plan.training.points[:count]
    found = _compare(plan, shown, truth, points if plan.has_surfaces else [])
    return {
        "samples": count,
        "with a surface": count if plan.has_surfaces else None,
        **found,
        "nearest training object": None,
        "seconds per sample": None,
    }


def held_out_nearest(plan: PriorPlan) -> float | None:
    """How far held-out objects are from their nearest training object, on average.

    In 1000ths of a squared world unit. Samples that are much nearer are repetitions.
    """
    if plan.held_out.points is None or plan.training.points is None:
        return None
    distances = chamfer_distances(plan.held_out.points, plan.training.points)
    return 1000 * float(distances.amin(dim=1).mean())


def _compare(
    plan: PriorPlan,
    shown: dict[str, Tensor],
    truth: Sequence[Views],
    points: Sequence[Float[Tensor, "point 3"]],
) -> dict[str, float | None]:
    """Distances of images, then of surfaces."""
    found: dict[str, float | None] = {}
    for metric in plan.metrics:
        if not isinstance(metric, SetMetric):
            continue
        found[metric.name] = None
        if metric.missing is None:
            real = torch.cat([metric.describe(v.images) for v in truth])
            found[metric.name] = metric.compare(shown[metric.space], real)
    found["coverage"] = found["MMD"] = None
    if points and plan.held_out.points is not None:
        distances = chamfer_distances(points, plan.held_out.points)
        found["coverage"] = coverage(distances)
        found["MMD"] = 1000 * minimum_matching_distance(distances)
    return found
