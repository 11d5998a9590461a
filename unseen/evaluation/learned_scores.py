"""Metrics that need weights which the package does not ship, or that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.evaluation.frechet import frechet_distance, kernel_distance
from unseen.evaluation.generated_views import fitted_reprojection, view_consistency
from unseen.evaluation.inception import InceptionFeatures
from unseen.evaluation.lpips import Lpips
from unseen.evaluation.metrics import ssim
from unseen.evaluation.scores import AnyMetric, Metric, ObservedViews, SetMetric
from unseen.evaluation.tsed import agreement
from unseen.geometry.views import Views

ExtraName = Literal["ssim-gaussian", "tsed", "consistency", "reprojection"]


def learned_metrics(
    lpips: Lpips | None, inception: InceptionFeatures | None
) -> list[AnyMetric]:
    """LPIPS, FID and KID; those without a network are missing and say what to supply.

    KID is shown times 1000; its subsets are always the same ones.
    """
    no_lpips, no_inception = (
        "give its weights with --lpips BACKBONE HEADS.",
        "give the Inception-v3 of FID with --inception FILE.",
    )

    def perceptual(seen: ObservedViews) -> Float[Tensor, " view"]:
        assert lpips is not None
        device = next(lpips.parameters()).device
        pairs = zip(seen.images.split(8), seen.truth.images.split(8), strict=True)
        return torch.cat([lpips(a.to(device), b.to(device)).cpu() for a, b in pairs])

    def features(
        images: Float[Tensor, "view 3 height width"],
    ) -> Float[Tensor, "view 2048"]:
        assert inception is not None
        return inception.describe(images).cpu()

    def kernel(
        first: Float[Tensor, "first 2048"], second: Float[Tensor, "second 2048"]
    ) -> float:
        generator = torch.Generator().manual_seed(0)
        return 1000 * kernel_distance(first, second, generator).mean

    network = "" if lpips is None else f" ({lpips.network})"
    missing = None if inception is not None else no_inception
    return [
        Metric(
            f"LPIPS{network}",
            "",
            "lower",
            perceptual,
            missing=None if lpips is not None else no_lpips,
        ),
        SetMetric(
            "FID", "", "lower", "inception", features, frechet_distance, 2, missing
        ),
        SetMetric("KID", "x 1000", "lower", "inception", features, kernel, 2, missing),
    ]


def extra_metrics(names: Sequence[ExtraName]) -> list[AnyMetric]:
    """Metrics that take time, or mean something for some data only, by name.

    SSIM with a Gaussian window, TSED of the views in the order of the data, and what a
    field that is fitted to the views says of them.
    """

    def alone(seen: ObservedViews) -> Views:
        return Views(seen.images, seen.truth.cameras)

    def consistency(seen: ObservedViews) -> Float[Tensor, "value=1"]:
        generator = torch.Generator().manual_seed(0)
        return torch.tensor([view_consistency(alone(seen), generator).psnr])

    def reprojection(seen: ObservedViews) -> Float[Tensor, "value=1"]:
        generator = torch.Generator().manual_seed(0)
        found = fitted_reprojection(alone(seen), generator).psnr
        # Where nothing could be compared, nothing is consistent.
        return torch.tensor([found]).nan_to_num(0.0)

    metrics: dict[str, AnyMetric] = {
        "consistency": Metric(
            "consistency", "dB", "higher", consistency, 2, min_views=3
        ),
        "reprojection": Metric(
            "re-projection", "dB", "higher", reprojection, 2, min_views=2
        ),
        "ssim-gaussian": Metric(
            "SSIM (Gaussian)",
            "",
            "higher",
            lambda seen: ssim(seen.images, seen.truth.images, window="gaussian"),
        ),
        "tsed": Metric(
            "TSED",
            "",
            "higher",
            lambda seen: torch.tensor([agreement(alone(seen)).score()]),
            min_views=2,
        ),
    }
    return [metrics[name] for name in dict.fromkeys(names)]
