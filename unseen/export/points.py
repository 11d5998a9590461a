"""Fields to 3D Gaussians, in the file layout of 3D Gaussian Splatting."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from unseen.export.grid import evaluate, require_field, sample_density, surface_level
from unseen.files import atomic_file
from unseen.scenes.scene import Scene

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""


@dataclasses.dataclass(frozen=True)
class Splats:
    """Isotropic Gaussians in the world's frame (z up).

    `scales` are standard deviations in world units; colours (sRGB) and opacities are
    in [0, 1]; `normals` are unit vectors that point out of the matter.
    """

    centers: Float[Tensor, "point 3"]
    normals: Float[Tensor, "point 3"]
    colors: Float[Tensor, "point 3"]
    opacities: Float[Tensor, "point"]
    scales: Float[Tensor, "point"]


def extract_splats(
    scene: Scene, resolution: int = 128, level: float | None = None
) -> Splats:
    """One small Gaussian for every voxel at the surface of a scene.

    The field is sampled over `scene.bounds()` with `resolution` voxels along its
    longest side. Voxels of at least half the density `level` (by default chosen as for
    meshes, see `surface_level`) that lie within two voxels of less dense ones become
    Gaussians: what is deeper inside cannot be seen. Raises UserError for a scene
    without a surface or one that is no field.
    """
    field = require_field(scene)
    grid = sample_density(field, resolution)
    level = surface_level(grid) if level is None else level
    occupied = grid.density.numpy() >= 0.5 * level
    shell = occupied & ~ndimage.binary_erosion(occupied, iterations=2)
    index = torch.from_numpy(np.argwhere(shell))
    centers = grid.centers(index)
    density, color = evaluate(field, centers)
    opacity = 1 - torch.exp(-grid.density * grid.voxel)
    slopes = np.gradient(ndimage.gaussian_filter(opacity.numpy(), 1.0))
    slope = torch.from_numpy(np.stack(slopes, axis=-1)[shell])
    return Splats(
        centers,
        -torch.nn.functional.normalize(slope, dim=-1),
        color.clamp(0, 1),
        # A Gaussian of this width stands for about two voxels of matter along a ray.
        1 - torch.exp(-2 * density * grid.voxel),
        torch.full_like(density, 0.65 * grid.voxel),
    )


def write_splats(splats: Splats, path: str | Path) -> None:
    """Write Gaussians as PLY, whole or not at all.

    The layout is that of the 3D Gaussian Splatting code (Kerbl et al., SIGGRAPH 2023)
    at spherical-harmonics degree 0: logits of opacity, logarithms of scales, rotations
    as (w, x, y, z), all as little-endian floats. Raises UserError if `path` cannot be
    written.
    """
    count = len(splats.centers)
    opacity = splats.opacities.clamp(0.01, 0.99)[:, None]
    rotation = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4)
    columns = {
        "x y z": splats.centers,
        "nx ny nz": splats.normals,
        "f_dc_0 f_dc_1 f_dc_2": (splats.colors - 0.5) / SH_C0,
        "opacity": torch.logit(opacity),
        "scale_0 scale_1 scale_2": splats.scales.log()[:, None].expand(count, 3),
        "rot_0 rot_1 rot_2 rot_3": rotation,
    }
    names = " ".join(columns).split()
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {count}",
        *(f"property float {name}" for name in names),
        "end_header",
    ]
    values = torch.cat(list(columns.values()), dim=1).detach().cpu()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode())
        file.write(values.numpy().astype("<f4").tobytes())


def save_ply(
    scene: Scene, path: str | Path, resolution: int = 128, level: float | None = None
) -> None:
    """Write a scene as Gaussians (see `extract_splats` and `write_splats`)."""
    write_splats(extract_splats(scene, resolution, level), path)
