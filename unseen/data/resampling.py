"""Images cut out and scaled by exact averages over areas."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor


def resample(
    values: Float[ndarray, "height width channel"],
    center: tuple[float, float],
    step: float,
    frame: tuple[int, int],
) -> Float[Tensor, "channel rows columns"]:
    """A frame of pixels `step` source pixels wide, around `center` (row, column)."""
    rows = _area_weights(values.shape[0], frame[0], center[0], step)
    columns = _area_weights(values.shape[1], frame[1], center[1], step)
    source = torch.from_numpy(np.ascontiguousarray(values))
    return torch.einsum("ih,hwc,jw->cij", rows, source, columns)


def _area_weights(
    source: int, target: int, center: float, step: float
) -> Float[Tensor, "target source"]:
    """The share of every source pixel in every target pixel, along one axis.

    A target pixel averages an interval of the source: its own extent, and never less
    than one source pixel, which makes enlargement linear interpolation. Beyond the
    source there is nothing (zero).
    """
    width = max(step, 1.0)
    middles = center + (torch.arange(target) + 0.5 - target / 2)[:, None] * step
    left = torch.arange(source)[None]
    low = torch.maximum(middles - width / 2, left)
    high = torch.minimum(middles + width / 2, left + 1)
    return (high - low).clamp(min=0) / width
