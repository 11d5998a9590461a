"""How well poses agree with images: epipolar distances of matched features.

Features are matched without knowledge of the poses, so wrong axes, a wrong order of
images or wrong intrinsics show as distances of many pixels.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from unseen.data.world import focus_point
from unseen.geometry.cameras import Cameras
from unseen.geometry.epipolar import epipolar_distance
from unseen.geometry.views import Views

MATCHED_SIDE = 640
"""Pixels: features are looked for in images whose longer side is at most this."""
RATIO = 0.75
"""A match's distance over that of the next best (Lowe 2004, section 7.1)."""
PARALLAX = 0.15
"""Baseline over distance that a pair of neighbours should have: with less, epipolar
lines hardly depend on the poses; with much more, few features are found again."""


@dataclasses.dataclass(frozen=True)
class MatchedPair:
    """Two views by number, and points (normalised) that look the same in both."""

    first: int
    second: int
    xy_first: Float[Tensor, "point 2"]
    xy_second: Float[Tensor, "point 2"]
    distances: Float[Tensor, "point"]
    """Symmetric epipolar distances, in pixels of the images as they are."""


def neighbours(cameras: Cameras, count: int) -> list[tuple[int, int]]:
    """Up to `count` pairs of cameras (view,) near each other, spread over the views."""
    poses = cameras.extrinsics.double()
    center = focus_point(poses)
    centers, forward = poses[:, :3, 3], poses[:, :3, 2]
    if center is None:
        scale = (cameras.near * cameras.far).double().sqrt()
    else:
        scale = (centers - center).norm(dim=1)
    baseline = torch.cdist(centers, centers) / scale[:, None]
    angle = (forward @ forward.T).clamp(-1, 1).acos()
    # The smallest turn among those with enough baseline; else the largest baseline.
    cost = angle + baseline + torch.where(baseline < PARALLAX, 10 - baseline, 0)
    cost = cost.masked_fill(baseline < 1e-6, torch.inf)
    views = len(poses)
    starts = [round(k * views / count) for k in range(count)] if views else []
    pairs = dict.fromkeys(
        (i, int(cost[i].argmin()))
        for i in starts
        if i < views and bool(cost[i].isfinite().any())
    )
    return list(pairs)


def match_pair(views: Views, first: int, second: int) -> MatchedPair:
    """Match two of the views (two,); `first` and `second` are their numbers outside.

    Images on white keep their background out: features of their outline are compared
    like all others.
    """
    left, right = (_features(image) for image in views.images)
    xy_first, xy_second = _match(left, right)
    height, width = views.size
    size = torch.tensor([width, height, 1.0])
    in_pixels = dataclasses.replace(
        views.cameras, intrinsics=views.cameras.intrinsics * size[:, None]
    )
    one, other = in_pixels[0], in_pixels[1]
    points, others = xy_first * size[:2], xy_second * size[:2]
    distances = 0.5 * (
        epipolar_distance(one, other, points, others)
        + epipolar_distance(other, one, others, points)
    )
    return MatchedPair(first, second, xy_first, xy_second, distances)


def _features(
    image: Float[Tensor, "3 height width"],
) -> tuple[Float[ndarray, "feature 2"], ndarray]:
    """Normalised places (x, y) of SIFT features, and their descriptors."""
    from skimage.feature import SIFT

    height, width = image.shape[-2:]
    step = max(1, -(-max(height, width) // MATCHED_SIDE))
    small = torch.nn.functional.avg_pool2d(image[None], step)[0]
    grey = (small * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0)
    sift = SIFT(upsampling=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sift.detect_and_extract(grey.numpy().astype(np.float64))
    except RuntimeError:
        # skimage says so where an image has no features at all.
        return np.zeros((0, 2)), np.zeros((0, 128))
    # Positions are (row, column) with pixel centres at whole numbers.
    places = (np.asarray(sift.positions)[:, ::-1] + 0.5) * step
    return places / np.array([width, height]), np.asarray(sift.descriptors)


def _match(
    left: tuple[ndarray, ndarray], right: tuple[ndarray, ndarray]
) -> tuple[Float[Tensor, "point 2"], Float[Tensor, "point 2"]]:
    from skimage.feature import match_descriptors

    if min(len(left[0]), len(right[0])) < 2:
        return torch.zeros(0, 2), torch.zeros(0, 2)
    found = match_descriptors(left[1], right[1], max_ratio=RATIO, cross_check=True)
    first, second = left[0][found[:, 0]], right[0][found[:, 1]]
    return torch.from_numpy(first).float(), torch.from_numpy(second).float()
