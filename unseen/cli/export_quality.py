"""How much splats and meshes look like the scene that they were made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unseen.evaluation.metrics import psnr
from unseen.export.bake_splats import empty_color, render_views
from unseen.export.mesh_rendering import render_mesh
from unseen.export.surrounding import random_views
from unseen.scenes.gaussians import GaussianScene

if TYPE_CHECKING:
    from unseen.export.formats import Exporter

VIEWS, SIZE, SEED = 12, 64, 2**31
"""Views, their side in pixels, and the seed of their cameras, which no fit uses."""


@torch.no_grad()
def quality(format_name: str, exporter: Exporter) -> str:
    """The end of a line about a file; empty for files that render nothing."""
    scene = exporter.scene
    cameras = random_views(scene, VIEWS, 40.0, torch.Generator().manual_seed(SEED))
    size = (SIZE, SIZE)
    truth = render_views(scene, cameras.to(scene.bounds().device), size)
    background = torch.ones(3)
    if truth.opacity is not None:
        background = empty_color(truth.color, truth.opacity).cpu()
    if format_name in ("ply", "splat"):
        splats = exporter.splats()
        if isinstance(scene, GaussianScene):
            return f", {splats.count} Gaussians"
        found = splats.render(cameras, size).color
        what = f"{splats.count} Gaussians"
    elif format_name in ("glb", "glb-texture", "obj"):
        colored = format_name == "glb"
        mesh = exporter.mesh() if colored else exporter.textured_mesh()
        found = render_mesh(mesh, cameras, size, background)
        what = f"{len(exporter.mesh().faces)} triangles"
    else:
        return ""
    mean = float(psnr(found.cpu(), truth.color.cpu()).mean())
    return f", {what}, {mean:.1f} dB on {VIEWS} views of {SIZE} x {SIZE} not used"
