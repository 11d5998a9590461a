"""Observations of held-out objects, and what is refused to be measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.analytic_scene import BallScene, ball
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.data.srn_layout import SRNDataset
from unseen.errors import UserError
from unseen.evaluation.held_out import PosteriorSettings, Subject, observe
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod

SIZE = 16
PROTOCOL = PosteriorSettings(objects=2, samples=3, views=2)


class Balls(SceneMethod):
    """Scenes that show their seed."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[list[int]] = []
        self.contexts: list[Views] = []
        self.options: list[SampleOptions | None] = []

    def loss(self, example, generator):
        raise AssertionError("evaluation does not train")

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        self.seeds.append(list(seeds))
        self.contexts.append(context)
        self.options.append(options)
        return [ball(seed / 2**63, radius=0.3) for seed in seeds]


def mean_ball(context: Views) -> list[BallScene]:
    assert context.shape == (1, 1)
    return [ball(0.0, radius=0.6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("held-out")
    settings = ProceduralSettings(views=4, size=SIZE, supersample=1)
    write_procedural(root, 24, settings)
    return root


def subject(method: SceneMethod, size: int = SIZE) -> Subject:
    return Subject(method, mean_ball, size, SampleOptions(num_steps=7))


def test_one_observation_per_object(data: Path) -> None:
    dataset, method = SRNDataset(data, "test"), Balls()
    reports: list[tuple[int, int]] = []
    found = list(
        observe(
            subject(method), [dataset], PROTOCOL, lambda *done: reports.append(done)
        )
    )
    assert reports == [(1, 2), (2, 2)] and len(found) == 2
    for index, observation in enumerate(found):
        views = dataset.load(index)
        assert torch.equal(observation.given.images, views.images[:1])
        assert torch.equal(observation.novel.images, views.images[1:3])
        assert observation.inputs.shape == (3, 3, SIZE, SIZE)
        assert observation.samples.shape == (3, 2, 3, SIZE, SIZE)
        cameras, size = views.cameras[:3], views.size
        for sample, seed in enumerate(method.seeds[index]):
            shown = ball(seed / 2**63, radius=0.3).render(cameras, size).color
            assert torch.equal(observation.inputs[sample], shown[0])
            assert torch.equal(observation.samples[sample], shown[1:])
        mean = ball(0.0, radius=0.6).render(cameras, size).color
        assert torch.equal(observation.mean_input, mean[0])
        assert torch.equal(observation.mean, mean[1:])


def test_the_method_sees_the_input_image_and_nothing_else(data: Path) -> None:
    method = Balls()
    list(observe(subject(method), [SRNDataset(data, "test")], PROTOCOL))
    for context in method.contexts:
        assert context.shape == (3, 1)
        assert context.depths is None and context.masks is None
    assert method.options == [SampleOptions(num_steps=7)] * 2


def test_seeds_are_repeatable_and_differ_everywhere(data: Path) -> None:
    dataset = SRNDataset(data, "test")

    def seeds(seed: int) -> list[int]:
        method = Balls()
        protocol = dataclasses.replace(PROTOCOL, seed=seed)
        list(observe(subject(method), [dataset], protocol))
        return [s for row in method.seeds for s in row]

    assert seeds(0) == seeds(0)
    assert len({*seeds(0), *seeds(1)}) == 2 * 2 * 3


def without_depths(data: Path, folder: Path) -> SRNDataset:
    return SRNDataset(data, "test", depths=False)


def of_few_views(data: Path, folder: Path) -> SRNDataset:
    settings = ProceduralSettings(views=2, size=SIZE, supersample=1)
    write_procedural(folder, 12, settings)
    return SRNDataset(folder, "test")


@pytest.mark.parametrize(
    "make, size, reason",
    [
        (without_depths, SIZE, "without --no-depth"),
        (of_few_views, SIZE, "has 2 views, the protocol needs 3"),
        (
            lambda data, _: SRNDataset(data, "test"),
            32,
            "render the data with --size 32",
        ),
    ],
)
def test_data_that_cannot_be_measured(
    data: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], SRNDataset],
    size: int,
    reason: str,
) -> None:
    method = Balls()
    with pytest.raises(UserError, match=reason):
        list(observe(subject(method, size), [make(data, tmp_path)], PROTOCOL))
    assert method.seeds == []


@pytest.mark.parametrize("wrong", [{"objects": 0}, {"samples": 1}, {"views": 0}])
def test_a_protocol_that_measures_nothing(wrong: dict) -> None:
    with pytest.raises(UserError, match="takes at least"):
        dataclasses.replace(PROTOCOL, **wrong)
