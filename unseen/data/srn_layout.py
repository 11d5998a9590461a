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
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from unseen.data.dataset import PosedReader
from unseen.data.folders import sample_folders
from unseen.data.manifest import FINAL, JOURNAL, TEMPORARY, Split, read_manifest
from unseen.data.srn_files import (
    read_depth,
    read_image,
    read_intrinsics,
    read_pose,
    write_object,
)
from unseen.data.world import RELATIVE_RADIUS
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

__all__ = ["PackedViews", "SRNDataset", "write_object"]


@dataclasses.dataclass(frozen=True)
class _Folder:
    """Where an object lies; how many views it has and what it is, if a manifest says
    so."""

    id: str
    path: Path
    views: int | None = None
    category: str = ""


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


class SRNDataset(PosedReader):
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

    format_name: ClassVar[str] = "ShapeNet-SRN"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a manifest of ours, or intrinsics.txt down to 3 levels."""
        if (path / FINAL).is_file() or (path / JOURNAL).is_file():
            return True
        folders = sample_folders(path, depth=2)
        return any((folder / "intrinsics.txt").is_file() for folder in folders)

    @classmethod
    def splits(cls, path: Path) -> tuple[Split, ...]:
        """What the manifest tells apart."""
        manifest = read_manifest(path)
        if manifest is None:
            return ()
        found = {record.split for record in manifest.objects}
        names: tuple[Split, ...] = ("train", "test")
        return tuple(name for name in names if name in found)

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
        self._view_names: dict[int, list[str]] = {}
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
            chosen = sorted(chosen, key=lambda record: record.id)
            return [
                _Folder(r.id, self.root / r.id, r.views, r.category) for r in chosen
            ]
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
    def scene_ids(self) -> list[str]:
        """Names of the objects, in the order of their indices."""
        return [folder.id for folder in self._folders]

    def caption(self, index: int) -> str:
        """The object's category in the manifest."""
        return self._folders[index].category

    def num_views(self, index: int) -> int:
        """How many views the object has."""
        views = self._folders[index].views
        return len(self._names(index)) if views is None else views

    def _names(self, index: int) -> list[str]:
        """Names of an object's views without their endings, sorted."""
        if index in self._view_names:
            return self._view_names[index]
        names = sorted(
            p.stem for p in (self._folders[index].path / "pose").glob("*.txt")
        )
        if not names:
            raise UserError(
                f"{self._folders[index].path} has no poses; remove the folder or "
                f"make the object again."
            )
        self._view_names[index] = names
        return names

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Views (view) of the object with this index; all of them by default.

        Images are in [0, 1] on white, masks are alpha, depths are there if the files
        are. Raises UserError, naming the file, for what cannot be read.
        """
        if self._cache is None:
            packed = self._read(index, view_indices)
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
        rgba = np.stack([read_image(path / "rgb" / f"{n}.png") for n in names])
        poses = torch.stack([read_pose(path / "pose" / f"{n}.txt") for n in names])
        depths = None
        if self._depths and (path / "depth").is_dir():
            files = [path / "depth" / f"{name}.png" for name in names]
            depths = torch.from_numpy(np.stack([read_depth(file) for file in files]))
        unit = 1.0 if self.manifest is None else self.manifest.depth_unit
        intrinsics = read_intrinsics(path / "intrinsics.txt")
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
