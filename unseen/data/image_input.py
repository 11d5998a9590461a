"""A person's picture of an object, made into the image that the models expect."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage
from torch import Tensor

from unseen.data.picture_file import read_picture
from unseen.data.resampling import resample
from unseen.errors import UserError


class PictureWarning(UserWarning):
    """A picture can be used, but perhaps not as its owner means it."""


@dataclasses.dataclass(frozen=True)
class PictureFrame:
    """The part of a picture that is used: its middle (row, column) and the side of
    a pixel of the result, in pixels of the picture, whose (height, width) is `size`."""

    center: tuple[float, float]
    step: float
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ObjectImage:
    """An object on white, in [0, 1], and its soft mask (1 = object).

    The mask is 1 everywhere if the picture's background could not be told from the
    object and the picture was therefore used as it is. `frame` is the part of the
    picture that is shown.
    """

    image: Float[Tensor, "3 height width"]
    mask: Float[Tensor, "height width"]
    frame: PictureFrame


def load_object_image(
    path: str | Path, size: int | tuple[int, int], fill: float = 0.78
) -> ObjectImage:
    """Read any picture of an object and frame the object as in training.

    Transparency, or else a plain background (one colour, up to noise, along the
    picture's border), tells the object from the background. The object's bounding box
    is centred, its longer side is scaled to the share `fill` of the shorter side of
    `size` (pixels; height and width, or one number), and the background becomes white.
    A picture without transparency or plain background is used as it is, cut to the
    frame's shape around its centre; a `PictureWarning` says so. EXIF rotation and
    embedded colour profiles are respected; of an animation the first frame is taken.

    Raises UserError for a file that is missing, is no picture, is broken, has a side
    under 8 pixels or more than 100 million pixels in all, or shows no object.
    """
    frame = (size, size) if isinstance(size, int) else size
    if min(frame) < 1 or not 0 < fill <= 1:
        raise ValueError(f"size must be positive and fill in (0, 1]: {size}, {fill}")
    pixels = read_picture(path)
    color, alpha = pixels[..., :3], pixels[..., 3]
    if alpha.max() < 0.05:
        raise UserError(f"{path} is fully transparent: give a picture of an object.")
    # A few transparent pixels (rounded corners, say) do not cut an object out.
    if (alpha < 0.5).mean() < 0.01:
        color, alpha = _over_white(color, alpha), None
        if np.ptp(color.reshape(-1, 3), axis=0).max() < 0.04:
            raise UserError(
                f"{path} is all one colour: give a picture in which an object stands "
                "out from its background."
            )
        separated = _separate(color)
        if separated is None:
            return _as_it_is(path, color, frame)
        color, alpha = separated
    box = _bounding_box(alpha)
    if box is None:
        raise UserError(
            f"no object stands out from the background of {path}: give a picture of "
            "one object, with a transparent or a plain background."
        )
    return _frame_object(color, alpha, box, frame, fill)


def _over_white(
    color: Float[ndarray, "height width 3"], alpha: Float[ndarray, "height width"]
) -> Float[ndarray, "height width 3"]:
    return color * alpha[..., None] + (1 - alpha[..., None])


def _separate(
    color: Float[ndarray, "height width 3"],
) -> tuple[Float[ndarray, "height width 3"], Float[ndarray, "height width"]] | None:
    """Object colour and alpha if the background is plain, else None."""
    border = np.concatenate([color[0], color[-1], color[1:-1, 0], color[1:-1, -1]])
    background = np.median(border, axis=0)
    # The object may touch up to a quarter of the border.
    spread = np.quantile(np.abs(border - background).max(axis=-1), 0.75)
    if spread > 0.05:
        return None
    tolerance = float(np.clip(3 * spread, 0.04, 0.15))
    near = np.abs(color - background).max(axis=-1) < tolerance
    outside = _connected_to_border(near)
    return _matte(color, background, outside)


def _connected_to_border(
    region: Bool[ndarray, "height width"],
) -> Bool[ndarray, "height width"]:
    """The parts of `region` that reach the border (a flood fill from there)."""
    labels, _ = ndimage.label(region)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.unique(edges)
    return np.isin(labels, touching[touching > 0])


def _matte(
    color: Float[ndarray, "height width 3"],
    background: Float[ndarray, "3"],
    outside: Bool[ndarray, "height width"],
) -> tuple[Float[ndarray, "height width 3"], Float[ndarray, "height width"]]:
    """Un-mix the edge pixels, in which object and background share a pixel.

    An edge pixel is C = a F + (1 - a) B, where F is taken from the nearest pixel that
    is surely the object's; a is solved for by least squares. Without this, an object
    on blue would keep a blue fringe on white.
    """
    inside = ndimage.binary_erosion(~outside, iterations=2, border_value=1)
    alpha = (~outside).astype(np.float32)
    if not inside.any():
        return color, alpha
    edge = ~inside & ~outside
    nearest = ndimage.distance_transform_edt(
        ~inside, return_distances=False, return_indices=True
    )
    foreground = color[nearest[0], nearest[1]]
    difference = foreground - background
    mixed = ((color - background) * difference).sum(-1)
    solved = (mixed / ((difference**2).sum(-1) + 1e-4)).clip(0, 1)
    # A thin part of its own colour is not a mixture: keep what does not fit the line.
    residual = np.abs(background + solved[..., None] * difference - color).max(axis=-1)
    edge &= residual < 0.1
    alpha = np.where(edge, solved, alpha).astype(np.float32)
    return np.where(edge[..., None], foreground, color), alpha


def _bounding_box(
    alpha: Float[ndarray, "height width"],
) -> tuple[int, int, int, int] | None:
    """Rows and columns (top, bottom, left, right) of the object, specks left out."""
    labels, count = ndimage.label(alpha > 0.5 * alpha.max(), np.ones((3, 3)))
    if count == 0:
        return None
    areas = np.bincount(labels.ravel())[1:]
    # Dust and watermarks must not move the frame.
    kept = [
        part
        for part, area in zip(ndimage.find_objects(labels), areas, strict=True)
        if part is not None and area >= 0.005 * areas.max()
    ]
    top, left = (min(part[axis].start for part in kept) for axis in (0, 1))
    bottom, right = (max(part[axis].stop for part in kept) for axis in (0, 1))
    empty = areas.max() < 4 or alpha.max() < 0.05
    return None if empty else (top, bottom, left, right)


def _frame_object(
    color: Float[ndarray, "height width 3"],
    alpha: Float[ndarray, "height width"],
    box: tuple[int, int, int, int],
    frame: tuple[int, int],
    fill: float,
) -> ObjectImage:
    top, bottom, left, right = box
    step = max(bottom - top, right - left) / (fill * min(frame))
    premultiplied = np.concatenate([color * alpha[..., None], alpha[..., None]], -1)
    center = (0.5 * (top + bottom), 0.5 * (left + right))
    found = resample(premultiplied, center, step, frame)
    mask = found[3].clamp(0, 1)
    used = PictureFrame(center, step, (color.shape[0], color.shape[1]))
    return ObjectImage((found[:3] + (1 - mask)).clamp(0, 1), mask, used)


def _as_it_is(
    path: str | Path, color: Float[ndarray, "height width 3"], frame: tuple[int, int]
) -> ObjectImage:
    warnings.warn(
        f"the background of {path} is neither transparent nor plain: the picture is "
        "used as it is, so the object should fill about 80 percent of its middle.",
        PictureWarning,
        stacklevel=3,
    )
    height, width = color.shape[:2]
    step = min(height / frame[0], width / frame[1])
    padded = np.concatenate([color, np.ones_like(color[..., :1])], -1)
    used = PictureFrame((height / 2, width / 2), step, (height, width))
    found = resample(padded, used.center, step, frame)
    # Enlarging mixes the outermost pixels with the nothing beyond: divide it out.
    image = found[:3] / found[3].clamp(min=1e-6)
    return ObjectImage(image.clamp(0, 1), torch.ones(frame), used)


def load_hidden_part(
    path: str | Path, hidden: str | Path, size: int
) -> Bool[Tensor, "size size"]:
    """Which pixels of `load_object_image(path, size)` a second picture hides.

    The picture `hidden` is white where the first one is unknown, and black (or
    transparent) elsewhere; a pixel that is unknown in part is hidden.

    Raises:
        UserError: as for `load_object_image`; or the pictures differ in shape, or
            nothing or all of the object is hidden.
    """
    shown = load_object_image(path, size)
    frame = shown.frame
    pixels = read_picture(hidden)
    if pixels.shape[:2] != frame.size:
        height, width = pixels.shape[:2]
        raise UserError(
            f"{hidden} has {width} x {height} pixels and {path} has {frame.size[1]} x "
            f"{frame.size[0]}: hide parts of a picture with one of the same shape."
        )
    white = pixels[..., :3].mean(axis=-1, keepdims=True) * pixels[..., 3:]
    part = resample(white, frame.center, frame.step, (size, size))[0] > 0.05
    of_object = shown.mask > 0.5
    if part[of_object].all() or not part.any():
        what = "all" if part.any() else "nothing"
        raise UserError(
            f"{hidden} hides {what} of the object: paint white what is unknown, and "
            "the rest black."
        )
    return part
