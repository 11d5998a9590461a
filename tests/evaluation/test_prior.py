"""Models of objects themselves, measured on balls whose distances are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tests.analytic_scene import BallScene, ball
from tests.evaluation.made_up import InMemory
from tests.evaluation.test_point_sets import ball_views, sphere
from unseen.errors import UserError
from unseen.evaluation.journal import Journal
from unseen.evaluation.novel_views import Candidate
from unseen.evaluation.prior import (
    PriorPlan,
    collect_prior,
    held_out_nearest,
    measure_prior,
    training_as_samples,
)
from unseen.evaluation.prior_objects import (
    KnownObjects,
    PriorSettings,
    study_objects,
)
from unseen.evaluation.prior_tables import nearest_table, prior_notes, prior_table
from unseen.evaluation.scores import standard_metrics
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.scenes.scene import Scene

SIZE = 16
HELD_OUT = (0.3, 0.45, 0.6, 0.75)
TRAINING = (0.35, 0.5, 0.7)
SETTINGS = PriorSettings(samples=4, views=2, points=1500)


class Balls(SceneMethod):
    """Samples balls of given radii one after another; 0 is an empty scene."""

    min_context: ClassVar[int] = 0

    def __init__(self, *radii: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.radii, self.asked = list(radii), 0
        self.cameras = []

    def loss(self, example, generator):
        raise AssertionError("evaluation does not train")

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        assert context.images.shape == (1, 0, 3, SIZE, SIZE)
        self.cameras.append(cameras)
        radius = self.radii[self.asked % len(self.radii)]
        self.asked += 1
        return [ball(radius=radius, num_samples=64)]  # type: ignore[arg-type]


def surface(scene: Scene, count: int, generator: torch.Generator) -> Tensor:
    assert isinstance(scene, BallScene)
    if scene.radius == 0:
        raise UserError("the scene is empty: it has no surface.")
    return sphere(float(scene.radius), count, int(generator.initial_seed() % 1000))


def shown(radius: float) -> Views:
    """What depth maps and pictures of a ball show."""
    views = ball_views(radius, 40, SIZE)
    color = ball(radius=radius, num_samples=64).render(views.cameras, (SIZE, SIZE))
    return dataclasses.replace(views, images=color.color)


def study(radii: tuple[float, ...]) -> KnownObjects:
    data = InMemory({f"ball {radius}": shown(radius) for radius in radii})
    return study_objects(data, None, SIZE, SETTINGS)


@pytest.fixture(scope="module")
def known() -> tuple[KnownObjects, KnownObjects]:
    return study(HELD_OUT), study(TRAINING)


@pytest.fixture
def plan(known) -> PriorPlan:
    return PriorPlan("balls", *known, SETTINGS, standard_metrics(), surface, 2)


def measure(plan: PriorPlan, folder: Path, *radii: float) -> tuple[dict, Journal]:
    method = Balls(*radii)
    journal = Journal(folder, {"radii": radii})
    candidate = Candidate("mine", method, SIZE, SampleOptions())
    steps: list[tuple[int, int]] = []
    measure_prior(candidate, plan, journal, lambda *step: steps.append(step))
    assert steps == [(i + 1, 4) for i in range(4)]
    return collect_prior("mine", plan, journal), journal


def test_the_right_objects_and_a_collapse(plan: PriorPlan, tmp_path: Path) -> None:
    right, journal = measure(plan, tmp_path / "right", *HELD_OUT)
    assert right["samples"] == right["with a surface"] == 4
    assert right["coverage"] == 1 and right["MMD"] < 12
    alike, _ = measure(plan, tmp_path / "alike", 0.46)
    assert alike["coverage"] == 0.25
    expected = 2000 * sum((r - 0.46) ** 2 for r in HELD_OUT) / 4
    assert alike["MMD"] == pytest.approx(expected, rel=0.2)
    # The images of the right ones are those of the held-out ones, nearly.
    name = "Frechet (random-conv)"
    assert -1e-9 <= right[name] < 0.1 * alike[name]
    # Nearest to 0.3 is 0.35, to 0.75 is 0.7.
    near = [
        journal.records[("mine", "balls", f"sample {i:04d}")].numbers["nearest"]
        for i in range(4)
    ]
    assert near[0]["object"] == "ball 0.35" and near[3]["object"] == "ball 0.7"
    assert near[0]["distance"] == pytest.approx(2 * 0.05**2, abs=0.004)
    pictures = journal.records[("mine", "balls", "sample 0001")].numbers["pictures"]
    assert all((journal.folder / path).is_file() for path in pictures)
    later = journal.records[("mine", "balls", "sample 0002")].numbers
    assert "pictures" not in later


def test_copies_of_training_objects_are_found(plan: PriorPlan, tmp_path: Path) -> None:
    copied, journal = measure(plan, tmp_path, *TRAINING)
    reference = held_out_nearest(plan)
    assert reference is not None and copied["nearest training object"] < reference
    rows = nearest_table(journal).rows
    assert [float(row[3]) for row in rows] == sorted(float(row[3]) for row in rows)
    values = {
        "numbers": {"mine": copied, "training objects": training_as_samples(plan)},
        "held_out_nearest": reference,
    }
    table = prior_table(values, plan)
    assert [row[0] for row in table.rows] == ["mine", "training objects"]
    assert len({len(row) for row in (table.columns, *table.rows)}) == 1
    notes = prior_notes(values, plan, journal)
    assert any("were memorised" in note for note in notes)
    # Training objects as samples: three of them, and as good as a copy of them.
    as_samples = training_as_samples(plan)
    assert as_samples["samples"] == 3
    assert as_samples["coverage"] == pytest.approx(0.75)


def test_a_scene_without_a_surface_is_counted(plan: PriorPlan, tmp_path: Path) -> None:
    found, journal = measure(plan, tmp_path / "one", 0.5, 0.0, 0.6, 0.0)
    assert found["with a surface"] == 2 and found["coverage"] == 0.5
    notes = prior_notes({"held_out_nearest": 1.0}, plan, journal)
    assert "2 of 4 samples of mine have no surface (the scene is empty: it" in notes[-1]
    none, _ = measure(plan, tmp_path / "none", 0.0)
    assert none["coverage"] is none["MMD"] is none["nearest training object"] is None
    assert none["Frechet (random-conv)"] is not None


def test_an_interrupted_run_goes_on(plan: PriorPlan, tmp_path: Path) -> None:
    whole, _ = measure(plan, tmp_path / "whole", *HELD_OUT)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    method = Balls(*HELD_OUT)
    journal = Journal(tmp_path / "parts", {})
    candidate = Candidate("mine", method, SIZE, SampleOptions())
    with pytest.raises(KeyboardInterrupt):
        measure_prior(candidate, plan, journal, stop)
    again = Journal(tmp_path / "parts", {})
    assert len(again.records) == 2
    measure_prior(candidate, plan, again, lambda *_: None)
    # The first two were not sampled again.
    assert method.asked == 4
    found = collect_prior("mine", plan, again)
    assert {k: v for k, v in found.items() if "seconds" not in k} == pytest.approx(
        {k: v for k, v in whole.items() if "seconds" not in k}
    )


def test_data_that_does_not_do(known, tmp_path: Path) -> None:
    held_out, training = known
    one = study(HELD_OUT[:1])
    with pytest.raises(UserError, match="balls has 1 held-out object: comparing"):
        PriorPlan("balls", one, training, SETTINGS, [], surface, 0)
    few = InMemory({"a": shown(0.5)[:1]})
    with pytest.raises(UserError, match="has 1 views and 2 are compared"):
        study_objects(few, None, SIZE, SETTINGS)
    with pytest.raises(UserError, match="at least two samples"):
        PriorSettings(samples=1)
    # Without depth maps, images are compared and surfaces are not.
    flat = InMemory(
        {f"{r}": dataclasses.replace(shown(r), depths=None) for r in TRAINING}
    )
    blind = study_objects(flat, 2, SIZE, SETTINGS)
    assert blind.points is None and len(blind.names) == 2
    plan = PriorPlan("flat", blind, training, SETTINGS, standard_metrics(), surface, 2)
    found, journal = measure(plan, tmp_path, 0.5)
    assert found["with a surface"] is None and found["coverage"] is None
    assert held_out_nearest(plan) is None
    assert any("no depth maps" in n for n in prior_notes({}, plan, journal))
    assert held_out.points is not None
