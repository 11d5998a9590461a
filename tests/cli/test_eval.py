"""`unseen eval`: a tiny untrained DFM on a tiny procedural data set."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.methods.test_dfm import make_dfm
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import load_model, save_model
from unseen.cli.main import main
from unseen.data.formats import open_dataset
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.evaluation.held_out import PosteriorSettings, Subject, observe
from unseen.evaluation.novel_views import BASELINES
from unseen.evaluation.posterior import measure
from unseen.methods import registry
from unseen.methods.dfm import DFM
from unseen.methods.method import SampleOptions

PROTOCOL = ["--objects", "2", "--samples", "2", "--views", "2", "--steps", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-model")
    save_model(make_dfm(), folder, {})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One data set with depths, and one without."""
    folders = tmp_path_factory.mktemp("sets")
    for name in ("deep", "flat"):
        settings = ProceduralSettings(
            views=3, size=16, supersample=1, depth=name == "deep"
        )
        write_procedural(folders / name, 24, settings)
    return folders / "deep", folders / "flat"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `unseen eval ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["unseen", "eval", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_prints_a_table_and_writes_the_same_numbers_again(
    model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    results = []
    for name in ("first", "again"):
        out = tmp_path / name
        arguments = [model, "--data", data[0], *PROTOCOL, "--out", out]
        assert run(monkeypatch, *arguments) == 0
        shown = capsys.readouterr().out
        files = [str(out / x) for x in ("results.json", "table.md", "index.html")]
        assert shown.splitlines()[-3:] == files
        results.append(json.loads((out / "results.json").read_text()))
    label = model.name
    numbers = results[0]["numbers"][label]["deep"]
    assert results[1]["numbers"] == results[0]["numbers"]
    assert set(results[0]["numbers"][label]) == {"deep"}
    assert (numbers["objects"], numbers["samples"]) == (2, 2)
    assert f"{numbers['input_psnr']:.3f}" in shown and "spread ratio" in shown
    assert f"| {numbers['novel_psnr_best']:.3f} |" in (out / "table.md").read_text()
    settings = results[0]["settings"]
    expected = {"objects": 2, "samples": 2, "views": 2, "seed": 0}
    assert expected.items() <= settings.items()
    assert settings["methods"][label][1] == {"num_steps": 1, "guidance": None}
    assert len(results[0]["scenes"]) == 2
    assert results[0]["protocol"]["name"] == "posterior"
    # The numbers of the objects, taken together as `measure` does.
    assert _measured_at_once(model, data[0]) == pytest.approx(numbers, abs=1e-6)


def _measured_at_once(model: Path, data: Path) -> dict[str, float]:
    """The numbers without a folder in between."""
    method = load_model(model)
    assert isinstance(method, DFM)
    subject = Subject(method, method.reconstruct, 16, SampleOptions(1))
    settings = PosteriorSettings(objects=2, samples=2, views=2)
    found = list(observe(subject, [open_dataset(data, "test")], settings))
    return dataclasses.asdict(measure(found))


def test_novel_views_of_a_dfm_are_measured_when_asked_for(
    model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    out = tmp_path / "numbers"
    arguments = [model, "--data", data[0], *PROTOCOL, "--out", out]
    assert run(monkeypatch, *arguments, "--protocol", "single") == 0
    shown = capsys.readouterr().out
    assert "mean training image" in shown and "spread ratio" not in shown
    found = json.loads((out / "results.json").read_text())
    best = f"{model.name}, best of 2"
    assert list(found["numbers"]) == [model.name, best, *BASELINES]
    assert best in shown and best not in found["cost"]
    numbers = found["numbers"][model.name]["deep"]
    assert found["numbers"][best]["deep"]["PSNR"] >= numbers["PSNR"]
    # Three views per object, one of them the input.
    assert (numbers["scenes"], numbers["views"]) == (2, 4)


@pytest.fixture
def sky_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An untrained method that is no DFM and fits codes."""
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    torch.manual_seed(0)
    save_model(SkyDecoder(SkyConfig(num_objects=2)), tmp_path / "sky", {})
    return tmp_path / "sky"


def test_several_methods_on_several_data_sets(
    model: Path,
    sky_model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    """No depth is needed, and images are shrunk to each method's size."""
    out = tmp_path / "numbers"
    arguments = [f"the sky={sky_model}", model, "--data", *data, "--objects", 2]
    assert run(monkeypatch, *arguments, "--steps", 2, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "nearest training object" in shown and "sharpness" not in shown
    found = json.loads((out / "results.json").read_text())
    assert list(found["numbers"]) == ["the sky", model.name, *BASELINES]
    every = found["numbers"]["the sky"]
    assert set(every) == {"deep", "flat", "all"}
    assert found["settings"]["methods"]["the sky"][1] == {"num_steps": 2}
    mean = (every["deep"]["PSNR"] + every["flat"]["PSNR"]) / 2
    assert every["all"]["PSNR"] == pytest.approx(mean)
    assert f"{every['all']['PSNR']:.2f}" in shown and every["all"]["scenes"] == 4
    assert [m["image_size"] for m in found["methods"]] == [8, 16, 8, 8]
    assert found["cost"]["the sky"]["seconds_per_frame"] > 0
    table = (out / "table.md").read_text()
    assert "## all: 4 scenes, 8 views" in table and "| the sky | 8 |" in table
    # Nothing is left to measure, and the numbers are those of the folder.
    monkeypatch.setattr(SkyDecoder, "sample_scene", None)
    assert run(monkeypatch, *arguments, "--steps", 2, "--out", out) == 0
    again = json.loads((out / "results.json").read_text())
    assert again == found and (out / "table.md").read_text() == table
    assert run(monkeypatch, *arguments, "--steps", 3, "--out", out) == 2
    assert "other settings (methods)" in capsys.readouterr().err


def test_data_without_a_manifest_needs_training_objects(
    sky_model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(data[1], bare)
    (bare / "manifest.json").unlink()
    arguments = [sky_model, "--data", bare, "--objects", 1, "--steps", 1]
    assert run(monkeypatch, *arguments) == 2
    assert "name a folder of them with --train" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--train", data[0]) == 0
    assert run(monkeypatch, *arguments, "--no-baselines") == 0
    assert "mean training image" not in capsys.readouterr().out.split("cost")[-1]
    assert run(monkeypatch, *arguments, "--guidance", 2) == 2
    assert "no classifier-free guidance" in capsys.readouterr().err


def test_refusals(
    model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    deep, flat = data
    (tmp_path / "old.json").write_text("{}")
    full, twins = tmp_path / "old", [f"x={model}", f"x={model}"]
    full.mkdir()
    (full / "a.txt").touch()
    srn = ["--protocol", "srn"]
    cases: list[tuple[list[object], str]] = [
        ([model, "--data", deep, "--out", tmp_path / "old.json"], "is a file"),
        ([model, "--data", deep, "--out", full], "no evaluation"),
        (["--data", deep], "name at least one model"),
        ([*twins, "--data", deep], "two methods would be called 'x'"),
        ([model, "--data", deep, *srn], "has a place in the protocol srn"),
        ([model, "--data", deep, *srn, "--index", full], "leave out --index"),
        ([model, "--data", deep, "--protocol", "nmr"], "with --index"),
        ([model, "--data", deep, "--objects", 0], "at least one object"),
        ([model, "--data", deep, "--pictures", -1], "at least no scene"),
        ([model, "--data", deep, "--out", tmp_path / "old.json" / "x"], "is a file"),
        ([model, "--data", deep, deep], "none twice"),
        ([model, "--data", flat], "without --no-depth"),
        ([model, "--data", tmp_path / "none"], "no folder"),
        ([model, "--data", deep, "--views", 3], "the protocol needs 4"),
        ([model, "--data", deep, "--samples", 1], "takes at least"),
        ([model, "--data", deep, "--steps", 0], "at least one step"),
        (["no-such-model", "--data", deep], "no-such-model"),
    ]
    for arguments, reason in cases:
        given = {str(x) for x in arguments}
        pairs = zip(PROTOCOL[::2], PROTOCOL[1::2], strict=True)
        defaults = [word for pair in pairs if pair[0] not in given for word in pair]
        assert run(monkeypatch, *arguments, *defaults) == 2, arguments
        captured = capsys.readouterr()
        lines = [x for x in captured.err.splitlines() if x.startswith("unseen: ")]
        assert len(lines) == 1 and reason in lines[0], captured.err
        assert lines[0].endswith(".") and captured.out == ""
    assert (tmp_path / "old.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "old.json"]
