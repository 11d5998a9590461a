"""Novel-view numbers against closed forms, and what of them is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.evaluation.made_up import (
    SIZE,
    Flat,
    InMemory,
    Sky,
    decibels,
    flat,
    skies,
)
from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.evaluation.candidates import Candidate
from unseen.evaluation.journal import Journal
from unseen.evaluation.learned_scores import extra_metrics
from unseen.evaluation.novel_views import (
    Plan,
    check_context,
    measure_baselines,
    measure_candidate,
)
from unseen.evaluation.places import find_places, view_angles
from unseen.evaluation.protocols import ProtocolSettings, find_protocol
from unseen.evaluation.scores import Metric, SetMetric, standard_metrics
from unseen.evaluation.summary import collect_cost, collect_numbers
from unseen.methods.method import SampleOptions, SceneMethod


def ignore(done: int, total: int) -> None:
    """No bar."""


def plan(data: dict[str, InMemory], name: str = "single", metrics=None, **other):
    protocol = find_protocol(name, ProtocolSettings(**other))
    places, _ = find_places(data, protocol, None)
    return Plan(places, metrics or standard_metrics(), pictures=1, seed=0)


def measure(method: SceneMethod, doing: Plan, folder: Path) -> Journal:
    journal = Journal(folder, {"a": 1})
    candidate = Candidate("mine", method, SIZE, SampleOptions())
    measure_candidate(candidate, doing, journal, ignore)
    return journal


def test_a_method_and_baselines_in_closed_form(tmp_path: Path) -> None:
    doing = plan({"set": InMemory({"c": flat(170, 4), "d": flat(90, 3)})})
    journal = measure(Flat(160), doing, tmp_path / "out")
    training = [InMemory({"a": flat(100, 3)}), InMemory({"b": flat(200, 2)})]
    measure_baselines(training, SIZE, doing, journal, lambda label: ignore)
    expected = {
        "mine": (10, 70),
        "mean training image": (30, 50),
        "nearest training object": (30, 10),
    }
    for label, errors in expected.items():
        found = collect_numbers(label, doing, journal)["set"]
        assert (found["scenes"], found["views"]) == (2, 5)
        # Scenes count the same, whatever the number of their views.
        assert found["PSNR"] == pytest.approx(decibels(errors), abs=1e-3)
    # SSIM of flat images is its term of luminance.
    (record,) = [r for r in journal.records.values() if r.key == ("mine", "set", "c")]
    x, y, small = 160 / 255, 170 / 255, 0.01**2
    luminance = (2 * x * y + small) / (x * x + y * y + small)
    assert record.numbers["values"]["SSIM"] == pytest.approx([luminance] * 3, abs=1e-5)


def test_a_method_that_knows_the_truth(tmp_path: Path) -> None:
    views, method = skies(67, seed=5), Sky()
    doing = plan({"set": InMemory({"b": views})}, "srn")
    journal = measure(method, doing, tmp_path / "out")
    found = collect_numbers("mine", doing, journal)["set"]
    assert found is not None and found["views"] == 66
    (context,) = method.contexts
    assert context.shape == (1, 1) and context.masks is None
    assert torch.equal(context.images[0], views.images[64:65])
    assert torch.equal(context.cameras.extrinsics[0], views.cameras.extrinsics[64:65])
    assert (found["PSNR"] or 0) > 90 and (found["SSIM"] or 0) > 0.9999
    assert found["Frechet (random-conv)"] == pytest.approx(0, abs=1e-3)
    cost = collect_cost("mine", doing, journal)
    assert cost is not None
    per_frame, whole = cost["seconds_per_frame"], cost["seconds"]
    assert per_frame and whole and 0 < per_frame * 66 <= whole + 1e-9


def test_several_given_views_and_the_sampled_one(tmp_path: Path) -> None:
    class Seen(Sky):
        def sample_scene(self, context, seeds, cameras=None, *rest, **named):
            self.cameras = cameras
            return super().sample_scene(context, seeds)

    method, views = Seen(), skies(160, seed=2)
    measure(method, plan({"set": InMemory({"a": views})}, "srn-two"), tmp_path / "1")
    assert method.contexts[0].shape == (1, 2)
    assert method.cameras is not None and method.cameras.shape == (1, 158)
    measure(method, plan({"set": InMemory({"a": views})}, "re10k-dfm"), tmp_path / "2")
    assert torch.equal(method.cameras.extrinsics[0], views.cameras.extrinsics[150:151])


def test_a_scene_does_not_depend_on_the_others(tmp_path: Path) -> None:
    scenes = {"a": flat(1, 2), "b": flat(2, 2), "c": flat(3, 2)}
    every, last = Flat(9), Flat(9)
    measure(every, plan({"set": InMemory(scenes)}), tmp_path / "1")
    measure(last, plan({"set": InMemory({"c": scenes["c"]})}), tmp_path / "2")
    assert len(set(every.seeds)) == 3 and last.seeds == every.seeds[2:]


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    doing = plan({"set": InMemory({"a": flat(1, 2), "b": flat(2, 2)})})
    measure(Flat(9), doing, tmp_path / "out")
    path = tmp_path / "out" / "scenes.jsonl"
    before, again = path.read_bytes(), Flat(9)
    measure(again, doing, tmp_path / "out")
    assert again.seeds == [] and path.read_bytes() == before
    # Half of the second line, as a kill leaves it.
    path.write_bytes(before[: len(before) - 40])
    measure(again, doing, tmp_path / "out")
    assert len(again.seeds) == 1 and len(path.read_bytes().splitlines()) == 2
    assert [json.loads(x)["scene"] for x in path.read_text().splitlines()] == ["a", "b"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "out", {"seed": 0, "views": (1, 2)})
    Journal(tmp_path / "out", {"seed": 0, "views": [1, 2]})
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        Journal(tmp_path / "out", {"seed": 1, "views": [1, 2]})
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(UserError, match="no evaluation"):
        Journal(tmp_path / "letters", {})


def test_metrics_of_scenes_of_sets_and_missing_ones(tmp_path: Path) -> None:
    metrics = [
        Metric("scene", "", "lower", lambda seen: seen.images.amax().reshape(1)),
        SetMetric(
            "shift",
            "",
            "lower",
            "mean",
            lambda images: images.mean(dim=(2, 3)),
            lambda a, b: float((a.mean(0) - b.mean(0)).abs().max()),
        ),
        Metric("gone", "", "lower", lambda seen: 1 / 0, missing="give weights."),
        SetMetric("away", "", "lower", "x", lambda i: 1 / 0, min, missing="too."),
    ]
    data = {"s": InMemory({"a": flat(50, 3)}), "t": InMemory({"b": flat(100, 3)})}
    doing = plan(data, metrics=metrics)
    found = collect_numbers("mine", doing, measure(Flat(60), doing, tmp_path / "o"))
    assert set(found) == {"s", "t", "all"}
    assert found["s"]["scene"] == pytest.approx(60 / 255)
    shifts = [found[name]["shift"] for name in ("s", "t", "all")]
    # Over all views together: the mean of the truth is 75.
    assert shifts == pytest.approx([10 / 255, 40 / 255, 15 / 255], abs=1e-6)
    assert found["all"]["gone"] is None and found["all"]["away"] is None


def test_pictures_are_what_was_rendered(tmp_path: Path) -> None:
    doing = plan({"set": InMemory({"a": flat(50, 9), "b": flat(60, 9)})})
    journal = measure(Flat(200), doing, tmp_path / "out")
    first, second = (journal.records["mine", "set", name].numbers for name in "ab")
    assert second["pictures"] is None
    shown = first["pictures"]["shown"]
    assert len(shown) == 2 and shown[0]["angle"] < shown[1]["angle"]
    for entry in shown:
        assert entry["view"] in first["views"]
        for name, level in (("truth", 50), ("image", 200)):
            with Image.open(tmp_path / "out" / entry[name]) as image:
                assert image.size == (SIZE, SIZE)
                assert image.getpixel((0, 0)) == (level,) * 3


def test_angles_are_to_the_nearest_given_view() -> None:
    def at(degrees: list[float]):
        azimuths = torch.deg2rad(torch.tensor(degrees))
        return sphere_cameras(azimuths, torch.zeros_like(azimuths), torch.tensor(0.7))

    found = view_angles(at([0.0, 100.0, 350.0]), at([10.0, 180.0]))
    torch.testing.assert_close(found.float(), torch.tensor([10.0, 80.0, 20.0]))


def test_a_method_of_one_view_is_refused_by_a_protocol_of_two() -> None:
    class Single(Sky):
        max_context = 1

    doing = plan({"set": InMemory({"a": flat(1, 105)})}, "srn-two")
    with pytest.raises(UserError, match=r"mine takes 1 view .* srn-two gives 2"):
        candidate = Candidate("mine", Single(), SIZE, SampleOptions())
        check_context([candidate], doing, "srn-two")


def test_a_metric_of_several_views_is_refused_where_there_is_one() -> None:
    doing = plan({"set": InMemory({"a": flat(1, 2)})}, metrics=extra_metrics(["tsed"]))
    with pytest.raises(UserError, match=r"TSED needs 2 views .* compares 1"):
        check_context([], doing, "single")
