"""Meshes as pictures, to see what became of a scene without another program."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from unseen.export.textured_mesh import TexturedMesh
from unseen.geometry.cameras import Cameras
from unseen.rendering.rasterize import Fragments, rasterize  # arrow: a mesh is no scene

OVERSAMPLING = 4
"""Rays per pixel and axis."""


def render_mesh(
    mesh: trimesh.Trimesh | TexturedMesh,
    cameras: Cameras,
    size: tuple[int, int],
    background: Float[Tensor, "3"],
) -> Float[Tensor, "view 3 height width"]:
    """Unlit colours (sRGB in [0, 1]) of a mesh, by averaging 16 rays per pixel."""
    large = (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
    if isinstance(mesh, TexturedMesh):
        vertices = mesh.vertices
        faces = torch.arange(len(vertices)).reshape(-1, 3)
    else:
        vertices = torch.from_numpy(np.asarray(mesh.vertices)).float()
        faces = torch.from_numpy(np.asarray(mesh.faces)).long()
    images = []
    for camera in cameras:
        seen = rasterize(vertices, faces, camera, large)
        color = _shade(mesh, faces, seen)
        color = torch.where(seen.faces[..., None] >= 0, color, background)
        images.append(color.movedim(-1, 0))
    return torch.nn.functional.avg_pool2d(torch.stack(images), OVERSAMPLING)


def _shade(
    mesh: trimesh.Trimesh | TexturedMesh, faces: Tensor, seen: Fragments
) -> Float[Tensor, "height width 3"]:
    """The mesh's colour at every fragment."""
    corners = faces[seen.faces.clamp(min=0)]
    if isinstance(mesh, TexturedMesh):
        uv = (seen.weights[..., None] * mesh.uv[corners]).sum(dim=-2)
        found = torch.nn.functional.grid_sample(
            mesh.texture.movedim(-1, 0)[None],
            (2 * uv - 1)[None],
            padding_mode="border",
            align_corners=False,
        )
        return found[0].movedim(0, -1)
    visual: Any = mesh.visual
    colors = torch.from_numpy(np.asarray(visual.vertex_colors)[:, :3] / 255.0).float()
    return (seen.weights[..., None] * colors[corners]).sum(dim=-2)
