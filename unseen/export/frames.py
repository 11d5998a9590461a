"""Frames along a camera path as files for other programs: pictures, and depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from unseen.errors import UserError
from unseen.export.camera_paths import CAMERA_FILE, write_cameras
from unseen.export.colormap import to_bytes
from unseen.files import atomic_file
from unseen.geometry.cameras import Cameras
from unseen.scenes.scene import Scene

Advance = Callable[[int], None]
"""Called with the number of frames that were just finished."""

MILLIMETRE = 1e-3
"""The unit of depth pictures where it reaches, which nerfstudio expects by default."""
LARGEST = 2**16 - 1
SEEN = 0.5
"""Opacity from which a pixel's depth is that of matter."""


def write_frames(
    scene: Scene,
    cameras: Cameras,
    size: tuple[int, int],
    folder: str | Path,
    with_depth: bool,
    advance: Advance,
) -> None:
    """Write PNG pictures of cameras (view), and a transforms.json that names them.

    The folder is a data set as nerfstudio and instant-ngp read it. The transforms.json
    is written last: a folder that has one is whole.

    With depth (z in the camera frame), `depth/frame_*.png` have 16 bits: depth in units
    of `depth_unit_scale_factor` world units, which transforms.json and the pictures'
    text say; 0 where opacity is below one half. The unit is 0.001, or more where far is
    beyond 65.535. `depth.npz` holds the renderings as they are: "depth" and, where the
    scene has it, "opacity", float32 of (frame, height, width). Raises UserError for a
    scene without depth.
    """
    folder = Path(folder)
    columns = {"file_path": [f"images/frame_{i:04d}.png" for i in range(len(cameras))]}
    more: dict[str, Any] = {}
    unit = max(MILLIMETRE, float(cameras.far.max()) / LARGEST)
    if with_depth:
        names = [f"depth/frame_{i:04d}.png" for i in range(len(cameras))]
        columns["depth_file_path"] = names
        more["depth_unit_scale_factor"] = unit
    arrays: dict[str, list[np.ndarray]] = {}
    for index, name in enumerate(columns["file_path"]):
        color, depth, opacity = _render(scene, cameras, index, size)
        picture = to_bytes(color).permute(1, 2, 0).contiguous().numpy()
        with atomic_file(folder / name) as temporary:
            Image.fromarray(picture).save(temporary)
        if with_depth:
            if depth is None:
                raise no_depth(scene)
            arrays.setdefault("depth", []).append(depth.numpy())
            if opacity is not None:
                arrays.setdefault("opacity", []).append(opacity.numpy())
            _write_depth(
                depth, opacity, unit, folder / columns["depth_file_path"][index]
            )
        advance(1)
    if with_depth:
        with atomic_file(folder / "depth.npz") as temporary:
            stacked: Any = {name: np.stack(found) for name, found in arrays.items()}
            np.savez_compressed(temporary, **stacked)
    write_cameras(cameras, size, folder / CAMERA_FILE, columns, more)


def _write_depth(
    depth: Tensor, opacity: Tensor | None, unit: float, path: Path
) -> None:
    """One picture of depth (height, width) with 16 bits."""
    steps = (depth / unit).round().clamp(0, LARGEST)
    if opacity is not None:
        steps = torch.where(opacity >= SEEN, steps, 0.0)
    text = PngInfo()
    text.add_text("depth_unit_scale_factor", repr(unit))
    with atomic_file(path) as temporary:
        picture = Image.fromarray(steps.numpy().astype(np.uint16))
        picture.save(temporary, pnginfo=text)


def no_depth(scene: Scene) -> UserError:
    """What to tell who asks for the depth of a scene that has none."""
    return UserError(
        f"a {type(scene).__name__} renders no depth, which this format needs: make a "
        "video or pictures (cameras) of it instead."
    )


@torch.no_grad()
def _render(
    scene: Scene, cameras: Cameras, index: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Colour, depth and opacity of one view, on the CPU."""
    camera = cameras[index : index + 1].to(scene.bounds().device)
    found = scene.render(camera, size)
    depth = None if found.depth is None else found.depth[0].float().cpu()
    opacity = None if found.opacity is None else found.opacity[0].float().cpu()
    return found.color[0].float().cpu(), depth, opacity
