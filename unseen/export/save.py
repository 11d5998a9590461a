"""One scene into one file, whose suffix says what is wanted."""

from __future__ import annotations

from pathlib import Path

from unseen.errors import UserError
from unseen.export.mesh import save_glb
from unseen.export.points import save_ply
from unseen.export.video import orbit_cameras, render_frames, write_video
from unseen.scenes.io import save_scene
from unseen.scenes.scene import Scene


def export_scene(scene: Scene, path: str | Path) -> None:
    """Write one scene, whole or not at all; an existing file is replaced.

    The suffix of `path` decides: `.safetensors` (our own format, see `save_scene`),
    `.glb` (a mesh), `.ply` (Gaussians) or `.mp4` (an orbit of 48 frames of 256 x 256
    pixels). Raises UserError for another suffix, a scene that cannot be written so, or
    a path that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        save_scene(scene, path)
    elif suffix == ".glb":
        save_glb(scene, path)
    elif suffix == ".ply":
        save_ply(scene, path)
    elif suffix == ".mp4":
        cameras = orbit_cameras(48, fov=40.0, elevation=20.0)
        write_video(render_frames(scene, cameras, (256, 256)).color, path)
    else:
        raise UserError(
            f"cannot tell what to write from the suffix of {path}: use .safetensors, "
            ".glb, .ply or .mp4."
        )
