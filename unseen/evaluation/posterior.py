"""Does a model sample the posterior? Numbers for scenes sampled from one image each.

Every object gives one input view and several held-out views. Samples, and the
deterministic reconstruction by the same model's conditioning branch, are rendered at
the held-out views and compared with the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

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
    `mean_input` and `mean` the deterministic reconstruction's. `scene` is the object's
    name, `seconds` what sampling and rendering took.
    """

    given: Views
    novel: Views
    inputs: Float[Tensor, "sample 3 height width"]
    samples: Float[Tensor, "sample view 3 height width"]
    mean_input: Float[Tensor, "3 height width"]
    mean: Float[Tensor, "view 3 height width"]
    scene: str = ""
    seconds: float = 0.0


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


@dataclasses.dataclass(frozen=True)
class ObjectParts:
    """What one object adds to the numbers.

    `psnrs` are in dB, `pooled` sums over pixels. `features` are random-conv features
    of the held-out views: the truth's, the first sample's and the deterministic
    reconstruction's ("truth", "sample", "mean").
    """

    samples: int
    psnrs: dict[str, float]
    pooled: dict[str, float]
    features: dict[str, Float[Tensor, "view feature"]]


def describe(o: Observation) -> ObjectParts:
    """The parts of one object."""
    images = {"truth": o.novel.images, "sample": o.samples[0], "mean": o.mean}
    features = {name: random_conv_features(x) for name, x in images.items()}
    return ObjectParts(len(o.samples), _psnrs(o), _pooled(o), features)


def measure(observations: Iterable[Observation]) -> PosteriorNumbers:
    """The numbers of these objects; see `summarise`."""
    return summarise([describe(o) for o in observations])


def summarise(objects: Sequence[ObjectParts]) -> PosteriorNumbers:
    """Collect the numbers.

    Sharpness is the mean gradient magnitude in pixels whose true surface the input
    does not see, over that of the truth in the same pixels, pooled over all objects.
    Spread is the standard deviation over the samples, averaged over channels and
    pixels. The Frechet distances compare the first sample of every object, and the
    deterministic reconstruction, with the truth, over all held-out views.
    """

    def average(name: str) -> float:
        return sum(o.psnrs[name] for o in objects) / len(objects)

    def ratio(upper: str, lower: str) -> float:
        total = sum(o.pooled[lower] for o in objects)
        return sum(o.pooled[upper] for o in objects) / max(total, 1e-9)

    truth, sample, mean = (
        torch.cat([o.features[name] for o in objects])
        for name in ("truth", "sample", "mean")
    )
    spread_unseen = ratio("spread_unseen", "unseen")
    spread_seen = ratio("spread_seen", "seen")
    return PosteriorNumbers(
        objects=len(objects),
        samples=objects[0].samples,
        input_psnr=average("input"),
        input_psnr_deterministic=average("input_mean"),
        novel_psnr=average("novel"),
        novel_psnr_best=average("best"),
        novel_psnr_deterministic=average("mean"),
        sharpness=ratio("edges", "edges_true"),
        sharpness_deterministic=ratio("edges_mean", "edges_true"),
        spread_unseen=spread_unseen,
        spread_seen=spread_seen,
        spread_ratio=spread_unseen / max(spread_seen, 1e-9),
        frechet=frechet_distance(sample, truth),
        frechet_deterministic=frechet_distance(mean, truth),
    )


def _psnrs(o: Observation) -> dict[str, float]:
    """Of one object, in dB: averages over samples and views, and the best sample."""
    truth, given = o.novel.images, o.given.images
    novel = psnr(o.samples, truth.expand_as(o.samples)).mean(dim=-1)
    return {
        "input": float(psnr(o.inputs, given.expand_as(o.inputs)).mean()),
        "input_mean": float(psnr(o.mean_input, given[0])),
        "novel": float(novel.mean()),
        "best": float(novel.max()),
        "mean": float(psnr(o.mean, truth).mean()),
    }


def _pooled(o: Observation) -> dict[str, float]:
    """Sums over one object's pixels of gradient magnitudes and of spreads."""
    unseen, seen = unseen_pixels(o.given, o.novel), seen_pixels(o.given, o.novel)
    edges = gradient_magnitude(o.samples).mean(dim=0)
    spread = o.samples.std(dim=0).mean(dim=-3)
    return {
        "edges": float(edges[unseen].sum()),
        "edges_mean": float(gradient_magnitude(o.mean)[unseen].sum()),
        "edges_true": float(gradient_magnitude(o.novel.images)[unseen].sum()),
        "spread_unseen": float(spread[unseen].sum()),
        "spread_seen": float(spread[seen].sum()),
        "unseen": float(unseen.sum()),
        "seen": float(seen.sum()),
    }
