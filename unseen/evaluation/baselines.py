"""Two baselines of novel views that understand nothing.

On centred objects before white even the mean image is not bad. So beside a method
stand the mean of all training images, and the views of the training object that looks
most like the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

Report = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


@dataclasses.dataclass(frozen=True)
class TrainingViews:
    """What the baselines know of the training objects.

    `mean` is the per-pixel mean of all training images; `nearest` says, for every
    input image, which data set and which object of it has the nearest image.
    """

    datasets: Sequence[PosedDataset]
    mean: Float[Tensor, "3 height width"]
    nearest: list[tuple[int, int]]

    def mean_image(self, cameras: Cameras) -> Float[Tensor, "view 3 height width"]:
        """The mean training image, once for every camera (view,)."""
        return self.mean.expand(len(cameras), *self.mean.shape)

    def nearest_object(
        self, number: int, cameras: Cameras
    ) -> Float[Tensor, "view 3 height width"]:
        """What cameras (view,) show of the object that is nearest to input `number`.

        Every camera gets the object's view that looks most its way.
        """
        dataset, index = self.nearest[number]
        views = load_views(self.datasets[dataset], index, self.mean.shape[-1])
        return views.images[nearest_directions(cameras, views.cameras)]


def study_training_views(
    datasets: Sequence[PosedDataset],
    inputs: Float[Tensor, "input 3 height width"],
    report: Report | None = None,
) -> TrainingViews:
    """The mean of all training images, and the nearest object of each input image.

    The nearest image has the least squared difference. Data sets are read once, one
    object at a time.
    """
    flat = inputs.flatten(1).double()
    total, count = torch.zeros_like(flat[0]), 0
    least = torch.full((len(inputs),), torch.inf, dtype=torch.float64)
    nearest = [(0, 0)] * len(inputs)
    members = [
        (n, i) for n, dataset in enumerate(datasets) for i in range(len(dataset))
    ]
    for done, (number, index) in enumerate(members):
        views = load_views(datasets[number], index, inputs.shape[-1])
        images = views.images.flatten(1).double()
        total, count = total + images.sum(dim=0), count + len(images)
        distance = torch.cdist(flat, images).amin(dim=1)
        for i in (distance < least).nonzero()[:, 0].tolist():
            least[i], nearest[i] = distance[i], (number, index)
        if report is not None:
            report(done + 1, len(members))
    mean = (total / count).float().reshape(inputs.shape[1:])
    return TrainingViews(datasets, mean, nearest)


def nearest_directions(wanted: Cameras, among: Cameras) -> Int[Tensor, "wanted"]:
    """For each camera (wanted,), the one of `among` (view,) that looks most its way."""
    forward = wanted.extrinsics[:, :3, 2] @ among.extrinsics[:, :3, 2].T
    return forward.argmax(dim=1)


def load_views(
    dataset: PosedDataset, index: int, side: int, views: list[int] | None = None
) -> Views:
    """Views (view,) of a scene without depths, shrunk to `side`.

    Raises:
        UserError: the images are smaller.
    """
    loaded = dataset.load(index, views)
    if min(loaded.size) < side:
        raise UserError(
            f"{dataset.scene_ids[index]} has images of {loaded.size[0]}x"
            f"{loaded.size[1]} pixels, the model works at {side}: render the data with "
            f"--size {side}."
        )
    return Views(loaded.images, loaded.cameras).shrink((side, side))
