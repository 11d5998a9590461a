"""Cameras around a scene, for looking at it as a whole."""

from __future__ import annotations

import contextlib
import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.cameras import MARGIN
from unseen.errors import UserError
from unseen.export.grid import sample_density, surface_level
from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import random_sphere_cameras
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.scene import FieldScene, Scene

INSIDE = 0.99
"""The share of matter that is no speck."""


def surrounding_sphere(scene: Scene) -> tuple[Float[Tensor, "3"], float]:
    """Centre and radius of a sphere that holds one scene's matter but specks.

    It is the unit sphere, where objects stand by convention, if that holds the matter;
    else the smallest about the matter's middle.
    """
    points = _matter(scene)
    if float(points.norm(dim=-1).quantile(INSIDE)) <= 1.05:
        return torch.zeros(3), 1.0
    ends = points.quantile(torch.tensor([1 - INSIDE, INSIDE]), dim=0)
    center = ends.mean(dim=0)
    return center, 1.05 * float((points - center).norm(dim=-1).quantile(INSIDE))


@torch.no_grad()
def _matter(scene: Scene) -> Float[Tensor, "point 3"]:
    """Points of a scene's matter: voxels, Gaussians, or the corners of its box."""
    if isinstance(scene, GaussianScene):
        seen = scene.opacity_logits.sigmoid() > 0.1
        points = scene.means[seen if seen.any() else slice(None)].cpu()
        # As many as `quantile` takes.
        return points[:: len(points) // 100_000 + 1]
    if isinstance(scene, FieldScene):
        grid = sample_density(scene, 40)
        # A fog without a surface fills its box.
        with contextlib.suppress(UserError):
            level = min(surface_level(grid), float(grid.density.max()))
            return grid.centers((grid.density >= level).nonzero())
    low, high = scene.bounds().cpu()
    corner = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    return low + corner * (high - low)


def random_views(
    scene: Scene, num_views: int, fov: float, generator: torch.Generator
) -> Cameras:
    """Cameras (view) at random around a scene, which see all of it.

    `fov` is the full field of view in degrees. Elevations are from -30 to 75 degrees,
    directions uniform in area between them.
    """
    center, radius = surrounding_sphere(scene)
    distance = MARGIN * radius / math.sin(0.5 * math.radians(fov))
    return random_sphere_cameras(
        num_views,
        (math.radians(-30), math.radians(75)),
        (distance, distance),
        math.radians(fov),
        distance - radius,
        distance + radius,
        generator,
        center,
    )
