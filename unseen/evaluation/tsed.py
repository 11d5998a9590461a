"""TSED: do generated views agree with the cameras that they were asked for?

Thresholded symmetric epipolar distance (Yu et al., "Long-Term Photometric Consistent
Novel View Synthesis with Diffusion Models", ICCV 2023). Two views are consistent if
enough of their features match and the matches lie on each other's epipolar lines; the
score of a sequence is the share of its neighbouring pairs that are. No truth is needed.

The paper's numbers are of images of 256 x 256, with the features and matches of COLMAP;
here they are those of scikit-image, so that compare only numbers made alike. Two views
from one place have no epipolar geometry, and no pair of them is consistent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from skimage.feature import SIFT, match_descriptors
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.epipolar import epipolar_lines, fundamental_matrices
from unseen.geometry.views import Views

THRESHOLD = 2.0
"""Largest median distance of a consistent pair, in pixels."""

MIN_MATCHES = 10
"""Fewest matches of a consistent pair."""

RATIO = 0.8
"""Largest distance of a descriptor's best match over that of its second best (Lowe,
2004)."""


@dataclasses.dataclass(frozen=True)
class PairAgreement:
    """The matches of two views, and how far they are from where they should be.

    `median` is the median symmetric epipolar distance in pixels, infinite without
    matches.
    """

    matches: int
    median: float

    def consistent(
        self, threshold: float = THRESHOLD, min_matches: int = MIN_MATCHES
    ) -> bool:
        """Whether the pair counts as consistent."""
        return self.matches >= min_matches and self.median < threshold


@dataclasses.dataclass(frozen=True)
class SequenceAgreement:
    """The neighbouring pairs of a sequence of views, in order."""

    pairs: tuple[PairAgreement, ...]

    def score(
        self, threshold: float = THRESHOLD, min_matches: int = MIN_MATCHES
    ) -> float:
        """TSED: the share of pairs that are consistent, in [0, 1]."""
        found = [pair.consistent(threshold, min_matches) for pair in self.pairs]
        return sum(found) / len(found)

    def curve(
        self, thresholds: Sequence[float], min_matches: int = MIN_MATCHES
    ) -> list[float]:
        """TSED at several thresholds in pixels."""
        return [self.score(threshold, min_matches) for threshold in thresholds]


@dataclasses.dataclass(frozen=True)
class Features:
    """SIFT features of an image: normalised places and descriptors."""

    xy: Float[Tensor, "point 2"]
    descriptors: Float[np.ndarray, "point descriptor"]


def agreement(views: Views) -> SequenceAgreement:
    """How views (view,) agree with their cameras, each with the next.

    Raises:
        UserError: fewer than two views.
    """
    if len(views) < 2:
        raise UserError(f"TSED compares neighbouring views, {len(views)} has none.")
    features = [find_features(image) for image in views.images]
    cameras = views.cameras
    return SequenceAgreement(
        tuple(
            compare(features[i : i + 2], cameras[i], cameras[i + 1], views.size)
            for i in range(len(views) - 1)
        )
    )


def find_features(image: Float[Tensor, "3 height width"]) -> Features:
    """SIFT features of the grey image; none where it is too small or too smooth."""
    grey = image.detach().cpu().double().mean(dim=0).clamp(0, 1).numpy()
    sift = SIFT()
    try:
        sift.detect_and_extract(grey)
    except (RuntimeError, ValueError):
        # What scikit-image raises for images in which it finds nothing.
        return Features(torch.zeros(0, 2), np.zeros((0, 128), np.float32))
    # Positions are (row, column) with pixel i at i.
    place = torch.from_numpy(np.asarray(sift.positions)).flip(-1).float() + 0.5
    size = place.new_tensor([image.shape[-1], image.shape[-2]])
    return Features(place / size, np.asarray(sift.descriptors, np.float32))


def compare(
    features: Sequence[Features],
    first: Cameras,
    second: Cameras,
    size: tuple[int, int],
) -> PairAgreement:
    """Matches of two views' features, and their distances in images of `size`.

    Cameras are single ones, of shape (). A match is the best in both directions and
    passes the ratio test.
    """
    a, b = features
    if min(len(a.xy), len(b.xy)) < 2:
        return PairAgreement(0, float("inf"))
    pairs = match_descriptors(
        a.descriptors, b.descriptors, max_ratio=RATIO, cross_check=True
    )
    if len(pairs) == 0:
        return PairAgreement(0, float("inf"))
    index = torch.from_numpy(pairs)
    distances = symmetric_epipolar_distance(
        first, second, a.xy[index[:, 0]], b.xy[index[:, 1]], size
    )
    return PairAgreement(len(pairs), float(distances.quantile(0.5)))


def symmetric_epipolar_distance(
    first: Cameras,
    second: Cameras,
    xy_first: Float[Tensor, "*batch point 2"],
    xy_second: Float[Tensor, "*batch point 2"],
    size: tuple[int, int],
) -> Float[Tensor, "*batch point"]:
    """Mean of the two distances of matches from each other's epipolar lines.

    Points are normalised, distances in pixels of images of (height, width) `size`. For
    cameras that share their centre there are no lines, and distances are infinite.
    """
    scale = xy_first.new_tensor([size[1], size[0]])
    fundamental = fundamental_matrices(
        first.to(xy_first.dtype), second.to(xy_first.dtype)
    )
    # In pixels, where a unit is as long along x as along y.
    pixels = torch.cat([scale, scale.new_ones(1)])
    fundamental = fundamental / pixels[:, None] / pixels[None, :]
    x, y = scale * xy_first, scale * xy_second

    def distance(matrix: Tensor, points: Tensor, others: Tensor) -> Tensor:
        lines = epipolar_lines(matrix, points)
        return ((lines[..., :2] * others).sum(dim=-1) + lines[..., 2]).abs()

    mean = 0.5 * (
        distance(fundamental, x, y) + distance(fundamental.transpose(-1, -2), y, x)
    )
    apart = (first.centers - second.centers).norm(dim=-1) > 1e-6
    return torch.where(apart.to(mean.device)[..., None], mean, torch.inf)
