"""Sample scenes of objects that were never trained on, and render them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator

import torch

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.posterior import Observation
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class PosteriorSettings:
    """Which objects and views, and how many samples.

    Raises:
        UserError: too few to measure anything.
    """

    objects: int = 32
    """Objects of each data set's test split: the first by name."""
    samples: int = 8
    """Scenes per object."""
    views: int = 8
    """Held-out views per object: those after the first, which is the input."""
    seed: int = 0
    """Other seeds give other samples."""

    def __post_init__(self) -> None:
        if min(self.objects, self.views) < 1 or self.samples < 2:
            raise UserError(
                "measuring a posterior takes at least one object, one held-out view "
                f"and two samples, not {self.objects}, {self.views} and {self.samples}."
            )


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a method, and the deterministic baseline beside it."""

    method: SceneMethod
    reconstruct: Callable[[Views], Scene]
    """Context views (batch, view) to scenes (batch,)."""
    image_size: int
    options: SampleOptions


def observe(
    subject: Subject,
    datasets: list[PosedDataset],
    settings: PosteriorSettings,
    progress: Callable[[int, int], None] | None = None,
    done: Collection[str] = (),
) -> Iterator[Observation]:
    """One `Observation` per object that is not `done`, in the order of the data sets.

    The samples of an object do not depend on which others are done.

    Raises:
        UserError: a data set has too few views, no depths, or images of another size
            than the method's.
    """
    picked = [
        (dataset, index)
        for dataset in datasets
        for index in range(min(settings.objects, len(dataset)))
    ]
    # Noise of its own for every object, or the samples would be alike in it.
    generator = torch.Generator().manual_seed(settings.seed)
    for number, (dataset, index) in enumerate(picked):
        seeds = torch.randint(2**62, (settings.samples,), generator=generator)
        scene = dataset.scene_ids[index]
        if scene not in done:
            views = _load(subject, dataset, index, settings.views + 1)
            yield _observe(subject, views, seeds.tolist(), scene)
        if progress is not None:
            progress(number + 1, len(picked))


def _load(subject: Subject, dataset: PosedDataset, index: int, count: int) -> Views:
    """The first `count` views: the input and the held-out ones."""
    scene = dataset.scene_ids[index]
    if dataset.num_views(index) < count:
        raise UserError(
            f"{scene} has {dataset.num_views(index)} views, the protocol needs "
            f"{count}: ask for fewer with --views."
        )
    views = dataset.load(index, list(range(count)))
    if views.depths is None:
        raise UserError(
            f"{scene} has no depth maps, which tell seen pixels from unseen ones: "
            "render the data without --no-depth."
        )
    if views.size != (subject.image_size,) * 2:
        raise UserError(
            f"{scene} has images of {views.size[0]}x{views.size[1]} pixels, the model "
            f"works at {subject.image_size}: render the data with --size "
            f"{subject.image_size}."
        )
    return views


@torch.no_grad()
def _observe(
    subject: Subject, views: Views, seeds: list[int], scene: str
) -> Observation:
    started = time.perf_counter()
    given, novel = views[:1], views[1:]
    device = next(subject.method.parameters(), torch.empty(0)).device
    context = Views(given.images[None], given.cameras.reshape(1, 1)).to(device)
    repeated = Views.cat([context] * len(seeds))
    scenes = subject.method.sample_scene(repeated, seeds, options=subject.options)
    cameras = views.cameras.to(device)
    sampled = torch.stack(
        [scenes[i].render(cameras, views.size).color for i in range(len(seeds))]
    ).cpu()
    mean = subject.reconstruct(context)[0].render(cameras, views.size).color.cpu()
    return Observation(
        given,
        novel,
        inputs=sampled[:, 0],
        samples=sampled[:, 1:],
        mean_input=mean[0],
        mean=mean[1:],
        scene=scene,
        seconds=time.perf_counter() - started,
    )
