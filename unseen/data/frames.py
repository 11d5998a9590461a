"""One posed image as a file lists it: where its pixels are, and its camera, in ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from unseen.data.lens import NO_DISTORTION, Lens, undistort
from unseen.errors import UserError
from unseen.geometry.check import TOLERANCE


@dataclasses.dataclass(frozen=True)
class Frame:
    """An image file and its camera: OpenCV camera to world, normalised intrinsics.

    `near` and `far` are depths; None until they are known. `mask` is a file of its
    own (white = object), beside the image's own alpha. `number` is the frame's place
    in its scene's list.
    """

    image: Path
    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    near: float | None = None
    far: float | None = None
    lens: Lens = NO_DISTORTION
    mask: Path | None = None
    number: int = 0

    def fault(self) -> str | None:
        """What makes the frame unusable, as a sentence's end; None if nothing does."""
        return (
            (None if self.image.is_file() else "is listed, but there is no such file")
            or pose_fault(self.extrinsics)
            or intrinsics_fault(self.intrinsics)
            or bounds_fault(self.near, self.far)
        )

    def read(self) -> Pixels:
        """Decode the image, and the mask if it has one, without the lens' distortion.

        Raises:
            UserError: a file is missing or damaged, or the mask has another size.
        """
        pixels = read_pixels(self.image)
        if self.mask is not None:
            mask = read_pixels(self.mask).colors[:1]
            if mask.shape[1:] != pixels.colors.shape[1:]:
                raise UserError(
                    f"The mask {self.mask} has another size than its image "
                    f"{self.image.name}; make it again."
                )
            pixels = dataclasses.replace(pixels, mask=mask[0])
        return self._straighten(pixels) if self.lens.distorts else pixels

    def _straighten(self, pixels: Pixels) -> Pixels:
        parts = [pixels.colors, *(x[None] for x in (pixels.mask,) if x is not None)]
        stacked = torch.cat(parts).float()
        found = undistort(stacked, self.intrinsics, self.lens)
        found = found.round().to(torch.uint8)
        channels = len(pixels.colors)
        mask = None if pixels.mask is None else found[channels]
        return Pixels(found[:channels], mask)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """An image as it lies on disk: colour, or colour and straight alpha; its mask."""

    colors: UInt8[Tensor, "channel height width"]
    mask: UInt8[Tensor, "height width"] | None = None

    def unpack(
        self,
    ) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, "height width"] | None]:
        """Colour on white in [0, 1], and the mask: its file's, or else the alpha."""
        values = self.colors.to(torch.float32) / 255
        mask = None if self.mask is None else self.mask.to(torch.float32) / 255
        if len(values) == 3:
            return values, mask
        alpha = values[3]
        return values[:3] * alpha + (1 - alpha), alpha if mask is None else mask


def read_pixels(path: Path) -> Pixels:
    """Decode an image of any mode to 8-bit RGB, or RGBA where it has transparency.

    The pixels are taken as they are stored: a camera's rotation flag (EXIF) is not
    applied, because the programs that estimate poses do not apply it either.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            array: ndarray = np.array(image.convert("RGBA" if clear else "RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(
            f"The image {path} is missing or damaged; make or download it again."
        ) from error
    return Pixels(torch.from_numpy(array).permute(2, 0, 1).contiguous())


def image_size(path: Path) -> tuple[int, int] | None:
    """(height, width) from an image's header alone; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        return None


def pixel_intrinsics(
    fx: float, fy: float, cx: float, cy: float, height: float, width: float
) -> Float[Tensor, "3 3"]:
    """Normalised intrinsics from pixels; pixel centres are at i + 0.5."""
    rows = [[fx / width, 0, cx / width], [0, fy / height, cy / height], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def pose_fault(pose: Float[Tensor, "4 4"]) -> str | None:
    """What keeps a matrix from being a pose, as a sentence's end."""
    if not pose.isfinite().all():
        return "has a pose with numbers that are not finite"
    rotation = pose[:3, :3]
    error = (rotation @ rotation.T - torch.eye(3).to(pose)).abs().max()
    if not error < TOLERANCE:
        return "has a pose whose rotation is not orthonormal"
    if torch.linalg.det(rotation) < 0:
        return "has a mirrored pose (determinant -1)"
    return None


def intrinsics_fault(intrinsics: Float[Tensor, "3 3"]) -> str | None:
    """What keeps a matrix from being (normalised) intrinsics, as a sentence's end."""
    if not intrinsics.isfinite().all():
        return "has intrinsics that are not finite"
    if not (intrinsics.diagonal() > 0).all():
        return "has a focal length that is not positive"
    return None


def bounds_fault(near: float | None, far: float | None) -> str | None:
    """What is wrong with near and far, as a sentence's end; they may be unknown."""
    if near is None or far is None:
        return None
    if not 0 < near < far < float("inf"):
        return f"has near {near:g} and far {far:g}, which are not 0 < near < far"
    return None
