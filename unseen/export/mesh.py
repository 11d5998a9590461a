"""Fields to coloured triangle meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from scipy import sparse
from skimage import measure
from torch import Tensor
from trimesh.visual import ColorVisuals

from unseen.errors import UserError
from unseen.export.glb import write_glb
from unseen.export.grid import evaluate, require_field, sample_density, surface_level
from unseen.scenes.scene import FieldScene, Scene

SMALLEST_PART = 0.02
"""Separate parts with a smaller share of the largest part's faces are left out."""


def extract_mesh(
    scene: Scene, resolution: int = 96, level: float | None = None
) -> trimesh.Trimesh:
    """The surface where a scene's density is `level`, by marching cubes.

    The field is sampled over `scene.bounds()` with `resolution` voxels along its
    longest side. `level` is in the density's unit (per world unit of length); by
    default it is chosen from the densities (see `surface_level`). The mesh is in the
    world's frame (right-handed, z up), its faces look outwards, small floating parts
    are left out, and the colours of its vertices are sRGB.

    Raises UserError for a scene without a surface or one that is no field.
    """
    field = require_field(scene)
    grid = sample_density(field, resolution)
    level = surface_level(grid) if level is None else level
    # The opacity of a voxel is interpolated, not the density: the latter's jumps over
    # orders of magnitude would pull the surface onto the grid and make it ragged.
    # A rim of empty voxels closes surfaces that the grid's border cuts.
    opacity = 1 - torch.exp(-grid.density * grid.voxel)
    opacity = torch.nn.functional.pad(opacity, [1] * 6).numpy()
    threshold = 1 - float(np.exp(-level * grid.voxel))
    if not opacity.max() > threshold > 0:
        raise UserError(
            f"the scene has no surface: its density is nowhere above {level:g}; lower "
            "the level."
        )
    vertices, faces, _, _ = measure.marching_cubes(opacity, threshold)
    faces = _large_parts(faces, len(vertices))
    # Index i of the padded grid is the centre of voxel i - 1.
    vertices = grid.low.numpy() + (vertices - 0.5) * grid.voxel
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.remove_unreferenced_vertices()
    if mesh.volume < 0:
        mesh.invert()
    vertices = torch.from_numpy(np.asarray(mesh.vertices)).float()
    normals = torch.from_numpy(np.array(mesh.vertex_normals)).float()
    colors = surface_colors(field, vertices, normals, grid.voxel).numpy()
    mesh.visual = ColorVisuals(
        mesh, vertex_colors=(colors * 255).round().astype(np.uint8)
    )
    return mesh


def _large_parts(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """The faces of the connected parts that are not specks."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = sparse.coo_matrix(
        (np.ones(len(edges)), edges.T), shape=(num_vertices, num_vertices)
    )
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    part = labels[faces[:, 0]]
    sizes = np.bincount(part)
    return faces[sizes[part] >= SMALLEST_PART * sizes.max()]


def surface_colors(
    scene: FieldScene,
    points: Float[Tensor, "point 3"],
    normals: Float[Tensor, "point 3"],
    voxel: float,
) -> Float[Tensor, "point 3"]:
    """Colours of surface points as rays would see them that enter along the normals.

    `normals` point outwards. The colour exactly at the surface is poorly determined,
    because little light comes from there; the samples' compositing weights, down to
    2.5 `voxel` deep, say where it does come from.
    """
    offsets = torch.arange(6) * 0.5 * voxel
    inside = points[:, None] - offsets[:, None] * normals[:, None]
    density, color = evaluate(scene, inside.reshape(-1, 3))
    thickness = density.reshape(-1, len(offsets)) * 0.5 * voxel
    transmitted = torch.exp(-(thickness.cumsum(-1) - thickness))
    weights = transmitted * (1 - torch.exp(-thickness)) + 1e-6
    weights = weights / weights.sum(-1, keepdim=True)
    color = color.reshape(*thickness.shape, 3)
    return (weights[..., None] * color).sum(-2).clamp(0, 1)


def save_glb(
    scene: Scene, path: str | Path, resolution: int = 96, level: float | None = None
) -> None:
    """Write a scene's surface as GLB, whole or not at all (see `extract_mesh`).

    As glTF wants, y is up and colours are linear; the side that azimuth 0 sees (the
    world's x axis) faces the viewer (glTF's z axis). Raises UserError also if `path`
    cannot be written.
    """
    write_glb(extract_mesh(scene, resolution, level), path)
