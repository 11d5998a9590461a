"""Posed images with a `cameras.npz`: NMR's ShapeNet renderings, DTU of DVR and IDR.

    [CLASS/]SCENE/cameras.npz      world_mat_i, camera_mat_i, scale_mat_i, ..._inv_i
    [CLASS/]SCENE/image/*.png      view i is the file of number i; also *.jpg
    [CLASS/]SCENE/mask/*.png       optional: the same number of files
    CLASS/softras_{train,test}.lst optional: which scenes are for training or testing

Kato et al., "Neural 3D Mesh Renderer" (CVPR 2018); Niemeyer et al., "Differentiable
Volumetric Rendering" (CVPR 2020), whose files these are; Yariv et al., "Multiview
Neural Surface Reconstruction" (NeurIPS 2020).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from unseen.data.folders import sample_folders
from unseen.data.frame_dataset import (
    DecodedFrame,
    FoundScene,
    FrameDataset,
    Scene,
    decode_image,
)
from unseen.data.manifest import Split
from unseen.data.world import OPENCV_CAMERA, Y_UP
from unseen.errors import UserError

CAMERAS = "cameras.npz"
SHAPENET_BOUNDS = 1.2, 4.0
"""near and far in use for NMR's ShapeNet, with cameras at distance 2.73."""
SCALED_BOUNDS = 0.1, 5.0
"""near and far in use for DTU, where scale_mat puts the object in the unit sphere."""


class DVRDataset(FrameDataset):
    """Reads `cameras.npz` sets; a scene's folder is a scene.

    Cameras: P = camera_mat world_mat scale_mat projects the world, and what is missing
    is the identity. With camera_mat, image coordinates are in [-1, 1], without they
    are pixels. P = K [R | t] is split by the RQ decomposition with positive focal
    lengths. The scale of scale_mat is taken out, so that the world is the one where
    the object lies in the unit sphere.

    Where there is no scale_mat (or it is the identity) the world is ShapeNet's, y up
    (`Y_UP`), near and far are 1.2 and 4. Where there is one the world is that of a
    camera (`OPENCV_CAMERA`), near and far are 0.1 and 5. Masks are read where there
    are as many as images.

    View i is the image whose name is the number i. Where names are no numbers, or no
    camera has a name's number, view i is the i-th image by name.

    A view without matrices is left out, so is a scene whose cameras cannot be read.
    `split` takes the scenes in the lists `softras_train.lst` and `softras_test.lst`.
    """

    format_name: ClassVar[str] = "cameras.npz"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a cameras.npz in the folder or at most two below it."""
        return any((folder / CAMERAS).is_file() for folder in sample_folders(path, 2))

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """The ones that there are lists of."""
        names: tuple[Split, ...] = ("train", "test")
        return tuple(name for name in names if _lists(path, name))

    def _find(self) -> Iterator[FoundScene]:
        self._masks: dict[str, dict[str, Path]] = {}
        for folder in self._folders():
            identity = "/".join(folder.relative_to(self.root).parts) or folder.name
            images = _pictures(folder / "image")
            masks = _pictures(folder / "mask")
            if masks and len(masks) != len(images):
                reason = f"It has {len(masks)} masks for {len(images)} images."
                self._report(folder / "mask", reason)
                masks = []
            self._masks[identity] = {
                image.name: mask for image, mask in zip(images, masks, strict=False)
            }
            found = self._find_scene(folder, identity, images)
            if found is not None:
                yield found

    def _folders(self) -> list[Path]:
        if self._split is not None:
            listed = [
                file.parent / line.strip()
                for file in _lists(self.root, self._split)
                for line in file.read_text().splitlines()
                if line.strip()
            ]
            present = [folder for folder in listed if (folder / CAMERAS).is_file()]
            for folder in sorted(set(listed) - set(present)):
                self._report(folder, "It is listed and not there.", "scene")
            return present
        patterns = (CAMERAS, f"*/{CAMERAS}", f"*/*/{CAMERAS}")
        return [file.parent for p in patterns for file in self.root.glob(p)]

    def _find_scene(
        self, folder: Path, identity: str, images: list[Path]
    ) -> FoundScene | None:
        names, cameras, numbers = [], [], []
        if not images:
            self._report(folder / "image", "It holds no images.", "scene")
            return None
        try:
            matrices = _load_matrices(folder / CAMERAS)
            size = decode_image(images[0], "RGB", str(images[0])).shape[:2]
            for index, image in _number(images, matrices):
                if _has_camera(matrices, index):
                    cameras.append(convert_matrices(matrices, index, size))
                    names.append(image.name)
                    numbers.append(index)
                else:
                    self._report(image, f"{CAMERAS} has no camera {index}.", "view")
        except (OSError, ValueError, zipfile.BadZipFile, UserError) as error:
            self._report(folder / CAMERAS, f"It cannot be read ({error}).", "scene")
            return None
        if not names:
            self._report(folder / CAMERAS, "It has none of the cameras.", "scene")
            return None
        scaled = any(name.startswith("scale_mat_") for name in matrices)
        near, far = SCALED_BOUNDS if scaled else SHAPENET_BOUNDS
        return FoundScene(
            identity,
            folder,
            names,
            np.stack([camera[0] for camera in cameras]),
            np.stack([camera[1] for camera in cameras]),
            np.full(len(names), near),
            np.full(len(names), far),
            numbers,
        )

    def _read(self, scene: Scene, names: Sequence[str]) -> list[DecodedFrame]:
        masks = self._masks[scene.id]
        frames = []
        for name in names:
            path, mask = scene.path / "image" / name, masks.get(name)
            rgb = decode_image(path, "RGB", str(path))
            alpha = None if mask is None else decode_image(mask, "L", str(mask))
            frames.append(DecodedFrame(rgb, alpha))
        return frames


def convert_matrices(
    matrices: Mapping[str, ndarray], index: int, size: tuple[int, ...]
) -> tuple[Float[ndarray, "4 4"], Float[ndarray, "3 3"]]:
    """Extrinsics and normalised intrinsics of view `index`; see `DVRDataset`.

    `matrices` maps names to arrays, `size` is (height, width) in pixels. NaN where the
    matrices are no camera.
    """
    height, width = size
    scale, world, camera = (
        _matrix(matrices, name, index)
        for name in ("scale_mat", "world_mat", "camera_mat")
    )
    to_image = np.eye(3)
    if camera is None:
        to_image[0, 0], to_image[1, 1] = 1 / width, 1 / height
    else:
        to_image[:2] = [[0.5, 0, 0.5], [0, 0.5, 0.5]]
    projection = np.eye(4)[:3]
    for matrix in (camera, world, scale):
        projection = projection if matrix is None else projection @ matrix
    extrinsics, intrinsics = np.full((4, 4), np.nan), np.full((3, 3), np.nan)
    if np.isfinite(projection).all() and np.linalg.det(projection[:, :3]):
        extrinsics, intrinsics = _decompose(to_image @ projection)
    return (Y_UP if scale is None else OPENCV_CAMERA) @ extrinsics, intrinsics


def _decompose(
    projection: Float[ndarray, "3 4"],
) -> tuple[Float[ndarray, "4 4"], Float[ndarray, "3 3"]]:
    """Camera-to-world and K of K [R | t], up to a positive or negative factor."""
    # Slow to import, and only this format needs it.
    import scipy.linalg

    if np.linalg.det(projection[:, :3]) < 0:
        projection = -projection
    intrinsics, rotation = scipy.linalg.rq(projection[:, :3])
    signs = np.sign(np.diag(intrinsics))
    intrinsics, rotation = intrinsics * signs, signs[:, None] * rotation
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation.T
    extrinsics[:3, 3] = -np.linalg.solve(projection[:, :3], projection[:, 3])
    return extrinsics, intrinsics / intrinsics[2, 2]


def _matrix(
    matrices: Mapping[str, ndarray], name: str, index: int
) -> Float[ndarray, "4 4"] | None:
    """A 4x4 matrix by name, from 3x4 or its inverse too; None where it is absent."""
    if f"{name}_{index}" in matrices:
        found = np.asarray(matrices[f"{name}_{index}"], np.float64)
        if found.shape == (3, 4):
            found = np.concatenate([found, [[0, 0, 0, 1]]])
        return found.reshape(4, 4)
    if f"{name}_inv_{index}" in matrices:
        return np.linalg.inv(np.asarray(matrices[f"{name}_inv_{index}"], np.float64))
    return None


def _load_matrices(path: Path) -> dict[str, ndarray]:
    """All arrays of the file; scale matrices that say nothing are dropped."""
    with np.load(path) as file:
        matrices = dict(file)
    return {
        name: matrix
        for name, matrix in matrices.items()
        if not (name.startswith("scale_mat_") and np.allclose(matrix, np.eye(4)))
    }


def _has_camera(matrices: Mapping[str, ndarray], index: int) -> bool:
    return any(f"{name}_{index}" in matrices for name in ("world_mat", "world_mat_inv"))


def _number(
    images: list[Path], matrices: Mapping[str, ndarray]
) -> list[tuple[int, Path]]:
    """Images with the number of their camera; see `DVRDataset`."""
    if all(image.stem.isdecimal() for image in images):
        numbers = [int(image.stem) for image in images]
        if any(_has_camera(matrices, number) for number in numbers):
            return list(zip(numbers, images, strict=True))
    return list(enumerate(images))


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    endings = (".png", ".jpg", ".jpeg")
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in endings)


def _lists(root: Path, split: Split) -> list[Path]:
    name = f"softras_{split}.lst"
    return [file for p in (name, f"*/{name}") for file in sorted(root.glob(p))]
