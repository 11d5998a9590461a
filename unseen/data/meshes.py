"""Load textured meshes: triangles and materials, upright, in the unit sphere."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import trimesh
from jaxtyping import Float, Int

from unseen.data.mesh_files import MeshFile, MeshFolder
from unseen.data.mesh_materials import (
    Array,
    Material,
    MeshError,
    linear_vertex_colors,
    read_material,
)

Up = Literal["y", "z"]


@dataclasses.dataclass(frozen=True)
class Surface:
    """Triangles of one material.

    `normals` are unit vectors, None for flat shading; `uv` has its origin at the
    texture's upper left corner, None where there is no texture; `colors` are linear
    RGB per vertex that multiply the material's, None for white.
    """

    vertices: Float[Array, "vertex 3"]
    faces: Int[Array, "face 3"]
    material: Material
    normals: Float[Array, "vertex 3"] | None = None
    uv: Float[Array, "vertex 2"] | None = None
    colors: Float[Array, "vertex 3"] | None = None


def load_mesh(mesh: MeshFile, up: Up = "y") -> list[Surface]:
    """Surfaces of a mesh file, one per material, y up (or z up) turned to z up.

    Node transforms are applied, degenerate and non-finite triangles dropped. Raises
    `MeshError` with the reason where the file is broken, refers to files that are not
    there, or holds no triangle.
    """
    missing: list[str] = []
    try:
        with mesh.open() as folder:
            missing = folder.missing
            surfaces = _load(folder, mesh.suffix)
    except Exception as error:
        # Whatever a parser trips over in a broken file is the file's fault: report it.
        _require_all(missing)
        if isinstance(error, MeshError):
            raise
        reason = " ".join(str(error).split()) or "no reason given"
        raise MeshError(f"{type(error).__name__}: {reason}") from error
    _require_all(missing)
    surfaces = [kept for surface in surfaces if (kept := _clean(surface)) is not None]
    if not surfaces:
        raise MeshError("holds no triangle of finite, positive area")
    return _merge([_turn(surface, up) for surface in surfaces])


def _require_all(missing: list[str]) -> None:
    if missing:
        raise MeshError(f"refers to {missing[0]}, which is not there")


def normalize_mesh(surfaces: Sequence[Surface]) -> list[Surface]:
    """Bounding box centred at the origin, its half diagonal scaled to 1.

    The object then lies in the unit sphere.
    """
    used = np.concatenate([s.vertices[np.unique(s.faces)] for s in surfaces])
    low, high = used.min(0), used.max(0)
    scale = 2 / np.linalg.norm(high - low)
    return [
        dataclasses.replace(s, vertices=(s.vertices - (low + high) / 2) * scale)
        for s in surfaces
    ]


def _load(folder: MeshFolder, suffix: str) -> list[Surface]:
    data = folder.read()
    header = _gltf_header(data, suffix) if suffix != ".obj" else {}
    with _silent(logging.getLogger("trimesh")):
        scene = trimesh.load_scene(
            io.BytesIO(data), file_type=suffix[1:], resolver=folder, process=False
        )
    # Trimesh writes sRGB vertex colours into glTF, where the standard says linear.
    generator = str(header.get("asset", {}).get("generator", ""))
    srgb = suffix == ".obj" or "trimesh" in generator
    surfaces = []
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            surfaces.append(_surface(geometry, np.asarray(matrix), header, srgb))
    return surfaces


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Trimesh logs what it does not find; `MeshFolder.missing` says it better."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _gltf_header(data: bytes, suffix: str) -> dict[str, Any]:
    """The JSON of a glTF or GLB file."""
    if suffix == ".glb":
        if data[:4] != b"glTF" or len(data) < 20:
            raise MeshError("is not a GLB file")
        (length,) = struct.unpack("<I", data[12:16])
        data = data[20 : 20 + length]
    header = json.loads(data)
    if not isinstance(header, dict):
        raise MeshError("is not a glTF file")
    unknown = set(header.get("extensionsRequired", [])) & {
        "KHR_draco_mesh_compression",
        "EXT_meshopt_compression",
        "KHR_texture_basisu",
    }
    if unknown:
        raise MeshError(f"needs the glTF extension {min(unknown)}, which is not read")
    return header


def _surface(
    geometry: trimesh.Trimesh,
    matrix: Float[Array, "4 4"],
    header: dict[str, Any],
    srgb: bool,
) -> Surface:
    vertices = np.asarray(geometry.vertices, np.float64)
    faces = np.asarray(geometry.faces, np.int64)
    # Only normals that the file holds: trimesh would make up smooth ones.
    normals = geometry._cache.cache.get("vertex_normals")
    if normals is not None and np.shape(normals) == vertices.shape:
        normals = np.asarray(normals) @ np.linalg.pinv(matrix[:3, :3])
    else:
        normals = None
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]
    material, uv, colors = _appearance(geometry, header, srgb)
    vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    return Surface(vertices, faces, material, normals, uv, colors)


def _appearance(
    geometry: trimesh.Trimesh, header: dict[str, Any], srgb: bool
) -> tuple[Material, Array | None, Array | None]:
    """Material, uv (origin at the upper left) and linear vertex colours."""
    visual: Any = geometry.visual
    count = len(geometry.vertices)
    if visual.kind != "texture":
        colors = None
        if visual.kind in ("vertex", "face"):
            colors = linear_vertex_colors(visual.vertex_colors, count, srgb)
        return Material("vertex colors"), None, colors
    colors = linear_vertex_colors(visual.vertex_attributes.get("color"), count, srgb)
    material = read_material(visual.material, header)
    uv = visual.uv
    if material.texture is None or uv is None or len(uv) != count:
        return dataclasses.replace(material, texture=None), None, colors
    # Trimesh counts v upwards.
    uv = np.asarray(uv, np.float64)[:, :2] * [1, -1] + [0, 1]
    return material, np.nan_to_num(uv), colors


def _clean(surface: Surface) -> Surface | None:
    """Without triangles that are not finite, have no area or point nowhere."""
    vertices, faces = surface.vertices, surface.faces
    faces = faces[(faces.min(1) >= 0) & (faces.max(1) < len(vertices))]
    finite = np.atleast_1d(np.isfinite(vertices).all(axis=1))
    faces = faces[finite[faces].all(axis=1)]
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    longest = ((b - a) ** 2).sum(-1) + ((c - a) ** 2).sum(-1)
    faces = faces[area > 1e-9 * longest]
    if not len(faces):
        return None
    normals = surface.normals
    if normals is not None:
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        used = length[np.unique(faces)]
        whole = np.isfinite(used).all() and (used > 0).all()
        normals = normals / np.maximum(length, 1e-30) if whole else None
    vertices = np.nan_to_num(vertices)
    return dataclasses.replace(surface, vertices=vertices, faces=faces, normals=normals)


def _turn(surface: Surface, up: Up) -> Surface:
    if up == "z":
        return surface
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    normals = None if surface.normals is None else surface.normals @ turn
    return dataclasses.replace(
        surface, vertices=surface.vertices @ turn, normals=normals
    )


def _merge(surfaces: Sequence[Surface]) -> list[Surface]:
    """Join surfaces that look the same and hold the same attributes."""
    groups: dict[tuple[Any, ...], list[Surface]] = {}
    for s in surfaces:
        held = (s.normals is None, s.uv is None, s.colors is None)
        groups.setdefault((s.material.key, held), []).append(s)
    return [_join(group) for group in groups.values()]


def _join(group: Sequence[Surface]) -> Surface:
    def joined(arrays: list[Array | None]) -> Array | None:
        present = [x for x in arrays if x is not None]
        return np.concatenate(present) if present else None

    starts = np.cumsum([0, *(len(s.vertices) for s in group)])
    return Surface(
        np.concatenate([s.vertices for s in group]),
        np.concatenate(
            [s.faces + start for s, start in zip(group, starts, strict=False)]
        ),
        group[0].material,
        joined([s.normals for s in group]),
        joined([s.uv for s in group]),
        joined([s.colors for s in group]),
    )
