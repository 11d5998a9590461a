"""Novel views of held-out scenes by several methods, scene by scene.

Metrics are averaged over a scene's views and then over scenes.
"""

from __future__ import annotations

import dataclasses
import time
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
from unseen.evaluation.cost import RenderCost, render_cost
from unseen.evaluation.journal import Journal, Record, file_name
from unseen.evaluation.places import Place, view_angles
from unseen.evaluation.scores import (
    AnyMetric,
    ObservedViews,
    describe_views,
    measure_views,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.scenes.scene import Scene

MEAN_IMAGE, NEAREST_OBJECT = "mean training image", "nearest training object"
BASELINES = (MEAN_IMAGE, NEAREST_OBJECT)
"""Labels of the baselines."""

VIEWS_AT_ONCE = 16
"""Cameras per call of the renderer, which bounds the memory."""

SHOWN_AT = (0.35, 0.85)
"""Which of a scene's targets are shown, as a fraction of them in order of angle."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A method that is measured, by the name that tables give it."""

    label: str
    method: SceneMethod
    image_size: int
    options: SampleOptions


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is done at every place."""

    places: Sequence[Place]
    metrics: Sequence[AnyMetric]
    pictures: int
    """Scenes of which pictures are kept, evenly spread over the places."""
    seed: int

    def shown(self) -> set[int]:
        """Numbers of the places of which pictures are kept."""
        count = min(self.pictures, len(self.places))
        return {i * len(self.places) // count for i in range(count)}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of making a scene and of rendering its views.

    `frame` says of the first scene what one frame costs.
    """

    scene: float = 0.0
    render: float = 0.0
    frame: RenderCost | None = None


def check_context(candidates: Sequence[Candidate], plan: Plan, protocol: str) -> None:
    """Raise UserError if a method takes fewer views than the protocol gives."""
    most = max(len(place.choice.context) for place in plan.places)
    for candidate in candidates:
        allowed = candidate.method.max_context
        if allowed is not None and most > allowed:
            views = "1 view" if allowed == 1 else f"{allowed} views"
            raise UserError(
                f"{candidate.label} takes {views} and the protocol {protocol} gives "
                f"{most}: leave it out, or choose another protocol."
            )


def measure_candidate(
    candidate: Candidate, plan: Plan, journal: Journal, report: Report
) -> None:
    """Measure one method at all places that the journal does not hold yet."""
    side = candidate.image_size
    device = next(candidate.method.parameters()).device

    def observe(
        number: int, place: Place, context: Views, cameras: Cameras
    ) -> tuple[Float[Tensor, "view 3 height width"], Cost]:
        where = place.sampled_cameras(side, cameras).to(device)[None]
        given = Views(context.images[None], context.cameras[None]).to(device)
        started = _now(device)
        scene = candidate.method.sample_scene(
            given, [place.seed(plan.seed)], where, candidate.options
        )[0]
        made = _now(device)
        images = render_views(scene, cameras.to(device), context.size).cpu()
        rendered = _now(device)
        frame = None
        if number == 0:
            frame = render_cost(scene, cameras[:1].to(device), context.size, repeats=1)
        return images, Cost(made - started, rendered - made, frame)

    _measure(
        candidate.label,
        side,
        candidate.method.max_context,
        observe,
        plan,
        journal,
        report,
    )


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
        _measure(label, side, None, observe, plan, journal, report(label))


Observe = Callable[
    [int, Place, Views, Cameras], tuple[Float[Tensor, "view 3 height width"], Cost]
]


def _baseline(label: str, known: TrainingViews) -> Observe:
    def observe(
        number: int, place: Place, context: Views, cameras: Cameras
    ) -> tuple[Float[Tensor, "view 3 height width"], Cost]:
        if label == MEAN_IMAGE:
            return known.mean_image(cameras), Cost()
        return known.nearest_object(number, cameras), Cost()

    return observe


@torch.no_grad()
def _measure(
    label: str,
    side: int,
    max_context: int | None,
    observe: Observe,
    plan: Plan,
    journal: Journal,
    report: Report,
) -> None:
    shown, metrics = plan.shown(), list(plan.metrics)
    for number, place in enumerate(plan.places):
        key = (label, place.data, place.scene)
        if key not in journal.records:
            context, truth = place.load(side, max_context)
            images, cost = observe(number, place, context, truth.cameras)
            seen = ObservedViews(context, truth, images.clamp(0, 1))
            angles = view_angles(truth.cameras, context.cameras)
            features = describe_views(seen, metrics)
            numbers: dict[str, Any] = {
                "given": place.choice.context,
                "views": place.choice.targets,
                "angles": [round(a, 2) for a in angles.tolist()],
                "values": measure_views(seen, metrics),
                "cost": dataclasses.asdict(cost),
                "pictures": _write_pictures(journal, place, seen, angles, label)
                if number in shown
                else None,
            }
            name = journal.write_features(key, features) if features else None
            journal.add(Record(*key, numbers, name))
        report(number + 1, len(plan.places))


def _write_pictures(
    journal: Journal,
    place: Place,
    seen: ObservedViews,
    angles: Float[Tensor, "view"],
    label: str,
) -> dict[str, Any]:
    """Keep the given views, and truth and rendering of a few others."""
    scene, side = file_name(place.data, place.scene), seen.truth.size[0]
    given = [
        journal.write_picture(f"{scene}={view}={side}", image)
        for view, image in zip(place.choice.context, seen.context.images, strict=True)
    ]
    order = angles.argsort().tolist()
    picked = {order[round(part * (len(order) - 1))] for part in SHOWN_AT}
    shown = []
    for i in sorted(picked, key=order.index):
        view = place.choice.targets[i]
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


def render_views(
    scene: Scene, cameras: Cameras, size: tuple[int, int]
) -> Float[Tensor, "view 3 height width"]:
    """One scene at cameras (view,), a few at a time."""
    parts = [
        scene.render(cameras[start : start + VIEWS_AT_ONCE], size).color
        for start in range(0, len(cameras), VIEWS_AT_ONCE)
    ]
    return torch.cat(parts)


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
