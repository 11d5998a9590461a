"""Images of any shape and size, framed as methods take them: square, of one side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unseen.data.dataset import PosedDataset, Problem
from unseen.data.resampling import resample
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views


def frame_views(views: Views, side: int) -> Views:
    """The largest square in the middle of each image (view,), `side` pixels wide.

    Colours and masks are averaged over areas. A depth is that of the pixel in which
    the new pixel's centre lies: the mean of two surfaces is neither. Intrinsics are
    normalised by the square. Nothing is enlarged: raises UserError for smaller images.
    """
    height, width = views.size
    if min(height, width) < side:
        raise UserError(
            f"the data has images of {height}x{width} pixels, and {side}x{side} are "
            f"wanted: render or take them larger."
        )
    if (height, width) == (side, side):
        return views
    masks, depths = views.masks, views.depths
    return Views(
        _shrink(views.images, side).clamp(0, 1),
        dataclasses.replace(
            views.cameras,
            intrinsics=square_intrinsics(views.cameras.intrinsics, height, width),
        ),
        None if masks is None else _shrink(masks[:, None], side)[:, 0].clamp(0, 1),
        None if depths is None else _pick(depths, side),
    )


def square_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], height: int, width: int
) -> Float[Tensor, "*batch 3 3"]:
    """Normalised intrinsics of the largest square in the middle of an image."""
    side = min(height, width)
    rows = []
    for row, length in enumerate((width, height)):
        scaled = intrinsics[..., row, :] * (length / side)
        shift = torch.tensor([0.0, 0.0, 0.5 * (length - side) / side]).to(scaled)
        rows.append(scaled - shift)
    return torch.stack([*rows, intrinsics[..., 2, :]], dim=-2)


def _shrink(
    images: Float[Tensor, "view channel height width"], side: int
) -> Float[Tensor, "view channel side side"]:
    height, width = images.shape[-2:]
    step = min(height, width) / side
    center = (height / 2, width / 2)
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    return torch.stack([resample(a, center, step, (side, side)) for a in arrays])


def _pick(
    depths: Float[Tensor, "view height width"], side: int
) -> Float[Tensor, "view side side"]:
    height, width = depths.shape[-2:]
    step = min(height, width) / side
    offsets = (torch.arange(side) + 0.5 - side / 2) * step
    rows, columns = ((offsets + n / 2).floor().long() for n in (height, width))
    return depths[:, rows[:, None], columns[None, :]]


@dataclasses.dataclass(frozen=True)
class _PackedView:
    """A framed view in as little memory as it takes: colours in 8 bits."""

    image: UInt8[Tensor, "3 height width"]
    mask: UInt8[Tensor, "height width"] | None
    depth: Float[Tensor, "height width"] | None
    camera: Cameras

    def unpack(self) -> Views:
        mask = None if self.mask is None else self.mask.float() / 255
        return Views(self.image.float() / 255, self.camera, mask, self.depth)


def _pack(view: Views) -> _PackedView:
    mask = None if view.masks is None else (view.masks * 255).round().to(torch.uint8)
    image = (view.images * 255).round().to(torch.uint8)
    return _PackedView(image, mask, view.depths, view.cameras)


class FramedDataset(PosedDataset):
    """A data set seen through `frame_views`, a view at a time.

    Colours and masks are rounded to 8 bits, with `cache`, which keeps every framed
    view that was read in memory, and without it. Images of a scene may differ in size.
    """

    def __init__(self, dataset: PosedDataset, side: int, cache: bool = False) -> None:
        self._dataset, self._side = dataset, side
        self._cache: dict[tuple[int, int], _PackedView] | None = {} if cache else None
        self.root: Path = dataset.root

    @property
    def scene_ids(self) -> list[str]:
        """Those of the data set."""
        return self._dataset.scene_ids

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those of the data set."""
        return self._dataset.problems

    @property
    def runs(self) -> Sequence[int]:
        """Those of the data set."""
        return self._dataset.runs

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the data set."""
        return self._dataset.notes

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._dataset)

    def caption(self, index: int) -> str:
        return self._dataset.caption(index)

    def num_views(self, index: int) -> int:
        """How many usable views the scene has."""
        return self._dataset.num_views(index)

    def frame_numbers(self, index: int) -> Sequence[int]:
        """Those of the data set."""
        return self._dataset.frame_numbers(index)

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        """Square views (view,) of the scene with this index; all of them by default.

        Raises:
            UserError: an image cannot be read, or is smaller than the side.
        """
        if view_indices is None:
            view_indices = list(range(self.num_views(index)))
        return Views.stack([self._read(index, v).unpack() for v in view_indices])

    def _read(self, index: int, view: int) -> _PackedView:
        if self._cache is not None and (index, view) in self._cache:
            return self._cache[index, view]
        packed = _pack(frame_views(self._dataset.load(index, [view]), self._side)[0])
        if self._cache is not None:
            self._cache[index, view] = packed
        return packed
