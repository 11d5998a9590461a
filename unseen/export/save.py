"""One scene into one file, whose suffix says what is wanted."""

from __future__ import annotations

from pathlib import Path

from unseen.errors import UserError
from unseen.export.bake_splats import QUICK
from unseen.export.camera_paths import named_path
from unseen.export.formats import FORMATS, Exporter, ExportOptions
from unseen.scenes.io import save_scene
from unseen.scenes.scene import Scene

SUFFIXES = ("ply", "splat", "glb", "obj", "mp4", "gif", "webp")
"""Formats that are meant by their suffix."""


def export_scene(scene: Scene, path: str | Path) -> None:
    """Write one scene, whole or not at all; an existing file is replaced.

    The suffix of `path` decides: `.safetensors` (our own format, see `save_scene`),
    `.ply` or `.splat` (Gaussians, fitted in few seconds; `unseen export` takes more
    time and comes closer), `.glb` (a mesh with vertex colours), `.obj` (a mesh with a
    texture), `.mp4`, `.gif` or `.webp` (an orbit of 48 frames of 256 x 256 pixels).
    Raises UserError for another suffix, a scene that cannot be written so, or a path
    that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        save_scene(scene, path)
        return
    if suffix[1:] not in SUFFIXES:
        known = ", ".join(f".{name}" for name in SUFFIXES)
        raise UserError(
            f"cannot tell what to write from the suffix of {path}: use .safetensors, "
            f"{known}."
        )
    wanted = FORMATS[suffix[1:]]
    wanted.needs(scene)
    cameras = named_path("orbit", scene, num_views=48, fov=40.0, elevation=20.0)
    wanted.write(Exporter(scene, ExportOptions(cameras, splats=QUICK)), Path(path))
