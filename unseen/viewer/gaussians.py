"""Scenes as the Gaussians that a browser draws."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.export.points import extract_splats
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class Gaussians:
    """Gaussians in the scene's frame, on the CPU.

    Covariances are in square world units; colours (sRGB) and opacities in [0, 1].
    """

    centers: Float[Tensor, "point 3"]
    covariances: Float[Tensor, "point 3 3"]
    colors: Float[Tensor, "point 3"]
    opacities: Float[Tensor, "point"]

    def __len__(self) -> int:
        return len(self.centers)


@torch.no_grad()
def scene_gaussians(scene: Scene, resolution: int) -> Gaussians | None:
    """Gaussians that look like one scene; None of a scene without a surface.

    `resolution` is the number of voxels along the scene's longest side.
    """
    try:
        splats = extract_splats(scene, resolution)
    except UserError:
        return None
    variances = splats.scales**2
    covariances = variances[:, None, None] * torch.eye(3)
    return Gaussians(splats.centers, covariances, splats.colors, splats.opacities)
