"""The JSON files of NeRF, instant-ngp and nerfstudio: frames with camera-to-world.

    camera_angle_x            full horizontal field of view in radians, or
    fl_x fl_y cx cy w h       intrinsics in pixels; on top, or per frame
    k1 k2 k3 p1 p2            distortion (see `lens`); on top, or per frame
    frames: file_path         relative to the file; NeRF's have no ending
            transform_matrix  4x4 camera to world, OpenGL's axes (x right, y up, z back)
            mask_path         optional: white = what counts

Sources: Mildenhall et al., "NeRF" (ECCV 2020), its Blender data; Mueller et al.,
"Instant neural graphics primitives" (SIGGRAPH 2022), colmap2nerf; nerfstudio's data
conventions.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.dataset import Problem
from unseen.data.frames import Frame, image_size, pixel_intrinsics
from unseen.data.lens import Lens
from unseen.data.world import from_opengl, pose_matrix
from unseen.errors import UserError

ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")
PLAIN_MODELS = frozenset(
    {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"}
)


@dataclasses.dataclass(frozen=True)
class TransformsFile:
    """What a file lists, and what else it says, as JSON."""

    path: Path
    content: dict[str, Any]
    frames: tuple[Frame, ...]
    problems: tuple[Problem, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """That images are undistorted, if they are."""
        lenses = [frame.lens for frame in self.frames if frame.lens.distorts]
        return undistortion_notes(lenses)


def undistortion_notes(lenses: list[Lens]) -> tuple[str, ...]:
    """One sentence that names the coefficients that images are freed from, if any."""
    if not lenses:
        return ()
    first = dataclasses.asdict(lenses[0])
    values = ", ".join(f"{name} {value:.3g}" for name, value in first.items() if value)
    return (f"Images are undistorted when they are read ({values}).",)


def read_transforms(path: Path) -> TransformsFile:
    """Read a transforms.json; an entry that is no frame is reported and left out.

    Raises:
        UserError: the file is no such file, or its cameras are no pinholes with
            Brown-Conrady distortion (fisheye, equirectangular).
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = content["frames"]
        if not isinstance(entries, list):
            raise TypeError("frames is not a list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged or lists no frames ({error}): write it again."
        ) from error
    frames, problems = [], []
    size: tuple[int, int] | None = None
    for number, entry in enumerate(entries):
        try:
            settings = {**content, **entry}
            image = _find_image(path.parent, settings["file_path"])
            if size is None and "fl_x" not in settings:
                # The height of NeRF's own data is nowhere but in the images.
                size = image_size(image)
            frames.append(_read_frame(path, image, settings, size))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"Frame {number} of {path} is none ({error!r})."
            problems.append(Problem(path, reason, "view"))
    return TransformsFile(path, content, tuple(frames), tuple(problems))


def _find_image(folder: Path, name: str) -> Path:
    path = folder / name
    if path.suffix and path.is_file():
        return path
    for ending in ENDINGS:
        candidate = path.with_name(path.name + ending)
        if candidate.is_file():
            return candidate
    return path if path.suffix else path.with_name(path.name + ".png")


def _read_frame(
    path: Path, image: Path, settings: dict[str, Any], size: tuple[int, int] | None
) -> Frame:
    model = str(settings.get("camera_model", "OPENCV"))
    if model not in PLAIN_MODELS or settings.get("is_fisheye") or settings.get("k4"):
        raise UserError(
            f"{path} has cameras of a kind that is not read ({model}, or with k4): "
            f"undistort the images first, to pinhole cameras."
        )
    pose = pose_matrix(settings["transform_matrix"])
    if pose is None:
        raise ValueError("transform_matrix is not 3x4 or 4x4 numbers")
    mask = settings.get("mask_path")
    lens = [float(settings.get(name) or 0) for name in ("k1", "k2", "p1", "p2", "k3")]
    return Frame(
        image,
        from_opengl(pose),
        _intrinsics(settings, size),
        lens=Lens(*lens),
        mask=None if mask is None else path.parent / mask,
    )


def _intrinsics(
    settings: dict[str, Any], size: tuple[int, int] | None
) -> Float[Tensor, "3 3"]:
    if "fl_x" in settings:
        width, height = float(settings["w"]), float(settings["h"])
        focal = float(settings["fl_x"])
        return pixel_intrinsics(
            focal,
            float(settings.get("fl_y", focal)),
            float(settings.get("cx", width / 2)),
            float(settings.get("cy", height / 2)),
            height,
            width,
        )
    focal = 0.5 / math.tan(0.5 * float(settings["camera_angle_x"]))
    # Pixels are square; without any image it does not matter what shape they fill.
    height, width = size or (1, 1)
    middle = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)
    rows = torch.diag(torch.tensor([focal, focal * width / height, 1.0]).double())
    rows[:, 2] = middle
    return rows
