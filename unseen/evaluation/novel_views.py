"""Novel views of held-out scenes by several methods, scene by scene.

Metrics are averaged over a scene's views and then over scenes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.baselines import (
    Report,
    TrainingViews,
    load_views,
    study_training_views,
)
from unseen.evaluation.candidates import Candidate, Cost, Request, make_samples
from unseen.evaluation.journal import Journal, Record, file_name
from unseen.evaluation.metrics import psnr
from unseen.evaluation.places import Place, view_angles
from unseen.evaluation.scores import (
    AnyMetric,
    Metric,
    ObservedViews,
    describe_views,
    measure_views,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

MEAN_IMAGE, NEAREST_OBJECT = "mean training image", "nearest training object"
BASELINES = (MEAN_IMAGE, NEAREST_OBJECT)
"""Labels of the baselines."""

SHOWN_AT = (0.35, 0.85)
"""Which of a scene's targets are shown, as a fraction of them in order of angle."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is done at every place."""

    places: Sequence[Place]
    metrics: Sequence[AnyMetric]
    pictures: int
    """Scenes of which pictures are kept, evenly spread over the places."""
    seed: int
    samples: int = 1
    """Samples of every scene by methods whose samples differ."""

    def shown(self) -> set[int]:
        """Numbers of the places of which pictures are kept."""
        count = min(self.pictures, len(self.places))
        return {i * len(self.places) // count for i in range(count)}


def best_label(label: str, samples: int) -> str:
    """The row of the best of several samples: of each scene, that of highest PSNR."""
    return f"{label}, best of {samples}"


def labels(candidate: Candidate, samples: int) -> list[str]:
    """The rows of a method: its first sample and, of several, the best one.

    A deterministic method makes one.
    """
    if samples == 1 or not candidate.method.varies(num_context=1):
        return [candidate.label]
    return [candidate.label, best_label(candidate.label, samples)]


def check_context(candidates: Sequence[Candidate], plan: Plan, protocol: str) -> None:
    """Raise UserError if what is asked for cannot be measured.

    A method takes fewer views than the protocol gives, or a metric needs more than are
    compared.
    """
    fewest = min(len(place.choice.targets) for place in plan.places)
    for metric in plan.metrics:
        if isinstance(metric, Metric) and fewest < metric.min_views:
            raise UserError(
                f"{metric.name} needs {metric.min_views} views of a scene and the "
                f"protocol {protocol} compares {fewest}: leave it out, or choose "
                "another protocol."
            )
    most = max(len(place.choice.context) for place in plan.places)
    for candidate in candidates:
        allowed = candidate.method.max_context
        # Methods that take none are not given any: they are told what it is, in words.
        if allowed and most > allowed:
            views = "1 view" if allowed == 1 else f"{allowed} views"
            raise UserError(
                f"{candidate.label} takes {views} and the protocol {protocol} gives "
                f"{most}: leave it out, or choose another protocol."
            )


def measure_candidate(
    candidate: Candidate, plan: Plan, journal: Journal, report: Report
) -> None:
    """Measure one method at all places that the journal does not hold yet."""
    side, rows = candidate.image_size, labels(candidate, plan.samples)
    samples = plan.samples if len(rows) > 1 else 1

    def observe(
        number: int, place: Place, context: Views, cameras: Cameras, on_view: Report
    ) -> tuple[Float[Tensor, "sample view 3 height width"], Cost]:
        request = Request(
            context,
            place.sampled_cameras(side, cameras),
            cameras,
            place.seeds(plan.seed, samples),
            first=number == 0,
            caption=place.dataset.caption(place.index),
        )
        return make_samples(candidate, request, on_view)

    most = candidate.method.max_context or None
    _measure(rows, side, most, observe, plan, journal, report)


def measure_baselines(
    training: Sequence[PosedDataset],
    side: int,
    plan: Plan,
    journal: Journal,
    report: Callable[[str], Report],
) -> None:
    """Measure both baselines; `report` makes a bar of its label.

    Training objects are studied only if something is left to measure.
    """
    keys = [(p.data, p.scene) for p in plan.places]
    if all((label, *key) in journal.records for label in BASELINES for key in keys):
        return
    inputs = torch.stack(
        [
            load_views(p.dataset, p.index, side, p.choice.context[:1]).images[0]
            for p in plan.places
        ]
    )
    known = study_training_views(training, inputs, report("training objects"))
    for label in BASELINES:
        observe = _baseline(label, known)
        _measure([label], side, None, observe, plan, journal, report(label))


Observe = Callable[
    [int, Place, Views, Cameras, Report],
    tuple[Float[Tensor, "sample view 3 height width"], Cost],
]


def _baseline(label: str, known: TrainingViews) -> Observe:
    def observe(
        number: int, place: Place, context: Views, cameras: Cameras, on_view: Report
    ) -> tuple[Float[Tensor, "sample=1 view 3 height width"], Cost]:
        if label == MEAN_IMAGE:
            return known.mean_image(cameras)[None], Cost()
        return known.nearest_object(number, cameras)[None], Cost()

    return observe


@torch.no_grad()
def _measure(
    rows: Sequence[str],
    side: int,
    max_context: int | None,
    observe: Observe,
    plan: Plan,
    journal: Journal,
    report: Report,
) -> None:
    """Measure what is missing of rows: the first sample's and, if there is, the best's.

    Progress counts views, which may take minutes each.
    """
    shown = plan.shown()
    sizes = [len(place.choice.targets) for place in plan.places]
    for number, place in enumerate(plan.places):
        before = sum(sizes[:number])

        def on_view(done: int, total: int, before=before, own=sizes[number]) -> None:
            report(before + done * own // total, sum(sizes))

        if any((row, place.data, place.scene) not in journal.records for row in rows):
            context, truth = place.load(side, max_context)
            images, cost = observe(number, place, context, truth.cameras, on_view)
            samples = [ObservedViews(context, truth, x.clamp(0, 1)) for x in images]
            best = max(samples, key=_mean_psnr)
            for row, seen in zip(rows, [samples[0], best], strict=False):
                _record(row, place, seen, cost, plan, journal, number in shown)
        report(before + sizes[number], sum(sizes))


def _mean_psnr(seen: ObservedViews) -> float:
    return float(psnr(seen.images, seen.truth.images).mean())


def _record(
    label: str,
    place: Place,
    seen: ObservedViews,
    cost: Cost,
    plan: Plan,
    journal: Journal,
    shown: bool,
) -> None:
    """Measure and keep one sample of a scene, if it is not kept yet."""
    key, metrics = (label, place.data, place.scene), list(plan.metrics)
    if key in journal.records:
        return
    angles = view_angles(seen.truth.cameras, seen.context.cameras)
    features = describe_views(seen, metrics)
    numbers: dict[str, Any] = {
        "given": place.numbers(place.choice.context),
        "views": place.numbers(place.choice.targets),
        "angles": [round(a, 2) for a in angles.tolist()],
        "values": measure_views(seen, metrics),
        "cost": dataclasses.asdict(cost),
        "pictures": _write_pictures(journal, place, seen, angles, label)
        if shown
        else None,
    }
    name = journal.write_features(key, features) if features else None
    journal.add(Record(*key, numbers, name))


def _write_pictures(
    journal: Journal,
    place: Place,
    seen: ObservedViews,
    angles: Float[Tensor, "view"],
    label: str,
) -> dict[str, Any]:
    """Keep the given views, and truth and rendering of a few others."""
    scene, side = file_name(place.data, place.scene), seen.truth.size[0]
    known = place.numbers(place.choice.context)
    compared = place.numbers(place.choice.targets)
    given = [
        journal.write_picture(f"{scene}={view}={side}", image)
        for view, image in zip(known, seen.context.images, strict=True)
    ]
    order = angles.argsort().tolist()
    picked = {order[round(part * (len(order) - 1))] for part in SHOWN_AT}
    shown = []
    for i in sorted(picked, key=order.index):
        view = compared[i]
        name = f"{scene}={view}={side}"
        shown.append(
            {
                "view": view,
                "angle": round(float(angles[i]), 1),
                "truth": journal.write_picture(name, seen.truth.images[i]),
                "image": journal.write_picture(
                    f"{name}={file_name(label)}", seen.images[i]
                ),
            }
        )
    return {"given": given, "shown": shown}
