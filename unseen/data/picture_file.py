"""Picture files of every kind, decoded to sRGB with alpha."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image, ImageCms, ImageOps

from unseen.errors import UserError

MIN_SIDE = 8
"""Pixels: a shorter side than this holds no object."""
MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""
WORKING_SIDE = 1024
"""Pixels: larger pictures are averaged down to about this before all else."""


def read_picture(path: str | Path) -> Float[ndarray, "height width 4"]:
    """sRGB colour (not premultiplied) and alpha of a picture file, in [0, 1].

    Reads what PIL reads: PNG, JPEG, WebP, TIFF, GIF, BMP and more, in any of its modes
    (16-bit, floating-point, palette, CMYK, ...). EXIF rotation and embedded colour
    profiles are respected; of an animation the first frame is taken. Large pictures are
    averaged down until their longer side is below 2048 pixels.

    Raises UserError for a file that is missing, is no picture, is broken, has a side
    under 8 pixels or more than 100 million pixels in all.
    """
    return _to_array(_open(Path(path)))


def _open(path: Path) -> Image.Image:
    """Decode a picture, upright, in its own mode; refuse what cannot be used."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a picture file.")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: name a picture file.") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path} cannot be read: {reason}.") from error
    try:
        with warnings.catch_warnings():
            # PIL warns of large pictures; the limit below is ours.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(path, "far more")) from error
    except Exception as error:
        raise UserError(
            f"{path} is not a picture in a format that can be read: give a PNG, JPEG "
            "or WebP file."
        ) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(_too_large(path, f"{width} x {height} pixels, more"))
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{path} has only {width} x {height} pixels: give a picture of at least "
            f"{MIN_SIDE} x {MIN_SIDE}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # JPEG can decode at a fraction of its size, which saves time and memory.
            image.draft(None, (WORKING_SIDE, WORKING_SIDE))
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:
        # Decoders of broken data raise nearly anything.
        raise UserError(
            f"{path} is broken or was cut short: give a whole picture file."
        ) from error


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path} has {size} than the {MAX_PIXELS // 10**6} million pixels that are "
        "read: give a smaller picture."
    )


def _to_array(image: Image.Image) -> Float[ndarray, "height width 4"]:
    """sRGB colour and alpha in [0, 1], not premultiplied."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    image = _to_srgb(image)
    image = image.convert("RGBA")
    # `reduce` averages premultiplied colour.
    factor = max(image.size) // WORKING_SIDE
    if factor > 1:
        image = image.reduce(factor)
    return np.asarray(image, dtype=np.float32) / 255


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point grey, which PIL would merely clip."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:
        # These modes do not say what white is: the smallest usual range that fits.
        white = next((w for w in (1.0, 255.0, 65535.0) if values.max() <= w), 2.0**31)
    scaled = (values / white).clip(0, 1) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply the embedded colour profile, if there is one that fits."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A broken profile is no reason to refuse the picture.
        return image
    return image if converted is None else converted
