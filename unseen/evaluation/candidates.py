"""The methods that an evaluation measures, and what they make of a scene."""

from __future__ import annotations

import dataclasses
import time

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.evaluation.baselines import Report
from unseen.evaluation.cost import RenderCost, frame_cost, render_cost
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.method import (
    JointViewMethod,
    SampleOptions,
    SceneMethod,
    ViewMethod,
)
from unseen.scenes.scene import Scene

VIEWS_AT_ONCE = 16
"""Cameras per call of the renderer, which bounds the memory."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A method that is measured, by the name that tables give it."""

    label: str
    method: SceneMethod | ViewMethod | JointViewMethod
    image_size: int
    options: SampleOptions

    @property
    def device(self) -> torch.device:
        return next(self.method.parameters()).device


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of making a scene and of rendering its views, of one sample.

    A method that samples views makes no scene, and its frames are what is sampled.
    `frame` says of the first scene what one frame costs.
    """

    scene: float = 0.0
    render: float = 0.0
    frame: RenderCost | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a method at one place.

    `context` are views (view,), `sampled` the cameras (view,) that a method which
    samples scenes may need to know, `cameras` (view,) those that are compared. There
    is a seed per sample; `first` is the scene of which a frame's cost is measured.
    `caption` is what methods of text are asked for, "" where the data does not tell.
    """

    context: Views
    sampled: Cameras
    cameras: Cameras
    seeds: list[int]
    first: bool
    caption: str = ""


def make_samples(
    candidate: Candidate, request: Request, on_view: Report
) -> tuple[Float[Tensor, "sample view 3 height width"], Cost]:
    """What the cameras see in every sample; `on_view` receives views done and to do."""
    device = candidate.device
    context = Views(request.context.images, request.context.cameras).to(device)
    if candidate.method.max_context == 0:
        context = context[:0]
    request = dataclasses.replace(
        request, context=context, cameras=request.cameras.to(device)
    )
    if isinstance(candidate.method, ViewMethod):
        return _sample_views(candidate.method, candidate.options, request, on_view)
    if isinstance(candidate.method, JointViewMethod):
        return _sample_together(candidate.method, candidate.options, request, on_view)
    return _sample_scenes(candidate.method, candidate.options, request, on_view)


def _sample_scenes(
    method: SceneMethod, options: SampleOptions, request: Request, on_view: Report
) -> tuple[Float[Tensor, "sample view 3 height width"], Cost]:
    """One scene after the other, so that none depends on how many there are."""
    context, cameras, size = request.context, request.cameras, request.context.size
    where = request.sampled.to(cameras.device)[None]
    images, cost = [], Cost()
    for number, seed in enumerate(request.seeds):
        started = _now(cameras.device)
        scene = method.sample_scene(context[None], [seed], where, options)[0]
        made = _now(cameras.device)
        images.append(render_views(scene, cameras, size).cpu())
        if number == 0:
            rendered = _now(cameras.device)
            frame = None
            if request.first:
                frame = render_cost(scene, cameras[:1], size, repeats=1)
            cost = Cost(made - started, rendered - made, frame)
        on_view((number + 1) * len(cameras), len(request.seeds) * len(cameras))
    return torch.stack(images), cost


def _sample_views(
    method: ViewMethod, options: SampleOptions, request: Request, on_view: Report
) -> tuple[Float[Tensor, "sample view 3 height width"], Cost]:
    """All samples as one batch, view by view in the order of the cameras."""
    context, cameras, count = request.context, request.cameras, len(request.seeds)
    known = Views.stack([context] * count)
    where = Cameras.stack([cameras] * count)

    def report(done: int, total: int) -> None:
        on_view(done * count, total * count)

    started = _now(cameras.device)
    views = method.sample_views(known, where, request.seeds, options, report)
    seconds = (_now(cameras.device) - started) / count
    frame = None
    if request.first:
        frame = frame_cost(
            lambda: method.sample_view(
                known[:1], where[:1, 0], request.seeds[:1], options
            ),
            cameras.device,
            repeats=0,
        )
    return views.images.cpu(), Cost(0.0, seconds, frame)


def _sample_together(
    method: JointViewMethod, options: SampleOptions, request: Request, on_view: Report
) -> tuple[Float[Tensor, "sample view 3 height width"], Cost]:
    """One sample of all views after the other."""
    if "prompt" in method.sample_options:
        options = dataclasses.replace(options, prompt=request.caption)
    context, cameras, count = request.context, request.cameras, len(request.seeds)
    images, seconds = [], 0.0
    for number, seed in enumerate(request.seeds):

        def report(done: int, total: int, before=number) -> None:
            share = (before + done / total) / count
            on_view(round(share * count * len(cameras)), count * len(cameras))

        started = _now(cameras.device)
        found = method.sample_views(
            context[None], cameras[None], [seed], options, report
        )
        seconds += (_now(cameras.device) - started) / count
        images.append(found.images[0].cpu())
    frame = None
    if request.first:
        frame = frame_cost(
            lambda: method.sample_views(
                context[None], cameras[None], request.seeds[:1], options
            ),
            cameras.device,
            frames=len(cameras),
            repeats=0,
        )
    return torch.stack(images), Cost(0.0, seconds, frame)


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
