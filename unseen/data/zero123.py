"""The layout of Zero-1-to-3: renderings of Objaverse, a folder per object.

    ROOT/OBJECT/000.png     RGBA, 8 bit, straight alpha, square
    ROOT/OBJECT/000.npy     3x4 numbers: world to camera, Blender's (OpenGL's) axes
    ROOT/valid_paths.json   optional: names of the objects

The camera is Blender's with a 35 mm lens on a 32 mm sensor (a field of view of 49.13
degrees). Objects are centred, their bounding box's longest edge is 1, and z is up.
Images are composited on white by their alpha.

Source: Liu et al., "Zero-1-to-3" (ICCV 2023), its rendering script.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from unseen.data.dataset import Problem
from unseen.data.folders import list_folders, sample_folders
from unseen.data.frame_reader import FrameReader, Listing
from unseen.data.frames import Frame
from unseen.data.world import bounds_around, from_opengl, invert, pose_matrix
from unseen.errors import UserError
from unseen.geometry.cameras import intrinsics_from_fov

FOV = 2 * math.atan(32 / 2 / 35)
"""Radians: 49.13 degrees."""
RADIUS = math.sqrt(3) / 2
"""Of the ball around a centred cube of edge 1, which holds every object."""
INDEX = "valid_paths.json"


class Zero123Dataset(FrameReader):
    """Reads the layout of Zero-1-to-3: a root of objects, or one object's folder.

    near and far: the origin's depth -+ 0.866. A .npy without its .png is reported and
    left out, and so is an object that valid_paths.json names and that is not there.
    """

    format_name: ClassVar[str] = "Zero-1-to-3"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether numbered .npy files lie beside .png files of the same numbers."""
        return any(_is_object(folder) for folder in sample_folders(path))

    def _find_scenes(self) -> list[Path]:
        if _is_object(self.root):
            return [self.root]
        index = self.root / INDEX
        if not index.is_file():
            return [p for p in list_folders(self.root) if next(p.glob("*.npy"), None)]
        try:
            names = json.loads(index.read_text())
            places = [self.root / str(name) for name in names]
        except (ValueError, TypeError) as error:
            raise UserError(f"{index} is no JSON list of names; remove it.") from error
        for place in places:
            if not place.is_dir():
                reason = f"{place} is named in {INDEX}, but there is no such folder."
                self._problems.append(Problem(place, reason, "scene"))
        return sorted(place for place in places if place.is_dir())

    def _list_frames(self, place: Path) -> Listing:
        intrinsics = intrinsics_from_fov(torch.tensor(FOV, dtype=torch.float64))
        frames, problems = [], []
        for file in sorted(place.glob("*.npy")):
            try:
                matrix = pose_matrix(np.load(file, allow_pickle=False))
            except (ValueError, OSError, EOFError):
                matrix = None
            if matrix is None:
                reason = f"{file} holds no pose of 3x4 numbers."
                problems.append(Problem(file, reason, "view"))
                continue
            pose = from_opengl(invert(matrix))
            near, far = bounds_around(pose[None], torch.zeros(3).to(pose), RADIUS)
            frames.append(
                Frame(
                    file.with_suffix(".png"), pose, intrinsics, float(near), float(far)
                )
            )
        return Listing(tuple(frames), upright=True, problems=tuple(problems))


def _is_object(folder: Path) -> bool:
    first = next(folder.glob("[0-9]*.npy"), None)
    return first is not None and first.with_suffix(".png").is_file()
