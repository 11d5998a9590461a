"""`unseen train` lets a method prepare the data first: DiffRF's grids."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.methods.volumes import COLORS, DIFFRF, ball_views, diffrf
from tests.two_processes import run_in_two
from unseen.checkpoints.model_folder import load_model
from unseen.cli.main import main
from unseen.cli.prepare import prepare
from unseen.data.srn_files import write_object
from unseen.data.srn_layout import SRNDataset
from unseen.data.streaming import ExampleStream
from unseen.files import read_tensors
from unseen.geometry.views import Views
from unseen.methods import registry
from unseen.methods.diffrf import DiffRF
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset
from unseen.training.run_folder import Run

TRAIN = TrainConfig(
    steps=2, batch_size=2, log_every=1, num_workers=0, sample_every=0, device="cpu"
)


@pytest.fixture(autouse=True)
def _tiny_is_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = dataclasses.replace(DIFFRF.fit, num_steps=2, objects_at_once=1)
    config = dataclasses.replace(DIFFRF, fit=fit)
    monkeypatch.setitem(registry.PRESETS, "tiny", Preset(config, TRAIN))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, color in enumerate(COLORS):
        write_object(tmp_path / "data", f"ball-{number}", ball_views(color))
    return tmp_path / "data"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `unseen train tiny ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["unseen", "train", "tiny", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_grids_are_fitted_once(data: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "run"
    assert run(monkeypatch, "--data", data, "--out", out) == 0
    folder = out / "prepared"
    kept = json.loads((folder / "grids.json").read_text())
    assert kept["objects"] == ["data/ball-0", "data/ball-1"]
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 2
    assert isinstance(load_model(out / "model"), DiffRF)
    written = [file.stat().st_mtime_ns for file in files]
    # Going on, and another run that names the folder, find the grids.
    assert run(monkeypatch, "--out", out, "--resume", "--steps", 3) == 0
    again = ["--data", data, "--out", tmp_path / "again", "--prepared", folder]
    assert run(monkeypatch, *again) == 0
    assert [file.stat().st_mtime_ns for file in files] == written
    assert not (tmp_path / "again" / "prepared").exists()
    # So does that run when it goes on.
    again = ["--out", tmp_path / "again", "--resume", "--steps", 3]
    assert run(monkeypatch, *again) == 0
    assert [file.stat().st_mtime_ns for file in files] == written


def test_an_interruption_loses_no_finished_grid(
    data: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    calls = []
    fit = registry.PRESETS["tiny"].method.grid.__class__.scene

    def interrupted(self, grids):
        calls.append(len(grids))
        if len(calls) == 3:  # the first step of the second object
            raise KeyboardInterrupt
        return fit(self, grids)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("unseen.scenes.grid_space.GridSpace.scene", interrupted)
        assert run(monkeypatch, "--data", data, "--out", out) == 130
    assert len(list((out / "prepared").glob("*.safetensors"))) == 1
    assert run(monkeypatch, "--out", out, "--resume") == 0
    assert len(list((out / "prepared").glob("*.safetensors"))) == 2


def test_processes_share_the_fits(tmp_path: Path) -> None:
    """Each fits its own objects, and finds those of the other when both are done."""
    for number in range(5):
        color = (1.0, number / 2 - 1, -1.0)
        write_object(tmp_path / "data", f"ball-{number}", ball_views(color))
    fit = dataclasses.replace(DIFFRF.fit, num_steps=4, objects_at_once=2)
    config = dataclasses.replace(DIFFRF, fit=fit)
    preset = Preset(config, TRAIN)

    def fit_all(out: Path) -> list[int]:
        """The numbers of the objects that this process loads."""
        torch.set_num_threads(1)
        dataset = SRNDataset(tmp_path / "data")
        loaded, load = [], dataset.load

        def noted(index: int, views: list[int] | None = None) -> Views:
            loaded.append(index)
            return load(index, views)

        dataset.load = noted  # type: ignore[method-assign]
        method = diffrf(config)
        stream = ExampleStream([dataset], 1, 2, seed=0)
        prepare(Run("tiny", "DiffRF", preset, ()), stream, method, out)
        assert method.grids is not None and not method.grids.missing()
        assert len(method.grids.read(torch.arange(5))) == 5
        return loaded

    def work(rank: int) -> None:
        assert fit_all(tmp_path / "pair") == [[0, 2, 4], [1, 3]][rank]
        # What is there is not made again.
        assert fit_all(tmp_path / "pair") == []

    run_in_two(work)
    assert fit_all(tmp_path / "alone") == [0, 1, 2, 3, 4]
    files = [sorted((tmp_path / d / "prepared").iterdir()) for d in ("pair", "alone")]
    assert [f.name for f in files[0]] == [f.name for f in files[1]]
    for ours, theirs in zip(*(f[:5] for f in files), strict=True):
        found, expected = (read_tensors(path)[0]["grid"] for path in (ours, theirs))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_refusals(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    for file in sorted((data / "ball-1").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (data / "ball-1").rmdir()
    assert run(monkeypatch, "--data", data, "--out", tmp_path / "one") == 2
    assert "the data has 1 for training" in capsys.readouterr().err
