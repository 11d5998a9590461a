"""Which rays of several views training or fitting looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import random_pixels
from unseen.geometry.views import Views


@dataclasses.dataclass(frozen=True)
class ChosenRays:
    """Rays (batch, ray), each with the view it comes from.

    `cameras` are (batch, ray), `pixels` flat indices into the views' images and
    `colors` what is seen there.
    """

    cameras: Cameras
    pixels: Int[Tensor, "batch ray"]
    colors: Float[Tensor, "batch ray 3"]


def object_pixels(
    views: Views, background: Float[Tensor, "3"]
) -> Bool[Tensor, "*batch height width"]:
    """Where the views show an object: by their masks, or else by the background.

    A pixel without mask is an object's if any channel differs from the background.
    """
    if views.masks is not None:
        return views.masks > 0
    different = (views.images - background[:, None, None]).abs() > 0.5 / 255
    return different.any(dim=-3)


def without_background(views: Views, background: Float[Tensor, "3"]) -> Views:
    """Views with the object's pixels as they are and all others of one colour.

    Masks are cut at one half; views without masks get those of `object_pixels`, and
    keep their colours. Depths are dropped.
    """
    if views.masks is None:
        masks = object_pixels(views, background).to(views.images)
        return Views(views.images, views.cameras, masks)
    masks = (views.masks >= 0.5).to(views.images)
    kept = masks[..., None, :, :]
    images = views.images * kept + background[:, None, None] * (1 - kept)
    return Views(images, views.cameras, masks)


def choose_rays(
    views: Views,
    count: int,
    box_share: float,
    background: Float[Tensor, "3"],
    generator: torch.Generator,
) -> ChosenRays:
    """`count` random rays of each scene, pooled over its views (batch, view).

    Each ray is of a random view. A share of them, `box_share`, is uniform in the box
    around what the view shows of the object (the whole image where it shows nothing),
    the others in the whole image. Rays may repeat.
    """
    batch, view = views.shape
    height, width = views.size
    device = views.images.device
    draws = torch.rand(4, batch, count, generator=generator).to(device)
    which = (draws[0] * view).long().clamp(max=view - 1)
    found = object_pixels(views, background)
    index = torch.arange(batch, device=device)[:, None]
    top, bottom = _extent(found.any(dim=3))
    left, right = _extent(found.any(dim=2))
    boxed = draws[1] < box_share

    def place(
        draw: Float[Tensor, "batch ray"],
        low: Int[Tensor, "batch view"],
        high: Int[Tensor, "batch view"],
        size: int,
    ) -> Int[Tensor, "batch ray"]:
        low, high = low[index, which], high[index, which]
        low = torch.where(boxed, low, 0)
        high = torch.where(boxed, high, size - 1)
        return torch.minimum(low + (draw * (high - low + 1)).long(), high)

    rows = place(draws[2], top, bottom, height)
    columns = place(draws[3], left, right, width)
    colors = views.images[index, which, :, rows, columns]
    return ChosenRays(views.cameras[index, which], rows * width + columns, colors)


def _extent(
    occupied: Bool[Tensor, "batch view line"],
) -> tuple[Int[Tensor, "batch view"], Int[Tensor, "batch view"]]:
    """First and last occupied line, both included; all of them where none is."""
    occupied = occupied | ~occupied.any(dim=-1, keepdim=True)
    last = occupied.shape[-1] - 1
    first = occupied.int().argmax(dim=-1)
    return first, last - occupied.flip(-1).int().argmax(dim=-1)


def draw_pixels(
    size: tuple[int, int],
    views: int,
    count: int,
    generators: Sequence[torch.Generator],
    device: torch.device | str = "cpu",
) -> Int[Tensor, "batch view ray"]:
    """Random distinct pixels of every view, as flat indices; entry i by generator i.

    All pixels in their order where `count` is 0 or at least their number.
    """
    height, width = size
    if count == 0 or count >= height * width:
        pixels = torch.arange(height * width, device=device)
        return pixels.expand(len(generators), views, -1)
    drawn = [random_pixels(size, views, count, g) for g in generators]
    return torch.stack(drawn).to(device)
