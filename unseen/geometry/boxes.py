"""Boxes in the world, as their lower and upper corner."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras, scene_middle
from unseen.geometry.rays import Measure, get_rays, measured


def box_around(boxes: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "2 3"]:
    """The smallest box that holds all of some boxes."""
    low, high = boxes.reshape(-1, 2, 3).unbind(dim=1)
    return torch.stack([low.amin(dim=0), high.amax(dim=0)])


def frustum_box(cameras: Cameras, measure: Measure = "depth") -> Float[Tensor, "2 3"]:
    """The box around the frustums of all cameras, from near to far."""
    corners = cameras.near.new_tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    origins, directions = get_rays(cameras, corners.expand(*cameras.shape, -1, -1))
    directions, _ = measured(directions, measure)
    ends = torch.stack([cameras.near, cameras.far])[..., None, None]
    points = (origins + ends * directions).reshape(-1, 3)
    return torch.stack([points.amin(dim=0), points.amax(dim=0)])


def object_box(cameras: Cameras) -> Float[Tensor, "*batch 2 3"]:
    """Box of an object that fills a camera's depth range, about its optical axis.

    For representations without density, which do not know where their matter is.
    """
    middle = scene_middle(cameras)
    reach = 0.5 * (cameras.far - cameras.near)[..., None]
    return torch.stack([middle - reach, middle + reach], dim=-2)
