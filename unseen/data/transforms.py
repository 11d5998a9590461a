"""instant-ngp's and nerfstudio's captures: transforms.json beside photographs.

The file's form is in `transforms_file`. instant-ngp's script turns the world so that z
is up; nerfstudio's files (known by camera_model or applied_transform) leave that to the
reader, so those are turned. Distorted images are undistorted.

near and far: the depths of the box that the file states, which is

    aabb                [[low x, y, z], [high x, y, z]] in the file's own unit, or
    aabb_scale          the side of a cube, in instant-ngp's unit, around its middle:
    scale, offset       instant-ngp's unit = file's unit * scale + offset (0.33, 0.5)

and where none is stated, those of a ball around the point that the cameras look at.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.data.folders import sample_folders, scene_folders
from unseen.data.frame_reader import FrameReader, Listing
from unseen.data.frames import Frame
from unseen.data.transforms_file import read_transforms
from unseen.data.world import NEAREST
from unseen.errors import UserError

FILE = "transforms.json"


class TransformsDataset(FrameReader):
    """Reads one capture's folder, or a root of such folders."""

    format_name: ClassVar[str] = "instant-ngp / nerfstudio transforms.json"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a transforms.json here or one folder below."""
        return any((folder / FILE).is_file() for folder in sample_folders(path))

    def _find_scenes(self) -> list[Path]:
        return scene_folders(self.root, lambda path: (path / FILE).is_file())

    def _list_frames(self, place: Path) -> Listing:
        file = read_transforms(place / FILE)
        upright = not {"camera_model", "applied_transform"} & file.content.keys()
        box = _stated_box(file.content, file.path)
        frames, notes = list(file.frames), list(file.notes)
        if box is not None:
            frames = [bound_by_box(frame, box) for frame in frames]
            notes.append("near and far are the depths of the box that the file states.")
        return Listing(
            tuple(frames),
            upright,
            problems=file.problems,
            notes=tuple(notes),
        )


def _stated_box(content: dict[str, Any], path: Path) -> Float[Tensor, "2 3"] | None:
    """Two opposite corners of the box in the file's unit, if it states one."""
    try:
        if "aabb" in content:
            box = torch.tensor(content["aabb"], dtype=torch.float64)
        elif "aabb_scale" in content:
            scale = float(content.get("scale", 0.33))
            offset = torch.tensor(content.get("offset", [0.5] * 3)).double()
            half = 0.5 * float(content["aabb_scale"])
            box = (0.5 + half * torch.tensor([[-1.0], [1.0]]) - offset) / scale
        else:
            return None
        if box.shape == (2, 3) and (box[0] < box[1]).all() and box.isfinite().all():
            return box
    except (TypeError, ValueError, ZeroDivisionError):
        pass
    raise UserError(f"{path} states a box (aabb) that is none: correct or remove it.")


def bound_by_box(frame: Frame, box: Float[Tensor, "2 3"]) -> Frame:
    """The frame with the least and greatest depth of the box's corners.

    A camera within or beside the box gets a near that is `NEAREST` of its far.
    """
    corners = torch.stack(
        [
            torch.stack([box[i, 0], box[j, 1], box[k, 2]])
            for i, j, k in itertools.product((0, 1), repeat=3)
        ]
    )
    center, forward = frame.extrinsics[:3, 3], frame.extrinsics[:3, 2]
    depths = (corners - center) @ forward
    far = float(depths.max())
    near = max(float(depths.min()), NEAREST * far)
    return dataclasses.replace(frame, near=near, far=far)
