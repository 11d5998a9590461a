"""Textured meshes as Wavefront OBJ files, with their material and picture beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from unseen.errors import UserError
from unseen.export.colormap import to_bytes
from unseen.export.glb import to_gltf_frame
from unseen.export.textured_mesh import TexturedMesh
from unseen.files import atomic_file


def obj_files(path: str | Path) -> list[Path]:
    """The files that `write_obj` writes: the mesh, its material, its texture."""
    path = Path(path)
    return [path, path.with_suffix(".mtl"), path.with_suffix(".png")]


def write_obj(mesh: TexturedMesh, path: str | Path) -> None:
    """Write a mesh as `path` (.obj), with a .mtl and a .png of the same name.

    As in our GLB files, y is up, and the side that azimuth 0 sees faces z; most
    programs expect that of OBJ files, which cannot say it themselves. The material has
    illumination model 0 (constant colour), since the colours hold the light already.
    Every file is whole or absent, and the .obj is written last. Raises UserError if
    one cannot be written, or if the name has a space in it, which OBJ cannot refer to.
    """
    path, material, picture = obj_files(path)
    if any(character.isspace() for character in path.name):
        raise UserError(
            f"{path.name} has a space in it, which OBJ files cannot refer to: choose "
            "another name."
        )
    with atomic_file(picture) as temporary:
        Image.fromarray(to_bytes(mesh.texture).numpy()).save(temporary)
    lines = ["newmtl baked", "Ka 0 0 0", "Kd 1 1 1", "Ks 0 0 0", "illum 0"]
    with atomic_file(material) as temporary:
        text = "\n".join([*lines, f"map_Kd {picture.name}"]) + "\n"
        temporary.write_text(text, encoding="utf-8")
    uv = mesh.uv.numpy().copy()
    # OBJ counts from the lower left corner.
    uv[:, 1] = 1 - uv[:, 1]
    columns = {
        "v": to_gltf_frame(mesh.vertices.numpy()),
        "vt": uv,
        "vn": to_gltf_frame(mesh.normals.numpy()),
    }
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"# unseen; y up, metres\nmtllib {material.name}\n")
        for word, values in columns.items():
            np.savetxt(file, values, f"{word}" + " %.7g" * values.shape[1])
        file.write("usemtl baked\n")
        corners = np.arange(1, len(uv) + 1).reshape(-1, 3)
        faces = np.repeat(corners, 3, axis=1)
        np.savetxt(file, faces, "f %d/%d/%d %d/%d/%d %d/%d/%d")
