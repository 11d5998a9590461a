"""How many fronts a turntable shows.

A classifier says of every view of a turntable how likely each direction is. Walking
once around an object with one front, the direction that is found turns once, too; a
scene with several fronts, or with no side that looks like anything, does not.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SHORTEST_ARC = 2
"""Neighbouring views that make an arc: a single one may be a mistake."""
AGREEMENT = 0.6
"""The least agreement of a scene that is said to have one front. What looks right from
one half of all sides and mirrored from the other has 0.5."""


@dataclasses.dataclass(frozen=True)
class JanusScore:
    """What a turntable of evenly spaced views looks like; see `janus_score`."""

    front: tuple[bool, ...]
    """Which views look like the front: their likeliest direction is within 45 degrees
    of it."""
    arcs: int
    """Separate stretches of such views, of two at least."""
    agreement: float
    """1 where every view surely shows the side that it should, for the best turn of
    the scene; about 0 for a scene that is the same from everywhere."""
    error: float
    """Mean angle in degrees between the side that is shown and the one that should be,
    for the same turn; 90 is chance."""
    certainty: float
    """Mean length of the views' mean directions: 1 if the classifier is sure."""

    @property
    def fronts(self) -> int:
        """Views that look like the front: a quarter of all for an object with one."""
        return sum(self.front)

    @property
    def has_one_front(self) -> bool:
        """One stretch of front views, and sides that follow one another."""
        return self.arcs == 1 and self.agreement >= AGREEMENT


def janus_score(probabilities: Float[Tensor, "view bin"]) -> JanusScore:
    """The score of a full turn of evenly spaced views.

    Bin 0 is the front, and bins follow the azimuth, evenly spaced. With a view's mean
    direction c_i = sum_b p_ib exp(i angle_b), and a_i its own azimuth, the agreement is
    |mean_i c_i exp(-i a_i)|, the mean resultant length of directional statistics: a
    scene may be turned as a whole, but not mirrored.
    """
    views, bins = probabilities.shape
    angles = 2 * math.pi * torch.arange(bins) / bins
    azimuth = 2 * math.pi * torch.arange(views) / views
    found = (probabilities * torch.exp(1j * angles)).sum(dim=-1)
    turned = found * torch.exp(-1j * azimuth)
    mean = turned.mean()
    away = torch.rad2deg((turned * mean.conj()).angle().abs())
    likeliest = probabilities.argmax(dim=-1)
    away_from_front = torch.minimum(likeliest, bins - likeliest) * (360 / bins)
    front = away_from_front < 45
    return JanusScore(
        front=tuple(front.tolist()),
        arcs=count_arcs(front),
        agreement=float(mean.abs()),
        error=float(away.mean()),
        certainty=float(found.abs().mean()),
    )


def count_arcs(front: Bool[Tensor, "view"]) -> int:
    """Stretches of `SHORTEST_ARC` views or more around a circle."""
    views = len(front)
    if bool(front.all()):
        return 1
    # From a view that is none on, no stretch is cut in two.
    start = int((~front).nonzero()[0])
    lengths, length = [], 0
    for value in [*front.roll(-start).tolist(), False]:
        if not value and length:
            lengths.append(length)
        length = length + 1 if value else 0
    assert sum(lengths) == int(front.sum()) <= views
    return sum(length >= SHORTEST_ARC for length in lengths)
