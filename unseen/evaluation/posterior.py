"""Does a model sample the posterior? Numbers for scenes sampled from one image each.

Every object gives one input view and several held-out views. Samples, and the
deterministic reconstruction by the same model's conditioning branch, are rendered at
the held-out views and compared with the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.evaluation.frechet import frechet_distance, random_conv_features
from unseen.evaluation.metrics import gradient_magnitude, psnr
from unseen.evaluation.visibility import seen_pixels, unseen_pixels
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class Observation:
    """What was rendered of one object.

    `given` is the input (1,), `novel` the truth at the held-out cameras (view,), both
    with depths. `inputs` and `samples` are the samples' renderings of the two,
    `mean_input` and `mean` the deterministic reconstruction's.
    """

    given: Views
    novel: Views
    inputs: Float[Tensor, "sample 3 height width"]
    samples: Float[Tensor, "sample view 3 height width"]
    mean_input: Float[Tensor, "3 height width"]
    mean: Float[Tensor, "view 3 height width"]


@dataclasses.dataclass(frozen=True)
class PosteriorNumbers:
    """Averages over objects; dB, or ratios, or Frechet distances (random-conv)."""

    objects: int
    samples: int
    input_psnr: float
    input_psnr_deterministic: float
    novel_psnr: float
    novel_psnr_best: float
    novel_psnr_deterministic: float
    sharpness: float
    sharpness_deterministic: float
    spread_unseen: float
    spread_seen: float
    spread_ratio: float
    frechet: float
    frechet_deterministic: float


def measure(observations: Iterable[Observation]) -> PosteriorNumbers:
    """Collect the numbers.

    Sharpness is the mean gradient magnitude in pixels whose true surface the input
    does not see, over that of the truth in the same pixels, pooled over all objects.
    Spread is the standard deviation over the samples, averaged over channels and
    pixels. The Frechet distances compare the first sample of every object, and the
    deterministic reconstruction, with the truth, over all held-out views.
    """
    rows: list[dict[str, float]] = []
    sums = {name: 0.0 for name in ("edge", "edge_mean", "edge_true")}
    sums |= {name: 0.0 for name in ("hidden", "shown", "hidden_count", "shown_count")}
    images: dict[str, list[Tensor]] = {"truth": [], "sample": [], "mean": []}
    count = 0
    for o in observations:
        count = len(o.samples)
        truth = o.novel.images
        hidden, shown = unseen_pixels(o.given, o.novel), seen_pixels(o.given, o.novel)
        novel = psnr(o.samples, truth.expand_as(o.samples)).mean(dim=-1)
        rows.append(
            {
                "input": float(
                    psnr(o.inputs, o.given.images.expand_as(o.inputs)).mean()
                ),
                "input_mean": float(psnr(o.mean_input, o.given.images[0])),
                "novel": float(novel.mean()),
                "best": float(novel.max()),
                "mean": float(psnr(o.mean, truth).mean()),
            }
        )
        edges = gradient_magnitude(o.samples).mean(dim=0)
        sums["edge"] += float(edges[hidden].sum())
        sums["edge_mean"] += float(gradient_magnitude(o.mean)[hidden].sum())
        sums["edge_true"] += float(gradient_magnitude(truth)[hidden].sum())
        spread = o.samples.std(dim=0).mean(dim=-3)
        sums["hidden"] += float(spread[hidden].sum())
        sums["shown"] += float(spread[shown].sum())
        sums["hidden_count"] += float(hidden.sum())
        sums["shown_count"] += float(shown.sum())
        for name, rendered in (
            ("truth", truth),
            ("sample", o.samples[0]),
            ("mean", o.mean),
        ):
            images[name].append(rendered)

    def average(name: str) -> float:
        return sum(row[name] for row in rows) / len(rows)

    features = {name: random_conv_features(torch.cat(x)) for name, x in images.items()}
    spread_unseen = sums["hidden"] / max(sums["hidden_count"], 1)
    spread_seen = sums["shown"] / max(sums["shown_count"], 1)
    return PosteriorNumbers(
        objects=len(rows),
        samples=count,
        input_psnr=average("input"),
        input_psnr_deterministic=average("input_mean"),
        novel_psnr=average("novel"),
        novel_psnr_best=average("best"),
        novel_psnr_deterministic=average("mean"),
        sharpness=sums["edge"] / sums["edge_true"],
        sharpness_deterministic=sums["edge_mean"] / sums["edge_true"],
        spread_unseen=spread_unseen,
        spread_seen=spread_seen,
        spread_ratio=spread_unseen / max(spread_seen, 1e-9),
        frechet=frechet_distance(features["sample"], features["truth"]),
        frechet_deterministic=frechet_distance(features["mean"], features["truth"]),
    )
