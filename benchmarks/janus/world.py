"""The world of the experiment: trucks that all turn their cabin to the world's x axis.

Trucks are those of the procedural world, turned back by the angle that each was turned
by, and seen in groups of four: from one elevation, at azimuths 90 degrees apart. From
azimuth 0 the front is seen. All cabins are red and all else is grey: what any colour
there could be a network learns in hours only, and a front must be easy to tell. What is
rendered once is kept in a file.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unseen.cli.progress import Bar, progress_bars
from unseen.data.cameras import sphere_cameras
from unseen.data.primitives import Solid, affine
from unseen.data.procedural import ProceduralObject, make_object
from unseen.files import read_tensors, write_tensors
from unseen.geometry.cameras import Cameras
from unseen.training.random import derive_generator

SIZE = 32
"""Side of the images in pixels."""
GROUP = 4
"""Views of one truck from one elevation, at azimuths 90 degrees apart."""
FIELD_OF_VIEW = 40.0
"""Degrees."""
ELEVATIONS = (0.0, 40.0)
"""Degrees, from the lowest to the highest camera."""
RED = (0.85, 0.12, 0.10)
"""The colour of all cabins."""
CABIN = 1
"""The place of the cabin among the solids of a truck."""
TEST_SEEDS = 1_000_000
"""Seeds of held-out trucks start here, those of training at 0."""


@dataclasses.dataclass(frozen=True)
class Renderings:
    """Views of trucks, in groups; angles in radians, azimuth 0 sees the front."""

    images: UInt8[Tensor, "group view 3 height width"]
    azimuth: Float[Tensor, "group view"]
    elevation: Float[Tensor, "group view"]

    def __len__(self) -> int:
        return len(self.images)

    def pixels(
        self, index: Tensor | slice
    ) -> Float[Tensor, "group view 3 height width"]:
        """Images in [0, 1] of some groups."""
        return self.images[index].float() / 255


def make_truck(seed: int) -> ProceduralObject:
    """A truck with a red cabin whose front faces the world's x axis."""
    truck = make_object("truck", seed)
    back = affine(angle=-truck.front_azimuth)
    solids = tuple(
        _repaint(solid, index == CABIN).moved(back)
        for index, solid in enumerate(truck.solids)
    )
    return dataclasses.replace(truck, front_azimuth=0.0, solids=solids)


def _repaint(solid: Solid, is_cabin: bool) -> Solid:
    """The cabin's own colour as red, with its windows and lamps; all else as grey."""
    body = solid.colors[0]

    def new(color: tuple[float, float, float]) -> tuple[float, float, float]:
        if not is_cabin:
            grey = sum(color) / 3
            return grey, grey, grey
        return RED if np.allclose(color, body, atol=1e-3) else color

    colors = np.array([new(tuple(face)) for face in solid.colors.tolist()])
    paints = tuple(dataclasses.replace(p, color=new(p.color)) for p in solid.paints)
    return dataclasses.replace(solid, colors=colors, paints=paints)


def cameras_at(
    azimuth: Float[Tensor, "view"], elevation: Float[Tensor, "view"]
) -> Cameras:
    """Cameras (view) that look at a truck; angles in radians."""
    return sphere_cameras(azimuth, elevation, torch.tensor(math.radians(FIELD_OF_VIEW)))


def turntable(num_views: int, elevation: float = 20.0) -> Cameras:
    """Cameras (view) at evenly spaced azimuths, half a step from the front on.

    So a quarter of them, and no more and no less, is within 45 degrees of the front
    where `num_views` is a multiple of 4.
    """
    azimuth = 2 * math.pi * (torch.arange(num_views) + 0.5) / num_views
    return cameras_at(azimuth, torch.full_like(azimuth, math.radians(elevation)))


def directions(
    cameras: Cameras,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Azimuth and elevation in radians that cameras see the origin from."""
    x, y, z = cameras.centers.unbind(dim=-1)
    return torch.atan2(y, x), torch.atan2(z, torch.hypot(x, y))


def render_trucks(
    path: Path, first_seed: int, trucks: int, groups: int, name: str
) -> Renderings:
    """`groups` groups of views of each of `trucks` trucks; read if they are there."""
    if path.exists():
        tensors, _ = read_tensors(path)
        return Renderings(**tensors)
    found = []
    with progress_bars() as progress:
        bar = Bar(progress, name)
        for number in range(trucks):
            found.append(_render(first_seed + number, groups))
            bar.report(number + 1, trucks)
    images, azimuth, elevation = (torch.cat(x) for x in zip(*found, strict=True))
    made = Renderings(images, azimuth, elevation)
    write_tensors(path, vars(made), {})
    return made


def _render(seed: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, azimuths and elevations (group, view) of a truck."""
    unit = torch.rand(2, groups, 1, generator=derive_generator(seed, groups))
    turns = torch.arange(GROUP) / GROUP
    azimuth = 2 * math.pi * ((unit[0] + turns) % 1)
    low, high = (math.radians(x) for x in ELEVATIONS)
    elevation = (low + (high - low) * unit[1]).expand(groups, GROUP)
    cameras = cameras_at(azimuth.flatten(), elevation.flatten())
    views = make_truck(seed).render(cameras, SIZE)
    images = (255 * views.images).round().to(torch.uint8)
    return images.unflatten(0, (groups, GROUP)), azimuth, elevation.contiguous()
