"""`unseen eval`: a tiny untrained DFM on a tiny procedural data set."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.methods.test_dfm import make_dfm
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.methods import registry

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
    for name in ("first.json", "again.json"):
        out = tmp_path / name
        arguments = [model, "--data", data[0], *PROTOCOL, "--out", out]
        assert run(monkeypatch, *arguments) == 0
        shown = capsys.readouterr().out
        assert shown.splitlines()[-1] == str(out)
        results.append(json.loads(out.read_text()))
    numbers = results[0]["numbers"]["deep"]
    assert results[1]["numbers"]["deep"] == numbers
    assert set(results[0]["numbers"]) == {"deep"}
    assert (numbers["objects"], numbers["samples"]) == (2, 2)
    assert f"{numbers['input_psnr']:.3f}" in shown and "spread ratio" in shown
    expected = {"objects": 2, "samples": 2, "views": 2, "seed": 0}
    assert results[0]["protocol"] == {**expected, "num_steps": 1, "guidance": None}
    assert results[0]["seconds"] > 0
    assert "novel_views" not in results[0]


def test_novel_views_of_a_dfm_are_measured_when_asked_for(
    model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    out = tmp_path / "numbers.json"
    arguments = [model, "--data", data[0], *PROTOCOL, "--novel", "--out", out]
    assert run(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert "spread ratio" in shown and "mean training image" in shown
    found = json.loads(out.read_text())
    assert set(found) == {"protocol", "numbers", "novel_views", "seconds"}
    numbers = found["novel_views"]["deep"]
    # Three views per object, one of them the input.
    assert (numbers["objects"], numbers["views"]) == (2, 4)


@pytest.fixture
def sky_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An untrained method that is no DFM and fits codes."""
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    torch.manual_seed(0)
    save_model(SkyDecoder(SkyConfig(num_objects=2)), tmp_path / "sky", {})
    return tmp_path / "sky"


def test_other_methods_are_measured_on_novel_views(
    sky_model: Path,
    data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    """No depth is needed, and images are shrunk to the method's size."""
    out = tmp_path / "numbers.json"
    sets = ["--data", data[0], data[1]]
    arguments = [sky_model, *sets, "--objects", 2, "--steps", 3, "--out", out]
    assert run(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert "nearest training object" in shown and "sharpness" not in shown
    found = json.loads(out.read_text())
    assert set(found["novel_views"]) == {"deep", "flat", "all"}
    assert found["protocol"]["num_steps"] == 3
    every = found["novel_views"]
    mean = (every["deep"]["method"]["psnr"] + every["flat"]["method"]["psnr"]) / 2
    assert every["all"]["method"]["psnr"] == pytest.approx(mean)
    assert f"{every['all']['method']['psnr']:.2f}" in shown
    assert every["all"]["objects"] == 4


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
    cases: list[tuple[list[object], str]] = [
        ([model, "--data", deep, "--out", tmp_path / "old.json"], "exists"),
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
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
