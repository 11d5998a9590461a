"""Posed images: `Views`, and `Example`, the unit of training and evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras


@dataclasses.dataclass(frozen=True)
class Views:
    """Images with their cameras.

    `images` are in [0, 1]; `masks` (1 = object) and `depths` (z in the camera frame,
    world units, 0 where there is no surface) are there where the data knows them.
    """

    images: Float[Tensor, "*batch channel height width"]
    cameras: Cameras
    masks: Float[Tensor, "*batch height width"] | None = None
    depths: Float[Tensor, "*batch height width"] | None = None

    def __post_init__(self) -> None:
        if self.images.shape[:-3] != self.cameras.shape:
            raise ValueError(
                f"images have batch shape {tuple(self.images.shape[:-3])} but cameras "
                f"have {tuple(self.cameras.shape)}: give one camera per image"
            )

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.cameras.shape

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    def _map(self, function: Callable[[Tensor], Tensor], cameras: Cameras) -> Views:
        return Views(
            function(self.images),
            cameras,
            None if self.masks is None else function(self.masks),
            None if self.depths is None else function(self.depths),
        )

    def __getitem__(self, index) -> Views:
        """Index the batch axes, as one would index `cameras.near`."""
        return self._map(lambda x: x[index], self.cameras[index])

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Views:
        return self._map(lambda x: x.to(device), self.cameras.to(device))

    def flatten(self) -> Views:
        """All batch axes as one."""
        return self._map(
            lambda x: x.flatten(0, len(self.shape) - 1), self.cameras.reshape(-1)
        )

    def shrink(self, size: tuple[int, int]) -> Views:
        """Average over pixels, down to (height, width) `size`.

        Cameras stay as they are, being normalised. Depths do not survive: the mean
        of two surfaces is neither.
        """
        if size == self.size:
            return self
        if size[0] > self.size[0] or size[1] > self.size[1]:
            raise ValueError(f"images of {self.size} cannot be shrunk to {size}")

        def area(x: Float[Tensor, "*batch channel height width"]) -> Tensor:
            flat = torch.nn.functional.adaptive_avg_pool2d(x.flatten(0, -4), size)
            return flat.reshape(*x.shape[:-2], *size)

        masks = None if self.masks is None else area(self.masks[..., None, :, :])
        return Views(
            area(self.images),
            self.cameras,
            None if masks is None else masks[..., 0, :, :],
        )

    @staticmethod
    def stack(views: Sequence[Views]) -> Views:
        """Stack along a new first axis."""
        return _join(torch.stack, Cameras.stack, views, 0)

    @staticmethod
    def cat(views: Sequence[Views], dim: int = 0) -> Views:
        """Concatenate along a batch axis (`dim` counts from the front)."""
        return _join(torch.cat, Cameras.cat, views, dim)


def _join(join, join_cameras, views: Sequence[Views], dim: int) -> Views:
    def optional(tensors: list[Tensor | None]) -> Tensor | None:
        present = [x for x in tensors if x is not None]
        return join(present, dim) if len(present) == len(tensors) else None

    return Views(
        join([v.images for v in views], dim),
        join_cameras([v.cameras for v in views], dim),
        optional([v.masks for v in views]),
        optional([v.depths for v in views]),
    )


def pick_views(views: Views, index: Int[Tensor, "batch pick"]) -> Views:
    """Views (batch, pick) with numbers `index` (batch, pick) out of (batch, view)."""
    rows = torch.arange(len(index), device=index.device)[:, None]
    return Views(views.images, views.cameras)[rows, index]


@dataclasses.dataclass(frozen=True)
class Example:
    """Views of one scene (or, batched, of several): what is given, what is asked.

    `objects` says which object of the training data each scene is, counted over all
    data sets: for methods that learn a code per object. None where nobody counted.
    `captions` say in words what each scene is, "" where nobody knows: one per scene, or
    none at all.
    """

    context: Views
    target: Views
    objects: Int[Tensor, "*batch"] | None = None
    captions: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Example:
        objects = None if self.objects is None else self.objects.to(device)
        return Example(
            self.context.to(device), self.target.to(device), objects, self.captions
        )

    @staticmethod
    def stack(examples: Sequence[Example]) -> Example:
        """Collate: (view ...) examples into one (batch view ...) example."""
        objects = [e.objects for e in examples if e.objects is not None]
        return Example(
            Views.stack([e.context for e in examples]),
            Views.stack([e.target for e in examples]),
            torch.stack(objects) if len(objects) == len(examples) else None,
            tuple(caption for e in examples for caption in e.captions),
        )
