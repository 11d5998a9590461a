"""The layout of LLFF: photographs and poses_bounds.npy.

    SCENE/poses_bounds.npy     per image, by name, 17 numbers: a 3x5 matrix row by row
                               (camera-to-world axes x down, y right, z back; centre;
                               height, width, focal length in pixels) and near, far
    SCENE/images/*             the photographs; or images_4, images_8, ... smaller by
                               that factor
    SCENE/masks/*              optional (or masks_4, ...): white = object, named like
                               the photograph, perhaps with "_mask" behind

The focal length belongs to the size that the file states; normalised by it, the
intrinsics hold for smaller images too. The principal point is the image's middle.

Source: Mildenhall et al., "Local Light Field Fusion" (SIGGRAPH 2019), its README.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from unseen.data.dataset import Problem
from unseen.data.folders import sample_folders, scene_folders
from unseen.data.frame_reader import FrameReader, Listing
from unseen.data.frames import Frame, image_size, pixel_intrinsics
from unseen.data.photo_folders import find_masks, largest_folder, list_images
from unseen.data.world import from_llff
from unseen.errors import UserError

POSES = "poses_bounds.npy"


class LLFFDataset(FrameReader):
    """Reads LLFF's layout: one scene's folder, or a root of such folders.

    The largest folder of images that is there is taken. near and far are those of the
    file. The world is turned upright. The images must be as many as the poses, because
    nothing but their order says which belongs to which; else the scene is left out.
    Masks are used if every image has one.
    """

    format_name: ClassVar[str] = "LLFF"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a poses_bounds.npy here or one folder below."""
        return any((folder / POSES).is_file() for folder in sample_folders(path))

    def _find_scenes(self) -> list[Path]:
        return scene_folders(self.root, lambda path: (path / POSES).is_file())

    def _list_frames(self, place: Path) -> Listing:
        rows = _read_poses(place / POSES)
        folder = largest_folder(place, "images")
        images = list_images(folder)
        if len(images) != len(rows):
            raise UserError(
                f"{place / POSES} has {len(rows)} poses and {folder} has "
                f"{len(images)} images, so nothing says which belong together."
            )
        masks = find_masks(place, folder, images)
        frames = []
        for image, row, mask in zip(images, rows, masks, strict=True):
            matrix = row[:15].reshape(3, 5)
            pose = torch.eye(4, dtype=torch.float64)
            pose[:3] = matrix[:, :4]
            height, width, focal = matrix[:, 4].tolist()
            intrinsics = pixel_intrinsics(
                focal, focal, width / 2, height / 2, height, width
            )
            near, far = row[15:].tolist()
            frame = Frame(image, from_llff(pose), intrinsics, near, far, mask=mask)
            frames.append(frame)
        notes = ["near and far are those that the file states."]
        if folder.name != "images":
            notes.append(f"Images are those in {folder.name}.")
        problems = _check_shape(place, frames)
        return Listing(tuple(frames), problems=tuple(problems), notes=tuple(notes))


def _read_poses(path: Path) -> torch.Tensor:
    try:
        array = np.load(path, allow_pickle=False).astype(np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is damaged: make or download it again.") from error
    if array.ndim != 2 or array.shape[1] != 17:
        raise UserError(f"{path} has the shape {array.shape}, not (images, 17).")
    if not (array[:, [4, 9, 14]] > 0).all():
        raise UserError(f"{path} states sizes or focal lengths that are not positive.")
    return torch.from_numpy(array)


def _check_shape(place: Path, frames: list[Frame]) -> list[Problem]:
    """A folder of images of another shape than the file states is reported."""
    size = image_size(frames[0].image) if frames else None
    if size is None:
        return []
    ratio = float(frames[0].intrinsics[1, 1] / frames[0].intrinsics[0, 0])
    if abs(ratio * size[0] / size[1] - 1) < 0.02:
        return []
    reason = (
        f"{frames[0].image} is {size[0]}x{size[1]} (height x width), which is not the "
        f"shape that {POSES} states."
    )
    return [Problem(place / POSES, reason)]
