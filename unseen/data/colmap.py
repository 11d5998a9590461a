"""COLMAP's sparse models beside the photographs that they were made from.

    SCENE/sparse/0/             cameras, images, points3D as .bin or .txt (also in
                                sparse/, colmap/sparse/0/ or SCENE itself)
    SCENE/images/NAME           the photographs; or images_2, images_4, ... smaller
    SCENE/masks/NAME.png        optional: white = what counts

The form of the files is in `colmap_files`. Poses are inverted to camera to world; the
axes are OpenCV's already. COLMAP's world has no up, so it is turned. Distorted images
are undistorted.

near and far of a view: 0.9 and 1.1 times the depths between which 98 percent of the
points lie that it observed (of all points in front of it, if those are under ten);
without points, a ball around the point that the cameras look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from unseen.data.colmap_files import ColmapImage, ColmapModel, is_model, read_model
from unseen.data.dataset import Problem
from unseen.data.folders import sample_folders, scene_folders
from unseen.data.frame_reader import FrameReader, Listing
from unseen.data.frames import Frame
from unseen.data.photo_folders import find_masks, largest_folder
from unseen.data.transforms_file import undistortion_notes
from unseen.data.world import NEAREST, invert

MODEL_PLACES = ("sparse/0", "sparse", "colmap/sparse/0", ".")
FEWEST_POINTS = 10


class ColmapDataset(FrameReader):
    """Reads one scene's folder, or a root of such folders.

    Of several models of a scene the first is read, and that is reported. Masks are
    used if every image has one.
    """

    format_name: ClassVar[str] = "COLMAP"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a sparse model here or one folder below."""
        return any(_find_model(folder) is not None for folder in sample_folders(path))

    def _find_scenes(self) -> list[Path]:
        return scene_folders(self.root, lambda path: _find_model(path) is not None)

    def _list_frames(self, place: Path) -> Listing:
        folder = _find_model(place)
        assert folder is not None
        model = read_model(folder)
        images = largest_folder(place, "images")
        paths = [images / image.name for image in model.images]
        masks = find_masks(place, images, paths)
        frames, problems = [], []
        for image, path, mask in zip(model.images, paths, masks, strict=True):
            camera = model.cameras.get(image.camera)
            if camera is None:
                reason = f"{path} has a camera ({image.camera}) that is not listed."
                problems.append(Problem(path, reason, "view"))
                continue
            near, far = _bounds(model, image)
            pose = invert(image.world_to_camera)
            frame = Frame(path, pose, camera.intrinsics, near, far, camera.lens, mask)
            frames.append(frame)
        if (folder.parent / "1").is_dir() and folder.name == "0":
            reason = f"{folder.parent} holds several models; model 0 is read."
            problems.append(Problem(folder.parent, reason))
        notes = list(undistortion_notes([f.lens for f in frames if f.lens.distorts]))
        if images.name != "images":
            notes.append(f"Images are those in {images.name}.")
        if len(model.point_ids):
            notes.append("near and far are those of the model's points.")
        return Listing(tuple(frames), problems=tuple(problems), notes=tuple(notes))


def _find_model(place: Path) -> Path | None:
    return next((place / p for p in MODEL_PLACES if is_model(place / p)), None)


def _bounds(
    model: ColmapModel, image: ColmapImage
) -> tuple[float, float] | tuple[None, None]:
    """near and far of an image from the model's points."""
    seen = np.isin(model.point_ids, image.points)
    depths = _depths(image, model.positions[seen])
    if len(depths) < FEWEST_POINTS:
        depths = _depths(image, model.positions)
    if len(depths) == 0:
        return None, None
    low, high = np.quantile(depths, [0.01, 0.99])
    far = 1.1 * float(high)
    return max(0.9 * float(low), NEAREST * far), far


def _depths(
    image: ColmapImage, positions: Float[np.ndarray, "point 3"]
) -> Float[np.ndarray, "seen"]:
    """Positive depths of points."""
    row = image.world_to_camera[2].numpy()
    depths = positions @ row[:3] + row[3]
    return depths[depths > 0]
