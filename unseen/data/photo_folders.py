"""Folders of photographs as people lay them out: images or images_4, and masks."""

from __future__ import annotations

import re
from pathlib import Path

from unseen.data.folders import list_folders
from unseen.errors import UserError

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def largest_folder(place: Path, name: str) -> Path:
    """`name`, or else the folder `name`_N with the smallest N.

    Raises:
        UserError: there is neither.
    """
    if (place / name).is_dir():
        return place / name
    factors = {
        int(found[1]): folder
        for folder in list_folders(place)
        if (found := re.fullmatch(rf"{name}_(\d+)", folder.name))
    }
    if not factors:
        raise UserError(f"{place} has no folder {name}, nor {name}_2, {name}_4, ...")
    return factors[min(factors)]


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")
    )


def find_masks(place: Path, folder: Path, images: list[Path]) -> list[Path | None]:
    """The mask of each image, from the folder of masks that goes with `folder`.

    A mask is named like its image (of whatever ending), perhaps with "_mask" behind,
    or, as COLMAP has it, with the image's whole name and ".png".
    """
    masks = place / folder.name.replace("images", "masks", 1)
    if masks == folder or not masks.is_dir():
        return [None] * len(images)
    by_name = {
        path.relative_to(masks).with_suffix("").as_posix().removesuffix("_mask"): path
        for path in masks.rglob("*")
        if path.suffix.lower() in IMAGE_ENDINGS
    }
    names = [image.relative_to(folder) for image in images]
    return [
        by_name.get(name.with_suffix("").as_posix()) or by_name.get(name.as_posix())
        for name in names
    ]
