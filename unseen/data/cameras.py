"""Cameras around an object in the unit sphere, shared by every renderer of ours."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry import trajectories
from unseen.geometry.cameras import Cameras, turn_cameras

MARGIN = 1.05
"""How much larger than the object's sphere the cone of view is."""

SPIRAL_TURNS = 3


def object_cameras(
    num_views: int,
    generator: torch.Generator,
    layout: Literal["random", "spiral"] = "random",
    fov_range: tuple[float, float] = (30.0, 50.0),
    elevation_range: tuple[float, float] = (-5.0, 50.0),
    radius: float = 1.0,
) -> Cameras:
    """Cameras (view) that look at the origin and hold a sphere of `radius`.

    One full field of view in degrees is drawn uniformly from `fov_range` for all
    views, because the ShapeNet-SRN layout has one intrinsics per object. The distance
    1.05 radius / sin(fov / 2) keeps the sphere inside of the image; near and far are
    distance -+ radius. "random" draws azimuth and elevation (degrees) uniformly;
    "spiral" climbs from the lowest to the highest elevation in three turns and
    depends on the generator through the field of view only.
    """
    _check(num_views, fov_range, elevation_range)
    low, high = (math.radians(x) for x in fov_range)
    fov = low + (high - low) * torch.rand((), generator=generator)
    if layout == "random":
        unit = torch.rand(num_views, 2, generator=generator)
        azimuths, heights = 2 * math.pi * unit[:, 0], unit[:, 1]
    else:
        heights = (torch.arange(num_views) + 0.5) / num_views
        azimuths = 2 * math.pi * SPIRAL_TURNS * heights
    bottom, top = (math.radians(x) for x in elevation_range)
    return sphere_cameras(azimuths, bottom + (top - bottom) * heights, fov, radius)


def sphere_cameras(
    azimuths: Float[Tensor, " view"],
    elevations: Float[Tensor, " view"],
    fov: Float[Tensor, ""],
    radius: float = 1.0,
) -> Cameras:
    """Cameras (view) at azimuths and elevations in radians that hold the sphere.

    Azimuth 0 lies on the world's x axis and grows towards y; see `object_cameras`
    for distance, near and far.
    """
    distance = MARGIN * radius / torch.sin(0.5 * fov)
    return trajectories.sphere_cameras(
        azimuths,
        elevations,
        distance.expand_as(azimuths),
        float(fov),
        near=float(distance - radius),
        far=float(distance + radius),
    )


def _check(
    num_views: int,
    fov_range: tuple[float, float],
    elevation_range: tuple[float, float],
) -> None:
    if num_views < 1:
        raise UserError(f"Ask for at least one view, not {num_views}.")
    if not 0 < fov_range[0] <= fov_range[1] < 180:
        raise UserError(
            f"The field of view must go from low to high within 0 to 180 degrees, "
            f"it is {fov_range[0]:g} to {fov_range[1]:g}."
        )
    if not -90 <= elevation_range[0] <= elevation_range[1] <= 90:
        raise UserError(
            f"The elevation must go from low to high within -90 to 90 degrees, "
            f"it is {elevation_range[0]:g} to {elevation_range[1]:g}."
        )


def object_camera(fov: float, elevation: float) -> Cameras:
    """The camera (1,) at azimuth 0 that holds the unit sphere; angles in degrees.

    Raises:
        UserError: `fov` is not within 1 to 150, or `elevation` not within -89 to 89.
    """
    if not (1 <= fov <= 150 and -89 <= elevation <= 89):
        raise UserError(
            "the field of view must lie in 1 to 150 degrees and the elevation in "
            f"-89 to 89, not {fov:g} and {elevation:g}."
        )
    return sphere_cameras(
        torch.zeros(1),
        torch.tensor([math.radians(elevation)]),
        torch.tensor(math.radians(fov)),
    )


def turn_around(camera: Cameras, num_views: int) -> Cameras:
    """Cameras (view,) that complete a turn about the object that `camera` () sees.

    Raises:
        UserError: there are fewer views than one.
    """
    if num_views < 1:
        raise UserError(f"ask for at least one view, not {num_views}.")
    azimuths = 2 * math.pi * torch.arange(1, num_views + 1) / (num_views + 1)
    return turn_cameras(camera, azimuths.to(camera.near))


def object_turn(
    fov: float, elevation: float, num_views: int, azimuth: float = 0.0
) -> Cameras:
    """Cameras (view,) evenly around the unit sphere, from `azimuth` on, in degrees.

    Raises:
        UserError: as for `object_camera`, or there are fewer views than one.
    """
    if num_views < 1:
        raise UserError(f"ask for at least one view, not {num_views}.")
    turns = 2 * math.pi * torch.arange(num_views) / num_views
    first = object_camera(fov, elevation)[0]
    return turn_cameras(first, math.radians(azimuth) + turns)
