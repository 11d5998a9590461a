"""Small mesh files that the tests write themselves."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

QUADRANTS = np.array(
    [[[200, 40, 40], [40, 180, 60]], [[50, 70, 210], [220, 200, 60]]], np.uint8
)
"""sRGB colours of the quad's texture: rows from the top, columns from the left."""


def textured_quad(image: Image.Image | None = None, **material: Any) -> trimesh.Trimesh:
    """A unit quad, y up, that faces +z; its texture has four colours."""
    if image is None:
        image = Image.fromarray(QUADRANTS.repeat(16, 0).repeat(16, 1))
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    visual = trimesh.visual.TextureVisuals(
        uv=vertices[:, :2], material=PBRMaterial(baseColorTexture=image, **material)
    )
    faces = [[0, 1, 2], [0, 2, 3]]
    return trimesh.Trimesh(vertices, faces, visual=visual, process=False)


def colored_box(
    extents: tuple[float, float, float] = (1.0, 2.0, 3.0),
    color: tuple[int, int, int] = (180, 90, 30),
) -> trimesh.Trimesh:
    """A box around the origin, y up, with one colour at all of its vertices."""
    box = trimesh.creation.box(extents)
    box.visual = trimesh.visual.ColorVisuals(
        box, vertex_colors=np.tile([*color, 255], (len(box.vertices), 1))
    )
    return box


def write_glb(
    path: Path,
    mesh: trimesh.Trimesh | trimesh.Scene,
    edit: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Write a GLB; `edit` may change its JSON before."""
    data = trimesh.exchange.gltf.export_glb(
        mesh if isinstance(mesh, trimesh.Scene) else trimesh.Scene(mesh)
    )
    if edit is not None:
        data = edit_glb(data, edit)
    path.write_bytes(data)
    return path


def edit_glb(data: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """The same GLB with its JSON chunk changed."""
    (length,) = struct.unpack("<I", data[12:16])
    header = json.loads(data[20 : 20 + length])
    edit(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    total = 20 + len(text) + len(rest)
    head = struct.pack("<4sIIII", b"glTF", 2, total, len(text), 0x4E4F534A)
    return head + text + rest


def write_gltf(folder: Path, mesh: trimesh.Trimesh, name: str = "quad") -> Path:
    """Write NAME.gltf with its buffers and texture beside it, as files."""
    files = trimesh.exchange.gltf.export_gltf(trimesh.Scene(mesh))
    header = json.loads(files["model.gltf"])
    for index, buffer in enumerate(header["buffers"]):
        data = files[buffer["uri"]]
        buffer["uri"] = f"buffers/{name} {index}.bin".replace(" ", "%20")
        target = folder / "buffers" / f"{name} {index}.bin"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for index, image in enumerate(header.get("images", [])):
        picture = io.BytesIO()
        Image.fromarray(QUADRANTS.repeat(16, 0).repeat(16, 1)).save(picture, "PNG")
        (folder / f"{name}{index}.png").write_bytes(picture.getvalue())
        image.clear()
        image["uri"] = f"{name}{index}.png"
    (folder / f"{name}.gltf").write_text(json.dumps(header))
    return folder / f"{name}.gltf"


def write_obj(folder: Path, name: str = "square") -> Path:
    """A quad with a texture and a triangle with a plain colour, in one OBJ."""
    (folder / f"{name}.obj").write_text(
        f"mtllib {name}.mtl\n"
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 0 1 1\n"
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl picture\nf 1/1 2/2 3/3 4/4\nusemtl plain\nf 5 6 7\n"
    )
    (folder / f"{name}.mtl").write_text(
        f"newmtl picture\nKd 0 0 0\nmap_Kd {name}.png\nnewmtl plain\nKd 0.5 0.25 1.0\n"
    )
    picture = Image.fromarray(QUADRANTS.repeat(16, 0).repeat(16, 1))
    picture.save(folder / f"{name}.png")
    return folder / f"{name}.obj"
