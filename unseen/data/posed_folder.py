"""Our own plain form: a folder of images and one poses.json.

    {
      "camera_to_world": "opencv",
      "intrinsics": {"fx": 1.2, "fy": 1.2, "cx": 0.5, "cy": 0.5},
      "near": 0.5, "far": 4.0,
      "z_up": true,
      "frames": [
        {"image": "images/a.png",
         "extrinsics": [[1, 0, 0, 0], [0, 0, 1, -2], [0, -1, 0, 0], [0, 0, 0, 1]]}
      ]
    }

- "camera_to_world" names the camera's axes, and must be "opencv": x right, y down,
  z forward. "extrinsics" are 4x4 (or 3x4), row by row.
- "intrinsics" are normalised by the image's width (fx, cx) and height (fy, cy); or in
  pixels, where "width" and "height" stand beside them.
- A frame may have "intrinsics", "near" and "far" of its own, and a "mask" (a file,
  white = object). Without near and far, a ball around the point that the cameras look
  at is taken, with 38.5 percent of their distance as its radius.
- "z_up": whether the world's z is up; where it is false or absent, the world is turned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from unseen.data.dataset import Problem
from unseen.data.folders import sample_folders, scene_folders
from unseen.data.frame_reader import FrameReader, Listing
from unseen.data.frames import Frame, pixel_intrinsics
from unseen.data.world import pose_matrix
from unseen.errors import UserError

FILE = "poses.json"


class PosedFolderDataset(FrameReader):
    """Reads one scene's folder, or a root of such folders."""

    format_name: ClassVar[str] = "posed folder (poses.json)"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a poses.json here or one folder below."""
        return any((folder / FILE).is_file() for folder in sample_folders(path))

    def _find_scenes(self) -> list[Path]:
        return scene_folders(self.root, lambda path: (path / FILE).is_file())

    def _list_frames(self, place: Path) -> Listing:
        path = place / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            entries, axes = list(content["frames"]), content["camera_to_world"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged, or has no frames or camera_to_world ({error!r}): "
                f"see docs/data.md for its form."
            ) from error
        if axes != "opencv":
            raise UserError(
                f'{path} says that camera_to_world is {axes!r}; it must be "opencv" (x '
                f"right, y down, z forward)."
            )
        frames, problems = [], []
        for number, entry in enumerate(entries):
            try:
                frames.append(_read_frame(place, {**content, **entry}))
            except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
                reason = f"Frame {number} of {path} is none ({error!r})."
                problems.append(Problem(path, reason, "view"))
        return Listing(
            tuple(frames), content.get("z_up") is True, problems=tuple(problems)
        )


def _read_frame(place: Path, settings: dict[str, Any]) -> Frame:
    pose = pose_matrix(settings["extrinsics"])
    if pose is None:
        raise ValueError("extrinsics are not 4x4 or 3x4 numbers")
    bounds = [settings.get("near"), settings.get("far")]
    if (bounds[0] is None) != (bounds[1] is None):
        raise ValueError("near and far go together")
    near, far = (None if value is None else float(value) for value in bounds)
    mask = settings.get("mask")
    return Frame(
        place / settings["image"],
        pose,
        _intrinsics(settings["intrinsics"]),
        near,
        far,
        mask=None if mask is None else place / mask,
    )


def _intrinsics(given: dict[str, Any]) -> Float[Tensor, "3 3"]:
    numbers = [float(given[name]) for name in ("fx", "fy", "cx", "cy")]
    height, width = float(given.get("height", 1)), float(given.get("width", 1))
    if ("height" in given) != ("width" in given):
        raise ValueError("width and height go together")
    if "width" not in given and max(numbers[:2]) > 100:
        raise ValueError("intrinsics in pixels need width and height beside them")
    fx, fy, cx, cy = numbers
    return pixel_intrinsics(fx, fy, cx, cy, height, width)
