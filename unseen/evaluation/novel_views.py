"""How well novel views of held-out objects are reconstructed from one image.

The protocol of ShapeNet-SRN (Sitzmann et al., 2019): one fixed view is given, all other
views of the object are asked for; PSNR and SSIM are averaged over an object's views and
then over objects. Two baselines that understand nothing stand beside the method,
because on centred objects before white even the mean image is not bad: the mean of all
training images, and the views of the training object that looks most like the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.metrics import psnr, ssim
from unseen.geometry.cameras import Cameras
from unseen.geometry.check import check_cameras, check_views
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.scenes.scene import Scene

INPUT_VIEW = 64
"""The view that is given where objects have that many: the convention for the spiral
of 251 test views."""

VIEWS_AT_ONCE = 16
"""Cameras per call of the renderer, which bounds the memory."""

Report = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


@dataclasses.dataclass(frozen=True)
class Quality:
    """Means over views; `psnr` in dB, `ssim` at most 1."""

    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True)
class NovelNumbers:
    """The method and the baselines: of one object, or averages over objects."""

    objects: int
    views: int
    method: Quality
    mean_image: Quality
    nearest_view: Quality


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """An object that is measured: where it lies, and its input image."""

    dataset: PosedDataset
    index: int
    image: Float[Tensor, "3 height width"]

    def load(self, side: int) -> tuple[Views, Views]:
        """The input view (1,) and the views that are asked for (view,)."""
        views = _load(self.dataset, self.index, side)
        given = input_view(len(views))
        rest = [i for i in range(len(views)) if i != given]
        return views[given : given + 1], views[rest]


@dataclasses.dataclass(frozen=True)
class TrainingViews:
    """What the baselines know of the training objects.

    `mean` is the per-pixel mean of all training images; `nearest` says, for every
    input image, which data set and which object of it has the nearest image.
    """

    datasets: Sequence[PosedDataset]
    mean: Float[Tensor, "3 height width"]
    nearest: list[tuple[int, int]]

    def nearest_views(self, number: int, side: int) -> Views:
        """All views (view,) of the object that is nearest to input `number`."""
        dataset, index = self.nearest[number]
        return _load(self.datasets[dataset], index, side)


def input_view(count: int) -> int:
    """Which of an object's `count` views is given."""
    return INPUT_VIEW if count > INPUT_VIEW else 0


def find_objects(
    datasets: Sequence[PosedDataset], objects: int, side: int
) -> list[HeldOut]:
    """The first `objects` of each data set by name, with their input images.

    Raises:
        UserError: an object has a single view, or images smaller than `side`.
    """
    found = []
    for dataset in datasets:
        for index in range(min(objects, len(dataset))):
            count = dataset.num_views(index)
            if count < 2:
                raise UserError(
                    f"{dataset.scene_ids[index]} has one view: nothing is left to "
                    "compare novel views with."
                )
            given = _load(dataset, index, side, [input_view(count)])
            found.append(HeldOut(dataset, index, given.images[0]))
    return found


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
        views = _load(datasets[number], index, inputs.shape[-1])
        images = views.images.flatten(1).double()
        total, count = total + images.sum(dim=0), count + len(images)
        distance = torch.cdist(flat, images).amin(dim=1)
        for i in (distance < least).nonzero()[:, 0].tolist():
            least[i], nearest[i] = distance[i], (number, index)
        if report is not None:
            report(done + 1, len(members))
    mean = (total / count).float().reshape(inputs.shape[1:])
    return TrainingViews(datasets, mean, nearest)


def measure_objects(
    method: SceneMethod,
    held_out: Sequence[HeldOut],
    training: TrainingViews,
    options: SampleOptions,
    seed: int = 0,
) -> Iterator[NovelNumbers]:
    """The numbers of one object after the other; `training` knows their inputs.

    A method that samples gives one scene per object, with a seed of its own.
    """
    side = held_out[0].image.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    device = next(method.parameters()).device
    for number, item in enumerate(held_out):
        given, novel = item.load(side)
        check_views(given, method.max_context)
        check_cameras(novel.cameras, "held-out view")
        context = Views(given.images[None], given.cameras[None]).to(device)
        seeds = torch.randint(2**62, (1,), generator=generator).tolist()
        cameras = novel.cameras.to(device)
        with torch.no_grad():
            scene = method.sample_scene(context, seeds, cameras[None], options)[0]
            shown = render_views(scene, cameras, novel.size).cpu()
        nearest = training.nearest_views(number, side)
        chosen = nearest_directions(novel.cameras, nearest.cameras)
        yield NovelNumbers(
            objects=1,
            views=len(novel),
            method=quality(shown, novel.images),
            mean_image=quality(training.mean.expand_as(novel.images), novel.images),
            nearest_view=quality(nearest.images[chosen], novel.images),
        )


def average(numbers: Sequence[NovelNumbers]) -> NovelNumbers:
    """The mean over objects, every object counting the same."""

    def mean(name: str) -> Quality:
        parts = [getattr(n, name) for n in numbers]
        return Quality(
            sum(q.psnr for q in parts) / len(parts),
            sum(q.ssim for q in parts) / len(parts),
        )

    return NovelNumbers(
        objects=sum(n.objects for n in numbers),
        views=sum(n.views for n in numbers),
        method=mean("method"),
        mean_image=mean("mean_image"),
        nearest_view=mean("nearest_view"),
    )


def quality(
    images: Float[Tensor, "view 3 height width"],
    truth: Float[Tensor, "view 3 height width"],
) -> Quality:
    """PSNR and SSIM of each view, averaged over views; colours are clipped first."""
    images = images.clamp(0, 1)
    return Quality(float(psnr(images, truth).mean()), float(ssim(images, truth).mean()))


def render_views(
    scene: Scene, cameras: Cameras, size: tuple[int, int]
) -> Float[Tensor, "view 3 height width"]:
    """One scene at cameras (view,), a few at a time."""
    parts = [
        scene.render(cameras[start : start + VIEWS_AT_ONCE], size).color
        for start in range(0, len(cameras), VIEWS_AT_ONCE)
    ]
    return torch.cat(parts)


def nearest_directions(wanted: Cameras, among: Cameras) -> Int[Tensor, "wanted"]:
    """For each camera (wanted,), the one of `among` (view,) that looks most its way."""
    forward = wanted.extrinsics[:, :3, 2] @ among.extrinsics[:, :3, 2].T
    return forward.argmax(dim=1)


def _load(
    dataset: PosedDataset, index: int, side: int, views: list[int] | None = None
) -> Views:
    """Views (view,) of an object without depths, shrunk to `side`."""
    loaded = dataset.load(index, views)
    if min(loaded.size) < side:
        raise UserError(
            f"{dataset.scene_ids[index]} has images of {loaded.size[0]}x"
            f"{loaded.size[1]} pixels, the model works at {side}: render the data with "
            f"--size {side}."
        )
    return Views(loaded.images, loaded.cameras).shrink((side, side))
