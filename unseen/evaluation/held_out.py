"""Sample scenes of objects that were never trained on, and render them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch

from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.posterior import Observation
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class Protocol:
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
    protocol: Protocol,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Observation]:
    """One `Observation` per object, in the order of the data sets.

    Raises:
        UserError: a data set has too few views, no depths, or images of another size
            than the method's.
    """
    picked = [
        (dataset, index)
        for dataset in datasets
        for index in range(min(protocol.objects, len(dataset)))
    ]
    # Noise of its own for every object, or the samples would be alike in it.
    generator = torch.Generator().manual_seed(protocol.seed)
    for done, (dataset, index) in enumerate(picked):
        if dataset.num_views(index) < protocol.views + 1:
            raise UserError(
                f"{dataset.scene_ids[index]} has {dataset.num_views(index)} views, "
                f"the protocol needs {protocol.views + 1}: ask for fewer with --views."
            )
        views = dataset.load(index, list(range(protocol.views + 1)))
        if views.depths is None:
            raise UserError(
                f"{dataset.scene_ids[index]} has no depth maps, which tell seen "
                "pixels from unseen ones: render the data without --no-depth."
            )
        if views.size != (subject.image_size,) * 2:
            raise UserError(
                f"{dataset.scene_ids[index]} has images of "
                f"{views.size[0]}x{views.size[1]} pixels, the model works at "
                f"{subject.image_size}: render the data with --size "
                f"{subject.image_size}."
            )
        seeds = torch.randint(2**62, (protocol.samples,), generator=generator)
        yield _observe(subject, views, seeds.tolist())
        if progress is not None:
            progress(done + 1, len(picked))


@torch.no_grad()
def _observe(subject: Subject, views: Views, seeds: list[int]) -> Observation:
    given, novel = views[:1], views[1:]
    context = Views(given.images[None], given.cameras.reshape(1, 1))
    repeated = Views.cat([context] * len(seeds))
    scenes = subject.method.sample_scene(repeated, seeds, options=subject.options)
    cameras = views.cameras
    sampled = torch.stack(
        [scenes[i].render(cameras, views.size).color for i in range(len(seeds))]
    )
    mean = subject.reconstruct(context)[0].render(cameras, views.size).color
    return Observation(given, novel, sampled[:, 0], sampled[:, 1:], mean[0], mean[1:])
