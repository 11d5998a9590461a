"""Meshes whose colours lie in a picture: a texture atlas of small blocks.

Two triangles share a square block of texels, one from each corner of it, with at least
a whole texel around each: bilinear look-ups never mix in the other's, even where a
graphics card looks up a little beyond a triangle's edge (multisampling). There is no
seam to choose and no distortion to minimise, which is what an atlas for a radiance
field needs: its texels are evaluated, not painted.
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

MARGIN, GUTTER = 1, 5
"""Texels between a block's border and a triangle's corner, and by how many texels a
triangle's legs are shorter than its block's sides."""


def bake_texture(scene: Scene, mesh: trimesh.Trimesh, block: int = 8) -> TexturedMesh:
    """The colours of a field on its mesh (see `extract_mesh`), as a texture.

    `block` is the side of the blocks in texels: a triangle's legs have block - 5. Finer
    blocks resolve what varies within a triangle. Raises UserError if the scene is no
    field, ValueError for blocks of less than 6 texels.
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
    local = MARGIN + torch.tensor([[0, 0], [leg, 0], [0, leg]]).expand(count, 3, 2)
    origin, second = _blocks(count, columns, block)
    local = torch.where(second[:, None, None], block - 1 - local, local)
    return origin[:, None] + local


def _block_texels(
    count: int, columns: int, block: int
) -> tuple[Tensor, Tensor, Float[Tensor, "texel 3"]]:
    """The texels of all faces: face, (x, y), barycentric weights.

    Every texel of a block belongs to one face, the diagonal to the first. Outside of
    the triangle, weights continue linearly.
    """
    leg = block - GUTTER
    side = torch.arange(block)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    local = grid[grid.sum(dim=-1) < block]
    diagonal = local.sum(dim=-1) == block - 1
    origin, second = _blocks(count, columns, block)
    own = ~(second[:, None] & diagonal)
    placed = local.expand(count, -1, -1)
    placed = torch.where(second[:, None, None], block - 1 - placed, placed)
    share = (local - MARGIN) / leg
    weights = torch.cat([1 - share.sum(dim=-1, keepdim=True), share], dim=-1)
    face = torch.arange(count)[:, None].expand_as(own)
    texels = origin[:, None] + placed
    return face[own], texels[own], weights.expand(count, -1, -1)[own]
