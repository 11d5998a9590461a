"""Coloured meshes as binary glTF 2.0 (GLB) files."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image

from unseen.export.colormap import srgb_to_linear, to_bytes
from unseen.export.textured_mesh import TexturedMesh
from unseen.files import atomic_file

FLOAT, UNSIGNED_INT = 5126, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
LINEAR, CLAMP_TO_EDGE = 9729, 33071
PNG = "png"
"""The name of a texture among a file's arrays: an encoded picture."""


def write_glb(mesh: trimesh.Trimesh | TexturedMesh, path: str | Path) -> None:
    """Write a mesh (world: z up, metres, sRGB colours) as GLB, whole or not at all.

    glTF (Khronos, "glTF 2.0 Specification", section 3.7.2) wants y up with z to the
    front, vertex colours that are linear, and textures in sRGB. Vertex colours are
    written as floats, because linear bytes would band in the dark, and the material is
    unlit (KHR_materials_unlit): the colours of a radiance field hold the light already.
    Textures are a PNG inside of the file, to be looked up without mipmaps, which would
    mix the blocks of the atlas. Raises UserError if `path` cannot be written.
    """
    if isinstance(mesh, TexturedMesh):
        arrays = _textured_arrays(mesh)
    else:
        arrays = _colored_arrays(mesh)
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


def to_gltf_frame(vectors: np.ndarray) -> np.ndarray:
    """World (x, y, z) to glTF (y, z, x): up stays up, azimuth 0 is the front."""
    return vectors[:, [1, 2, 0]].astype("<f4")


def _colored_arrays(mesh: trimesh.Trimesh) -> dict[str, np.ndarray]:
    visual: Any = mesh.visual  # Of vertex colours, which its declared type leaves open.
    colors = np.asarray(visual.vertex_colors)[:, :3]
    linear = srgb_to_linear(torch.from_numpy(colors / 255.0)).numpy()
    return {
        "POSITION": to_gltf_frame(np.asarray(mesh.vertices)),
        "NORMAL": to_gltf_frame(np.asarray(mesh.vertex_normals)),
        "COLOR_0": linear.astype("<f4"),
        "indices": np.asarray(mesh.faces).astype("<u4").reshape(-1),
    }


def _textured_arrays(mesh: TexturedMesh) -> dict[str, np.ndarray]:
    picture = io.BytesIO()
    Image.fromarray(to_bytes(mesh.texture).numpy()).save(picture, "PNG")
    encoded = picture.getvalue()
    # What follows must start at multiples of four bytes.
    padded = encoded + b"\0" * (-len(encoded) % 4)
    return {
        "POSITION": to_gltf_frame(mesh.vertices.numpy()),
        "NORMAL": to_gltf_frame(mesh.normals.numpy()),
        "TEXCOORD_0": mesh.uv.numpy().astype("<f4"),
        "indices": np.arange(len(mesh.vertices), dtype="<u4"),
        PNG: np.frombuffer(padded, np.uint8),
    }


def _describe(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON part of a GLB file whose buffer holds `arrays` one after another."""
    views: list[dict[str, Any]] = []
    accessors, offset = [], 0
    for name, array in arrays.items():
        view = {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes}
        views.append(view)
        offset += array.nbytes
        if name == PNG:
            continue
        is_index = name == "indices"
        view["target"] = ELEMENT_ARRAY_BUFFER if is_index else ARRAY_BUFFER
        accessor = {
            "bufferView": len(views) - 1,
            "componentType": UNSIGNED_INT if is_index else FLOAT,
            "count": len(array),
            "type": "SCALAR" if is_index else f"VEC{array.shape[1]}",
        }
        if name == "POSITION":
            accessor["min"] = array.min(axis=0).tolist()
            accessor["max"] = array.max(axis=0).tolist()
        accessors.append(accessor)
    names = [name for name in arrays if name != PNG]
    attributes = {n: i for i, n in enumerate(names) if n != "indices"}
    primitive = {
        "attributes": attributes,
        "indices": names.index("indices"),
        "material": 0,
    }
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "unseen"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [
            {
                "pbrMetallicRoughness": surface,
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    if PNG in arrays:
        filters = {"magFilter": LINEAR, "minFilter": LINEAR}
        wrapping = {"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}
        surface["baseColorTexture"] = {"index": 0}
        document["textures"] = [{"source": 0, "sampler": 0}]
        document["samplers"] = [{**filters, **wrapping}]
        document["images"] = [{"bufferView": len(views) - 1, "mimeType": "image/png"}]
    return document
