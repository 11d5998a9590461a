"""Coloured meshes as binary glTF 2.0 (GLB) files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from unseen.export.colormap import srgb_to_linear
from unseen.files import atomic_file

FLOAT, UNSIGNED_INT = 5126, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963


def write_glb(mesh: trimesh.Trimesh, path: str | Path) -> None:
    """Write a mesh (world: z up, vertex colours in sRGB) as GLB, whole or not at all.

    glTF (Khronos, "glTF 2.0 Specification", section 3.7.2) wants colours that are
    linear, and y up with z to the front. Colours are written as floats, because
    linear bytes would band in the dark, and the material is unlit
    (KHR_materials_unlit): the colours of a radiance field hold the light already.
    Raises UserError if `path` cannot be written.
    """
    visual: Any = mesh.visual  # Of vertex colours, which its declared type leaves open.
    colors = np.asarray(visual.vertex_colors)[:, :3]
    linear = srgb_to_linear(torch.from_numpy(colors / 255.0)).numpy()
    # World (x, y, z) becomes glTF (y, z, x): up stays up, azimuth 0 is the front.
    arrays = {
        "POSITION": np.asarray(mesh.vertices)[:, [1, 2, 0]].astype("<f4"),
        "NORMAL": np.asarray(mesh.vertex_normals)[:, [1, 2, 0]].astype("<f4"),
        "COLOR_0": linear.astype("<f4"),
        "indices": np.asarray(mesh.faces).astype("<u4").reshape(-1),
    }
    document = json.dumps(_describe(arrays), separators=(",", ":")).encode()
    document += b" " * (-len(document) % 4)
    binary = b"".join(array.tobytes() for array in arrays.values())
    chunks = [
        struct.pack("<II", len(document), 0x4E4F534A) + document,
        struct.pack("<II", len(binary), 0x004E4942) + binary,
    ]
    total = 12 + sum(map(len, chunks))
    header = struct.pack("<4sII", b"glTF", 2, total)
    with atomic_file(path) as temporary:
        temporary.write_bytes(header + b"".join(chunks))


def _describe(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON part of a GLB file whose buffer holds `arrays` one after another."""
    views, accessors, offset = [], [], 0
    for name, array in arrays.items():
        is_index = name == "indices"
        views.append(
            {
                "buffer": 0,
                "byteOffset": offset,
                "byteLength": array.nbytes,
                "target": ELEMENT_ARRAY_BUFFER if is_index else ARRAY_BUFFER,
            }
        )
        accessor = {
            "bufferView": len(views) - 1,
            "componentType": UNSIGNED_INT if is_index else FLOAT,
            "count": len(array),
            "type": "SCALAR" if is_index else "VEC3",
        }
        if name == "POSITION":
            accessor["min"] = array.min(axis=0).tolist()
            accessor["max"] = array.max(axis=0).tolist()
        accessors.append(accessor)
        offset += array.nbytes
    names = list(arrays)
    attributes = {n: i for i, n in enumerate(names) if n != "indices"}
    primitive = {
        "attributes": attributes,
        "indices": names.index("indices"),
        "material": 0,
    }
    material = {
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {"KHR_materials_unlit": {}},
    }
    return {
        "asset": {"version": "2.0", "generator": "unseen"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
