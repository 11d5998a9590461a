"""What is measured of novel views: each metric is one small object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.evaluation.frechet import frechet_distance, random_conv_features
from unseen.evaluation.metrics import psnr, ssim
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class ObservedViews:
    """One scene by one method: what was given, the truth, and what was rendered.

    `images` are clipped to [0, 1] and lie at the cameras of `truth`.
    """

    context: Views
    truth: Views
    images: Float[Tensor, "view 3 height width"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number of every view, or one of the whole scene.

    `measure` gives one value per view (view,), which are averaged over the scene's
    views, or a single one (1,); scenes count the same. Where it cannot be measured,
    `missing` says in one sentence what to supply, and tables show a dash.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    measure: Callable[[ObservedViews], Float[Tensor, "value"]]
    digits: int = 3
    missing: str | None = None
    min_views: int = 1
    """Fewest views of a scene that it can be measured of."""


@dataclasses.dataclass(frozen=True)
class SetMetric:
    """A number of all views of all scenes: a distance between two sets of features.

    `describe` gives the features of images (view,), `compare` the distance of those
    that were rendered from those of the truth.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    space: str
    """The name of the feature space: metrics that share one share its features."""
    describe: Callable[
        [Float[Tensor, "view 3 height width"]], Float[Tensor, "view feature"]
    ]
    compare: Callable[
        [Float[Tensor, "first feature"], Float[Tensor, "second feature"]], float
    ]
    digits: int = 3
    missing: str | None = None


AnyMetric = Metric | SetMetric


def standard_metrics() -> list[AnyMetric]:
    """The metrics that need no weights."""
    return [
        Metric(
            "PSNR", "dB", "higher", lambda seen: psnr(seen.images, seen.truth.images), 2
        ),
        Metric("SSIM", "", "higher", lambda seen: ssim(seen.images, seen.truth.images)),
        SetMetric(
            "Frechet (random-conv)",
            "",
            "lower",
            "random-conv",
            random_conv_features,
            frechet_distance,
        ),
    ]


def measure_views(
    seen: ObservedViews, metrics: list[AnyMetric]
) -> dict[str, list[float]]:
    """The values of every `Metric` that is not missing: of each view, or one."""
    return {
        metric.name: metric.measure(seen).double().tolist()
        for metric in metrics
        if isinstance(metric, Metric) and metric.missing is None
    }


def describe_views(
    seen: ObservedViews, metrics: list[AnyMetric]
) -> dict[str, Float[Tensor, "view feature"]]:
    """Features of the rendered and true images, by space, for every `SetMetric`."""
    features = {}
    for metric in metrics:
        if isinstance(metric, Metric) or metric.missing is not None:
            continue
        for name, images in (("shown", seen.images), ("truth", seen.truth.images)):
            key = f"{metric.space}.{name}"
            if key not in features:
                features[key] = metric.describe(images)
    return features


def compare_sets(
    features: list[dict[str, Tensor]], metrics: list[AnyMetric]
) -> dict[str, float | None]:
    """Every `SetMetric` over the views of all scenes; None where one is missing."""
    found: dict[str, float | None] = {}
    for metric in metrics:
        if isinstance(metric, Metric):
            continue
        found[metric.name] = None
        if metric.missing is None and features:
            shown, truth = (
                torch.cat([part[f"{metric.space}.{name}"] for part in features])
                for name in ("shown", "truth")
            )
            # Fewer than two images have no covariance.
            if len(shown) > 1:
                found[metric.name] = metric.compare(shown, truth)
    return found
