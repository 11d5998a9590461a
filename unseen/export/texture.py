"""Meshes whose colours lie in a picture: a texture atlas of small blocks.

Two triangles share a square block of texels, one from each corner of it, with enough
texels around each that bilinear look-ups never mix in the other's. There is no seam to
choose and no distortion to minimise, which is what an atlas for a radiance field needs:
its texels are evaluated, not painted.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from unseen.export.grid import require_field
from unseen.export.mesh import surface_colors
from unseen.export.textured_mesh import TexturedMesh
from unseen.scenes.scene import Scene

GUTTER = 3
"""By how many texels a triangle's legs are shorter than its block's sides."""


def bake_texture(scene: Scene, mesh: trimesh.Trimesh, block: int = 8) -> TexturedMesh:
    """The colours of a field on its mesh (see `extract_mesh`), as a texture.

    `block` is the side of the blocks in texels: a triangle's legs have block - 3. Finer
    blocks resolve what varies within a triangle. Raises UserError if the scene is no
    field, ValueError for blocks of less than 4 texels.
    """
    if block <= GUTTER:
        raise ValueError(f"blocks need at least {GUTTER + 1} texels, not {block}")
    field = require_field(scene)
    faces = np.asarray(mesh.faces).reshape(-1)
    vertices = torch.from_numpy(np.asarray(mesh.vertices)[faces]).float()
    normals = torch.from_numpy(np.array(mesh.vertex_normals)[faces]).float()
    count = len(mesh.faces)
    columns = math.ceil(math.sqrt(math.ceil(count / 2)))
    rows = math.ceil(math.ceil(count / 2) / columns)
    corners = _corner_texels(count, columns, block)
    size = torch.tensor([columns * block, rows * block])
    uv = (corners.reshape(-1, 2) + 0.5) / size
    face, texels, weights = _block_texels(count, columns, block)

    def spread(values: Float[Tensor, "corner 3"]) -> Float[Tensor, "texel 3"]:
        return (weights[..., None] * values.reshape(-1, 3, 3)[face]).sum(dim=1)

    # As long as half an edge, as far as the mesh was resolved.
    edges = vertices.reshape(-1, 3, 3) - vertices.reshape(-1, 3, 3).roll(1, dims=1)
    voxel = float(edges.norm(dim=-1).median())
    unit = torch.nn.functional.normalize(spread(normals), dim=-1)
    colors = surface_colors(field, spread(vertices), unit, voxel)
    texture = torch.full((rows * block, columns * block, 3), 0.5)
    texture[texels[:, 1], texels[:, 0]] = colors
    return TexturedMesh(vertices, normals, uv, texture)


def _blocks(count: int, columns: int, block: int) -> tuple[Tensor, Tensor]:
    """Of every face: its block's upper left texel (x, y), and whether it is second."""
    face = torch.arange(count)
    place = face // 2
    origin = torch.stack([place % columns, place // columns], dim=-1) * block
    return origin, (face % 2 == 1)


def _corner_texels(count: int, columns: int, block: int) -> Tensor:
    """The texels (x, y) whose centres are the corners of each face: (face, 3, 2)."""
    leg = block - GUTTER
    local = torch.tensor([[0, 0], [leg, 0], [0, leg]]).expand(count, 3, 2)
    origin, second = _blocks(count, columns, block)
    local = torch.where(second[:, None, None], block - 1 - local, local)
    return origin[:, None] + local


def _block_texels(
    count: int, columns: int, block: int
) -> tuple[Tensor, Tensor, Float[Tensor, "texel 3"]]:
    """All texels that look-ups in faces touch: face, (x, y), barycentric weights."""
    leg = block - GUTTER
    grid = torch.stack(
        torch.meshgrid(torch.arange(leg + 1), torch.arange(leg + 1), indexing="xy"), -1
    ).reshape(-1, 2)
    # One row of texels lies beyond the third edge.
    local = grid[grid.sum(dim=-1) <= leg + 1]
    origin, second = _blocks(count, columns, block)
    placed = local.expand(count, -1, -1)
    placed = torch.where(second[:, None, None], block - 1 - placed, placed)
    texels = (origin[:, None] + placed).reshape(-1, 2)
    share = local / leg
    weights = torch.cat([1 - share.sum(dim=-1, keepdim=True), share], dim=-1)
    face = torch.arange(count).repeat_interleave(len(local))
    return face, texels, weights.repeat(count, 1)
