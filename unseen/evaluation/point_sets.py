"""How far apart sets of shapes are, each shape a set of points on its surface.

Coverage and minimum matching distance of generated shapes (Achlioptas et al., "Learning
Representations and Generative Models for 3D Point Clouds", ICML 2018, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from unseen.errors import UserError


def chamfer_distance(
    first: Float[Tensor, "first 3"], second: Float[Tensor, "second 3"]
) -> float:
    """Mean squared distance of each set's points to the other set, both ways added.

    In squared world units; 0 only where every point of either is one of the other.
    """
    return float(chamfer_distances([first], [second])[0, 0])


def chamfer_distances(
    first: Sequence[Float[Tensor, "_ 3"]],
    second: Sequence[Float[Tensor, "_ 3"]],
    report: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "first second"]:
    """`chamfer_distance` of every set of points to every other one.

    Raises:
        UserError: a set has no points.
    """
    rows = [np.ascontiguousarray(points.double().cpu().numpy()) for points in first]
    columns = [np.ascontiguousarray(points.double().cpu().numpy()) for points in second]
    if any(len(points) == 0 for points in (*rows, *columns)):
        raise UserError("a shape without points has no distance from another one.")
    column_trees = [cKDTree(points) for points in columns]
    found = torch.zeros(len(rows), len(columns), dtype=torch.float64)
    for i, row in enumerate(rows):
        tree = cKDTree(row)
        for j, (column, other) in enumerate(zip(columns, column_trees, strict=True)):
            there, back = other.query(row)[0], tree.query(column)[0]
            found[i, j] = float((there**2).mean() + (back**2).mean())
        if report is not None:
            report(i + 1, len(rows))
    return found


def coverage(distances: Float[Tensor, "sample reference"]) -> float:
    """The share of references that are the nearest one of some sample, in [0, 1].

    Samples that are all alike cover one. It says nothing of how near they are.
    """
    return len(distances.argmin(dim=1).unique()) / distances.shape[1]


def minimum_matching_distance(distances: Float[Tensor, "sample reference"]) -> float:
    """The mean over references of the distance of the nearest sample."""
    return float(distances.amin(dim=0).mean())
