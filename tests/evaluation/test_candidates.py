"""What is made of a scene: by methods that sample views, and several times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.evaluation.made_up import (
    SIZE,
    Flat,
    InMemory,
    Painter,
    Sky,
    decibels,
    flat,
)
from tests.evaluation.test_novel_views import ignore
from unseen.evaluation.candidates import Candidate
from unseen.evaluation.journal import Journal
from unseen.evaluation.novel_views import Plan, best_label, measure_candidate
from unseen.evaluation.places import find_places
from unseen.evaluation.protocols import ProtocolSettings, find_protocol
from unseen.evaluation.scores import standard_metrics
from unseen.evaluation.summary import collect_cost, collect_numbers
from unseen.methods.method import SampleOptions


def plan(data: dict[str, InMemory], samples: int = 1) -> Plan:
    protocol = find_protocol("single", ProtocolSettings())
    places, _ = find_places(data, protocol, None)
    return Plan(places, standard_metrics(), pictures=1, seed=0, samples=samples)


def measure(method, doing: Plan, folder: Path, report=ignore) -> Journal:
    journal = Journal(folder, {"a": 1})
    candidate = Candidate("mine", method, SIZE, SampleOptions())
    measure_candidate(candidate, doing, journal, report)
    return journal


def test_views_are_sampled_one_after_the_other(tmp_path: Path) -> None:
    method, steps = Painter(), []
    doing = plan({"set": InMemory({"a": flat(100, 4), "b": flat(50, 3)})})
    journal = measure(method, doing, tmp_path / "out", lambda *s: steps.append(s))
    # One more call tells what a frame costs.
    assert method.known == [1, 2, 3, 1, 1, 2] and len(set(method.seeds)) == 6
    assert steps == [(1, 5), (2, 5), (3, 5), (3, 5), (4, 5), (5, 5), (5, 5)]
    found = collect_numbers("mine", doing, journal)["set"]
    expected = (decibels((1, 2, 3)) + decibels((1, 2))) / 2
    assert found["PSNR"] == pytest.approx(expected, abs=1e-2)
    cost = collect_cost("mine", doing, journal)
    assert cost["seconds_per_scene"] == 0 and (cost["seconds_per_frame"] or 0) > 0
    assert cost["evaluations_per_ray"] is None and (cost["peak_bytes"] or 0) > 0
    record = journal.records["mine", "set", "a"].numbers
    assert len(record["pictures"]["shown"]) == 2


def test_the_best_of_several_samples_has_its_own_row(tmp_path: Path) -> None:
    doing = plan({"set": InMemory({"a": flat(100, 3), "b": flat(50, 2)})}, samples=3)
    scenes = doing.places[0].dataset.scenes  # type: ignore[attr-defined]
    # The first and the third sample are off by 30 levels, the second is right.
    for name, views in scenes.items():
        shifted = views.images.clone()
        shifted[1:] += 30 / 255
        scenes[name] = type(views)(shifted, views.cameras)
    journal = measure(Painter(), doing, tmp_path / "out")
    first, best = (
        collect_numbers(label, doing, journal)["set"]
        for label in ("mine", best_label("mine", 3))
    )
    expected = (decibels((29, 28)) + decibels(29)) / 2
    assert first["PSNR"] == pytest.approx(expected, abs=1e-2)
    expected = (decibels((1, 2)) + decibels(1)) / 2
    assert best["PSNR"] == pytest.approx(expected, abs=1e-2)
    # The other numbers are those of the same sample.
    assert (best["SSIM"] or 0) > (first["SSIM"] or 0)
    assert (tmp_path / "out" / "scenes.jsonl").read_text().count("\n") == 4


def test_the_first_sample_does_not_depend_on_their_number(tmp_path: Path) -> None:
    class Random(Sky):
        stochastic = True

        def sample_scene(self, context, seeds, cameras=None, *rest, **named):
            scene = super().sample_scene(context, seeds)
            shade = torch.rand((), generator=torch.Generator().manual_seed(seeds[0]))
            return type(scene)(scene.tint * shade)

    data = {"set": InMemory({"a": flat(100, 3)})}
    found = []
    for samples in (1, 4):
        doing = plan(data, samples)
        journal = measure(Random(), doing, tmp_path / str(samples))
        found.append(collect_numbers("mine", doing, journal)["set"])
    assert found[0] == found[1]
    best = collect_numbers(best_label("mine", 4), doing, journal)["set"]
    assert (best["PSNR"] or 0) > (found[1]["PSNR"] or 0)


def test_a_deterministic_method_makes_one(tmp_path: Path) -> None:
    method = Flat(9)
    doing = plan({"set": InMemory({"a": flat(1, 2)})}, samples=4)
    journal = measure(method, doing, tmp_path / "out")
    assert list(journal.records) == [("mine", "set", "a")] and len(method.seeds) == 1


def test_a_lost_row_is_measured_again(tmp_path: Path) -> None:
    doing = plan({"set": InMemory({"a": flat(1, 2)})}, samples=2)
    measure(Painter(), doing, tmp_path / "out")
    path = tmp_path / "out" / "scenes.jsonl"
    lines = path.read_text().splitlines()
    # As a kill between the two rows leaves it.
    path.write_text(lines[0] + "\n")
    method = Painter()
    measure(method, doing, tmp_path / "out")
    assert method.known == [1, 1]
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert [x["method"] for x in again] == ["mine", best_label("mine", 2)]
    kept = json.loads(lines[1])["numbers"]["values"]
    assert again[1]["numbers"]["values"] == kept
