"""One scene on show, and what is derived from it once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.export.bake_splats import QUICK, BakeOptions
from unseen.geometry.cameras import scene_middle
from unseen.geometry.views import Views
from unseen.scenes.scene import Scene
from unseen.viewer.gaussians import Gaussians, scene_gaussians

COARSE = BakeOptions(max_gaussians=4000, views=12, size=48, steps=0)
"""Gaussians that are there at once: surface points, not fitted."""
FINE = QUICK
"""Those that replace them."""
GIVEN_SIZE = (128, 128)
"""Pixels of the depth map that says what the input saw."""


@dataclasses.dataclass(frozen=True)
class Sphere:
    """Where a scene's matter is: what the view turns around."""

    center: Float[Tensor, "3"]
    radius: float


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """A scene with its name, and the input (1,) that it was made from, if known.

    `provenance` is written into the scene's file when it is downloaded. `place` is
    where the view turns around, for a scene that is still growing.
    """

    name: str
    scene: Scene
    given: Views | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    place: Sphere | None = None

    @functools.cached_property
    def sphere(self) -> Sphere:
        """From the depth range of the input camera, or else from the scene's box."""
        if self.place is not None:
            return self.place
        if self.given is not None:
            camera = self.given.cameras
            radius = 0.5 * float(camera.far[0] - camera.near[0])
            return Sphere(scene_middle(camera)[0].cpu(), radius)
        low, high = self.scene.bounds().cpu()
        return Sphere(0.5 * (low + high), 0.5 * float((high - low).max()))

    @functools.cached_property
    def coarse(self) -> Gaussians | None:
        return scene_gaussians(self.scene, COARSE)

    @functools.cached_property
    def fine(self) -> Gaussians | None:
        return scene_gaussians(self.scene, FINE)

    @property
    def gaussians(self) -> Gaussians | None:
        """The best ones that are there already."""
        return self.fine if "fine" in vars(self) else self.coarse

    @functools.cached_property
    @torch.no_grad()
    def knows_seen(self) -> bool:
        """Whether `surface` is there: a quick look."""
        if self.given is None:
            return False
        camera = self.given.cameras.to(self.scene.bounds().device)
        found = self.scene.render(camera, (2, 2))
        return found.depth is not None and found.opacity is not None

    @functools.cached_property
    @torch.no_grad()
    def surface(self) -> Views | None:
        """The scene as the input camera sees it, with depths (0 without a surface).

        None if the input is not known, or the scene has no depth.
        """
        if self.given is None or not self.knows_seen:
            return None
        camera = self.given.cameras.to(self.scene.bounds().device)
        found = self.scene.render(camera, GIVEN_SIZE)
        assert found.depth is not None and found.opacity is not None
        depths = torch.where(found.opacity > 0.5, found.depth, 0.0)
        return Views(found.color, camera, depths=depths).to("cpu")
