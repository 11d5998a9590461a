"""Where scenes are looked at from while they are distilled."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class CameraPrior:
    """A distribution of cameras around the origin; angles in degrees, world units."""

    elevation: Interval = (-10.0, 45.0)
    """Above the horizontal plane."""

    elevations: Literal["even", "area", "mixed"] = "mixed"
    """Even in angle, even in area on the sphere, or one or the other by a coin."""

    azimuth: Interval = (-180.0, 180.0)
    """0 is the front: the world's x axis."""

    fov: Interval = (40.0, 70.0)
    """Full field of view."""

    distance: Interval = (1.5, 2.0)
    """From the origin."""

    distance_unit: Literal["world", "tangent", "sine"] = "world"
    """What distances are in: world units; 1 / tan(fov / 2), at which a disc of radius 1
    fills the image; or 1 / sin(fov / 2), at which a sphere does."""

    group: int = 1
    """Views that look from one elevation and distance at evenly spaced azimuths."""

    shift: float = 0.0
    """Cameras are moved by up to this along each axis."""

    center: float = 0.0
    """Standard deviation of the point that is looked at."""

    roll: float = 0.0
    """Standard deviation of what is added to the up vector."""

    radius: float = 1.0
    """Of the sphere around the origin that near and far enclose."""

    def __post_init__(self) -> None:
        for name in ("elevation", "azimuth", "fov", "distance"):
            low, high = getattr(self, name)
            if not low <= high:
                raise UserError(f"the cameras' {name} must go from low to high.")
        if not 0 < self.fov[0] <= self.fov[1] < 180:
            raise UserError("the cameras' field of view must lie within 0 to 180.")


@dataclasses.dataclass(frozen=True)
class Viewpoints:
    """Cameras (view) and the directions, in degrees, that they look from.

    `azimuth` is in [-180, 180), 0 being the front.
    """

    cameras: Cameras
    azimuth: Float[Tensor, "view"]
    elevation: Float[Tensor, "view"]


def sample_viewpoints(
    prior: CameraPrior, num_views: int, generator: torch.Generator
) -> Viewpoints:
    """Draw cameras (view). `num_views` must be a multiple of the prior's group."""
    if num_views % prior.group:
        raise ValueError(f"{num_views} views are no groups of {prior.group}")
    count = num_views // prior.group
    unit = torch.rand(5, count, generator=generator)
    # One azimuth per equal part of the circle spreads the views of a step.
    spread = (unit[0] + torch.arange(count)) / count
    azimuth = _mix(prior.azimuth, spread)
    elevation = _elevations(prior, unit[1], unit[4])
    fov = _mix(prior.fov, unit[2])
    distance = _mix(prior.distance, unit[3])
    half = 0.5 * torch.deg2rad(fov)
    if prior.distance_unit != "world":
        distance = distance / (
            half.tan() if prior.distance_unit == "tangent" else half.sin()
        )
    turns = torch.arange(prior.group) / prior.group * 360
    azimuth = (azimuth[:, None] + turns).flatten()
    elevation, fov, distance = (
        x.repeat_interleave(prior.group) for x in (elevation, fov, distance)
    )
    cameras = _place(prior, azimuth, elevation, fov, distance, generator)
    return Viewpoints(cameras, (azimuth + 180) % 360 - 180, elevation)


def _mix(interval: Interval, unit: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return interval[0] + (interval[1] - interval[0]) * unit


def _elevations(
    prior: CameraPrior, unit: Float[Tensor, "n"], coin: Float[Tensor, "n"]
) -> Float[Tensor, "n"]:
    even = _mix(prior.elevation, unit)
    low, high = (math.sin(math.radians(x)) for x in prior.elevation)
    area = torch.rad2deg(torch.asin((low + (high - low) * unit).clamp(-1, 1)))
    if prior.elevations == "mixed":
        return torch.where(coin < 0.5, even, area)
    return even if prior.elevations == "even" else area


def _place(
    prior: CameraPrior,
    azimuth: Float[Tensor, "view"],
    elevation: Float[Tensor, "view"],
    fov: Float[Tensor, "view"],
    distance: Float[Tensor, "view"],
    generator: torch.Generator,
) -> Cameras:
    azimuth, elevation, fov = (torch.deg2rad(x) for x in (azimuth, elevation, fov))
    outward = torch.stack(
        [
            elevation.cos() * azimuth.cos(),
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
        ],
        dim=-1,
    )
    moved = 2 * torch.rand(outward.shape, generator=generator) - 1
    centers = distance[:, None] * outward + prior.shift * moved
    targets, lean = torch.randn(2, *outward.shape, generator=generator)
    extrinsics = look_at(centers, prior.center * targets)
    if prior.roll > 0:
        extrinsics = _roll(extrinsics, prior.roll * lean)
    reach = centers.norm(dim=-1)
    near = (reach - prior.radius).clamp(min=0.05)
    return Cameras(extrinsics, intrinsics_from_fov(fov), near, reach + prior.radius)


def _roll(
    extrinsics: Float[Tensor, "view 4 4"], lean: Float[Tensor, "view 3"]
) -> Float[Tensor, "view 4 4"]:
    """Turn cameras about their axes until up is the world's z plus `lean`."""
    up = lean + lean.new_tensor([0.0, 0.0, 1.0])
    right, down = extrinsics[:, :3, 0], extrinsics[:, :3, 1]
    # The angle between the image's vertical and the new up vector's projection.
    angle = torch.atan2((up * right).sum(-1), -(up * down).sum(-1))[:, None]
    turned = extrinsics.clone()
    turned[:, :3, 0] = angle.cos() * right + angle.sin() * down
    turned[:, :3, 1] = angle.cos() * down - angle.sin() * right
    return turned


def light_positions(
    cameras: Cameras, generator: torch.Generator, spread: float, distance: Interval
) -> Float[Tensor, "view 3"]:
    """Point lights around the cameras (DreamFusion, section 3.2).

    Each lies in its camera's direction from the origin, to which normal numbers times
    `spread` are added, at a distance that is uniform in an interval.
    """
    around = cameras.centers.cpu()
    around = around + spread * torch.randn(around.shape, generator=generator)
    unit = torch.rand(len(around), 1, generator=generator)
    lights = torch.nn.functional.normalize(around, dim=-1) * _mix(distance, unit)
    return lights.to(cameras.device)
