"""Scenes as the Gaussians that a browser draws."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.export.bake_splats import BakeOptions, bake_splats
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


def scene_gaussians(scene: Scene, options: BakeOptions) -> Gaussians | None:
    """Gaussians that look like one scene; None of a scene without a surface."""
    try:
        baked = bake_splats(scene, options)
    except UserError:
        return None
    axes = baked.axes().cpu()
    variances = (2 * baked.log_scales.cpu()).exp()
    covariances = axes @ torch.diag_embed(variances) @ axes.mT
    opacities = baked.opacity_logits.sigmoid().cpu()
    colors = baked.base_colors.clamp(0, 1).cpu()
    return Gaussians(baked.means.cpu(), covariances, colors, opacities)
