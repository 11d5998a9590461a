"""The ShapeNet-SRN layout: one folder of posed images per object.

    ROOT/OBJECT/rgb/000000.png      RGBA, 8 bit, straight alpha
    ROOT/OBJECT/pose/000000.txt     16 numbers: camera-to-world, row by row, OpenCV axes
    ROOT/OBJECT/intrinsics.txt      "f cx cy 0." in pixels; barycentre; near plane;
                                    scale; "height width"
    ROOT/OBJECT/depth/000000.png    16 bit, optional: depth / depth_unit, 0 = nothing

Layout of Sitzmann et al., "Scene Representation Networks" (NeurIPS 2019); `depth` and
the manifest are ours.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from unseen.data.manifest import TEMPORARY, Split, read_manifest
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

Array = np.ndarray

RELATIVE_RADIUS = 0.5 / 1.3
"""Radius of an object over the camera's distance where nothing states it.

The bounds in use for the released ShapeNet-SRN sets are 0.8 and 1.8 at distance 1.3
for cars, 1.25 and 2.75 at distance 2 for chairs: one ratio fits both.
"""


def write_object(
    root: str | Path, object_id: str, views: Views, depth_unit: float = 1e-4
) -> None:
    """Write one object's views (view) so that its folder is either whole or absent.

    Images are on white; `masks` become alpha (all opaque without); `depths` are
    written where the views have them. An existing folder of that name is replaced.
    Raises UserError for several intrinsics, which the layout cannot hold, for depths
    beyond 65535 `depth_unit` and for a folder that cannot be written.
    """
    root = Path(root)
    temporary = root / f"{TEMPORARY}{object_id}-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "rgb").mkdir(parents=True)
        (temporary / "pose").mkdir()
        (temporary / "intrinsics.txt").write_text(_intrinsics_text(views))
        for index, image in enumerate(_to_rgba(views)):
            Image.fromarray(image).save(temporary / "rgb" / f"{index:06d}.png")
            pose = views.cameras.extrinsics[index].reshape(-1).tolist()
            text = " ".join(f"{number:.9g}" for number in pose)
            (temporary / "pose" / f"{index:06d}.txt").write_text(text + "\n")
        if views.depths is not None:
            _write_depths(temporary / "depth", views.depths, depth_unit)
        if (root / object_id).exists():
            shutil.rmtree(root / object_id)
        os.rename(temporary, root / object_id)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"Cannot write {root / object_id}: {error.strerror}; free some space or "
            f"choose another folder, then run the same command again."
        ) from error


def _to_rgba(views: Views) -> UInt8[Array, "view height width 4"]:
    """Undo the white background and append alpha."""
    images = views.images
    alpha = torch.ones_like(images[:, 0]) if views.masks is None else views.masks
    alpha = alpha[:, None]
    color = (images - (1 - alpha)) / alpha.clamp_min(1e-6)
    color = torch.where(alpha > 0, color, torch.ones_like(color))
    rgba = torch.cat([color.clamp(0, 1), alpha.clamp(0, 1)], dim=1)
    return (rgba * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _intrinsics_text(views: Views) -> str:
    intrinsics, (height, width) = views.cameras.intrinsics, views.size
    first = intrinsics[0]
    focal = float(first[0, 0]) * width
    square = abs(float(first[1, 1]) * height - focal) <= 1e-3 * focal
    if not square or not torch.allclose(intrinsics, first.expand_as(intrinsics)):
        raise UserError(
            "The SRN layout holds one intrinsics per object with square pixels; give "
            "all views of an object the same field of view."
        )
    cx, cy = float(first[0, 2]) * width, float(first[1, 2]) * height
    return (
        f"{focal:.9g} {cx:.9g} {cy:.9g} 0.\n0. 0. 0.\n"
        f"{float(views.cameras.near.min()):.9g}\n1.\n{height} {width}\n"
    )


def _write_depths(
    folder: Path, depths: Float[Tensor, "view height width"], unit: float
) -> None:
    steps = (depths / unit + 0.5).floor()
    if steps.max() > 65535:
        raise UserError(
            f"A depth of {float(depths.max()):.3g} does not fit into 16 bit in steps "
            f"of {unit:g}; choose a larger depth unit."
        )
    folder.mkdir()
    for index, image in enumerate(steps.numpy().astype(np.uint16)):
        Image.fromarray(image).save(folder / f"{index:06d}.png")


@dataclasses.dataclass(frozen=True)
class _Folder:
    """Where an object lies, its names, and what its files say."""

    id: str
    path: Path


@dataclasses.dataclass(frozen=True)
class PackedViews:
    """Views as they lie on disk, one array each: small, and quick to index."""

    rgba: UInt8[Tensor, "view 4 height width"]
    cameras: Cameras
    depths: UInt16[Tensor, "view height width"] | None
    depth_unit: float

    def unpack(self, index: list[int]) -> Views:
        """Float views on white."""
        pixels = self.rgba[index].to(torch.float32) / 255
        color, alpha = pixels[:, :3], pixels[:, 3:]
        depths = None
        if self.depths is not None:
            depths = self.depths[index].to(torch.float32) * self.depth_unit
        return Views(
            color * alpha + (1 - alpha), self.cameras[index], alpha[:, 0], depths
        )


class SRNDataset:
    """Reads data sets in the SRN layout, with our manifest or without.

    Without a manifest, ROOT may be a split of ShapeNet-SRN (also with the nested
    `chairs_2.0_train`) or one object's own folder; poses may have one line or four.
    `split` ("train" or "test") needs a manifest.

    near and far: the explicit arguments; else, with a manifest, the distance of the
    camera from the origin -+ the manifest's radius; else distance -+ 0.385 distance
    (see `RELATIVE_RADIUS`).

    `cache` keeps every object that was read in memory as 8-bit arrays (16 KB per
    64x64 view), so that a later read takes well under a millisecond. `depths=False`
    leaves depth images alone.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split | None = None,
        near: float | None = None,
        far: float | None = None,
        cache: bool = False,
        depths: bool = True,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"There is no folder {self.root}; check the path.")
        self._near, self._far, self._depths = near, far, depths
        self._cache: dict[int, PackedViews] | None = {} if cache else None
        self.manifest = read_manifest(self.root)
        self._folders = self._find(split)
        if not self._folders:
            raise UserError(
                f"{self.root} holds no objects{f' of split {split}' if split else ''}; "
                f"an object is a folder with rgb, pose and intrinsics.txt."
            )

    def _find(self, split: Split | None) -> list[_Folder]:
        if self.manifest is not None:
            chosen = [r for r in self.manifest.objects if split in (None, r.split)]
            ids = sorted(record.id for record in chosen)
            return [_Folder(name, self.root / name) for name in ids]
        if split is not None:
            raise UserError(
                f"{self.root} has no manifest, so it has no splits; leave the split "
                f"out and name the folder of the split itself."
            )
        if (self.root / "intrinsics.txt").is_file():
            return [_Folder(self.root.name, self.root)]
        for base in (self.root, *sorted(p for p in self.root.iterdir() if p.is_dir())):
            found = sorted(
                path.parent
                for path in base.glob("*/intrinsics.txt")
                if not path.parent.name.startswith(TEMPORARY)
            )
            if found:
                return [_Folder(path.name, path) for path in found]
        return []

    def __len__(self) -> int:
        return len(self._folders)

    @property
    def object_ids(self) -> list[str]:
        """Names of the objects, in the order of their indices."""
        return [folder.id for folder in self._folders]

    def num_views(self, index: int) -> int:
        """How many views the object has."""
        if self._cache is not None and index in self._cache:
            return len(self._cache[index].cameras)
        return len(self._names(index))

    def _names(self, index: int) -> list[str]:
        """Names of an object's views without their endings, sorted."""
        names = sorted(
            p.stem for p in (self._folders[index].path / "pose").glob("*.txt")
        )
        if not names:
            raise UserError(
                f"{self._folders[index].path} has no poses; remove the folder or "
                f"make the object again."
            )
        return names

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Views (view) of the object with this index; all of them by default.

        Images are in [0, 1] on white, masks are alpha, depths are there if the files
        are. Raises UserError, naming the file, for what cannot be read.
        """
        if self._cache is None:
            wanted = view_indices
            packed = self._read(index, wanted)
            return packed.unpack(list(range(len(packed.cameras))))
        if index not in self._cache:
            self._cache[index] = self._read(index, None)
        packed = self._cache[index]
        if view_indices is None:
            view_indices = list(range(len(packed.cameras)))
        return packed.unpack(view_indices)

    def _read(self, index: int, view_indices: list[int] | None) -> PackedViews:
        path, names = self._folders[index].path, self._names(index)
        if view_indices is not None:
            names = [names[view] for view in view_indices]
        rgba = np.stack([_read_image(path / "rgb" / f"{n}.png") for n in names])
        poses = torch.stack([_read_pose(path / "pose" / f"{n}.txt") for n in names])
        depths = None
        if self._depths and (path / "depth").is_dir():
            files = [path / "depth" / f"{name}.png" for name in names]
            depths = torch.from_numpy(np.stack([_read_depth(file) for file in files]))
        unit = 1.0 if self.manifest is None else self.manifest.depth_unit
        intrinsics = _read_intrinsics(path / "intrinsics.txt")
        return PackedViews(
            torch.from_numpy(rgba).permute(0, 3, 1, 2).contiguous(),
            self._cameras(poses, intrinsics),
            depths,
            unit,
        )

    def _cameras(
        self, poses: Float[Tensor, "view 4 4"], intrinsics: Float[Tensor, "3 3"]
    ) -> Cameras:
        distance = poses[:, :3, 3].norm(dim=-1)
        radius = RELATIVE_RADIUS * distance
        if self.manifest is not None:
            radius = torch.full_like(distance, self.manifest.radius)
        near, far = distance - radius, distance + radius
        if self._near is not None:
            near = torch.full_like(distance, self._near)
        if self._far is not None:
            far = torch.full_like(distance, self._far)
        return Cameras(poses, intrinsics.expand(len(poses), 3, 3), near, far)


def _read_image(path: Path) -> UInt8[Array, "height width 4"]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(
            f"The image {path} is missing or damaged; make or download it again."
        ) from error


def _read_depth(path: Path) -> UInt16[Array, "height width"]:
    try:
        with Image.open(path) as image:
            return np.asarray(image).astype(np.uint16)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(
            f"The depth image {path} is missing or damaged; make it again."
        ) from error


def _numbers(path: Path) -> list[float]:
    try:
        return [float(word) for word in path.read_text().split()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or is not a list of numbers.") from error


def _read_pose(path: Path) -> Float[Tensor, "4 4"]:
    numbers = _numbers(path)
    if len(numbers) != 16:
        raise UserError(f"{path} holds {len(numbers)} numbers; a pose has 16.")
    pose = torch.tensor(numbers).reshape(4, 4)
    rotation = pose[:3, :3]
    error = (rotation @ rotation.T - torch.eye(3)).abs().max()
    if not error < 1e-3 or torch.linalg.det(rotation) < 0:
        raise UserError(
            f"The pose {path} is no rotation and translation; it must be a "
            f"camera-to-world matrix without scale."
        )
    return pose


def _read_intrinsics(path: Path) -> Float[Tensor, "3 3"]:
    numbers = _numbers(path)
    if len(numbers) < 6:
        raise UserError(
            f"{path} holds {len(numbers)} numbers; it must begin with f, cx, cy and "
            f"end with height and width."
        )
    focal, cx, cy = numbers[:3]
    height, width = numbers[-2:]
    return torch.tensor(
        [[focal / width, 0, cx / width], [0, focal / height, cy / height], [0, 0, 1]]
    )
