"""Scenes as the Gaussians that a browser draws."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from unseen.errors import UserError
from unseen.export.bake_splats import BakeOptions, bake_splats
from unseen.scenes.scene import Scene

NEIGHBOURS = 16
"""Gaussians that can matter at a point: those whose centres are nearest."""


@dataclasses.dataclass(frozen=True, eq=False)
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

    @functools.cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.centers.numpy())

    def evaluate(
        self, points: Float[Tensor, "point 3"]
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point 3"]]:
        """Opacity and colour, in [0, 1], of what the nearest Gaussians are at points.

        As if each absorbed its opacity times its height at the point, with its maximum
        at 1; colours are weighted by what is absorbed.
        """
        count = min(NEIGHBOURS, len(self))
        found = self._tree.query(points.numpy(), k=list(range(1, count + 1)))[1]
        near = torch.from_numpy(found)
        offset = points[:, None] - self.centers[near]
        solved = torch.linalg.solve(self.covariances[near], offset)
        height = (-0.5 * (offset * solved).sum(dim=-1)).exp()
        absorbed = self.opacities[near] * height
        total = absorbed.sum(dim=-1, keepdim=True).clamp(min=1e-12)
        color = (absorbed[..., None] * self.colors[near]).sum(dim=1) / total
        return 1 - (1 - absorbed).prod(dim=-1), color


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
