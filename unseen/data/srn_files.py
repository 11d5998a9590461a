"""The files of the ShapeNet-SRN layout, written and read; see `srn_layout`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from unseen.data.manifest import TEMPORARY
from unseen.errors import UserError
from unseen.geometry.views import Views

Array = np.ndarray


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
        _write_all(temporary, views, depth_unit)
        if (root / object_id).exists():
            shutil.rmtree(root / object_id)
        os.rename(temporary, root / object_id)
    except OSError as error:
        raise UserError(
            f"Cannot write {root / object_id}: {error.strerror}; free some space or "
            f"choose another folder, then run the same command again."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_all(folder: Path, views: Views, depth_unit: float) -> None:
    (folder / "rgb").mkdir(parents=True)
    (folder / "pose").mkdir()
    (folder / "intrinsics.txt").write_text(_intrinsics_text(views))
    for index, image in enumerate(_to_rgba(views)):
        Image.fromarray(image).save(folder / "rgb" / f"{index:06d}.png")
        pose = views.cameras.extrinsics[index].reshape(-1).tolist()
        text = " ".join(f"{number:.9g}" for number in pose)
        (folder / "pose" / f"{index:06d}.txt").write_text(text + "\n")
    if views.depths is not None:
        _write_depths(folder / "depth", views.depths, depth_unit)


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


def read_image(path: Path) -> UInt8[Array, "height width 4"]:
    """RGBA of an 8-bit image; UserError for a missing or damaged file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(
            f"The image {path} is missing or damaged; make or download it again."
        ) from error


def read_depth(path: Path) -> UInt16[Array, "height width"]:
    """Steps of a 16-bit depth image; UserError for a missing or damaged file."""
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


def read_pose(path: Path) -> Float[Tensor, "4 4"]:
    """Camera-to-world from 16 numbers on any number of lines.

    Raises UserError unless it is a rotation and a translation.
    """
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


def read_intrinsics(path: Path) -> Float[Tensor, "3 3"]:
    """Normalised intrinsics from "f cx cy 0.", other lines, "height width"."""
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
