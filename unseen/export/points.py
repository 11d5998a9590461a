"""Surface points with normals and colours, as PLY files."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.export.colormap import to_bytes
from unseen.export.splat_files import write_ply
from unseen.scenes.gaussians import GaussianScene

VISIBLE = 0.3
"""Gaussians of less opacity make no point."""


def write_points(scene: GaussianScene, path: str | Path) -> None:
    """Write the centres of one scene's Gaussians as PLY, whole or not at all.

    Per point: x, y, z and the normal as floats, red, green, blue (sRGB) as bytes; the
    world is ours (z up). Faint Gaussians are left out. A normal is the shortest axis of
    a Gaussian, with the sign that points away from the points' middle. Raises UserError
    if `path` cannot be written.
    """
    scene = scene._map(lambda x: x.detach().cpu().float())
    scene = scene.select(scene.opacity_logits.sigmoid() >= VISIBLE)
    normals = _normals(scene)
    colors = to_bytes(scene.base_colors)
    columns = {}
    for names, values in (
        (("x", "y", "z"), scene.means),
        (("nx", "ny", "nz"), normals),
        (("red", "green", "blue"), colors),
    ):
        columns |= dict(zip(names, values.numpy().T, strict=True))
    write_ply(columns, path)


def _normals(scene: GaussianScene) -> Float[Tensor, "gaussian 3"]:
    shortest = scene.log_scales.argmin(dim=-1)
    axes = scene.axes()
    normals = axes[torch.arange(len(axes)), :, shortest]
    outwards = scene.means - scene.means.mean(dim=0)
    return torch.where(
        (normals * outwards).sum(-1, keepdim=True) < 0, -normals, normals
    )
