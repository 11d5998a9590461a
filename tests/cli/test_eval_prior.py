"""`unseen eval-prior`: balls from a model folder against balls on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_sample_without_image import BallPrior, BallPriorConfig
from tests.evaluation.made_up import write_set
from tests.evaluation.test_prior import shown
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.methods import registry

PROTOCOL = ["--samples", "3", "--views", "2", "--points", "200", "--resolution", "24"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls in two splits; and one alone, without training objects."""
    folder = tmp_path_factory.mktemp("sets")
    splits = {0.4: "test", 0.5: "train", 0.6: "test", 0.7: "train"}
    balls = {f"ball-{r}": (split, shown(r)) for r, split in splits.items()}
    write_set(folder / "balls", balls)
    write_set(folder / "one", {k: v for k, v in balls.items() if k != "ball-0.4"})
    return folder


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(registry.METHODS, "BallPrior", (BallPrior, BallPriorConfig))
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    monkeypatch.chdir(tmp_path)
    save_model(BallPrior(BallPriorConfig()), "balls", {})
    save_model(SkyDecoder(SkyConfig(num_objects=3)), "skies", {})
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `unseen eval-prior ARGUMENTS`."""
    words = [str(a) for a in (*arguments, *PROTOCOL)]
    monkeypatch.setattr(sys, "argv", ["unseen", "eval-prior", *words])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_table_and_its_files(models, data, monkeypatch, capsys) -> None:
    words = ["mine=balls", "--data", data / "balls", "--out", "out"]
    assert run(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    for part in ("balls: samples against 2 held-out", "coverage", "training objects"):
        assert part in printed
    assert "FID was not measured" in printed and "memorised" in printed
    results = json.loads(Path("out/results.json").read_text())
    mine = results["numbers"]["mine"]
    assert mine["samples"] == mine["with a surface"] == 3
    # Radii from 0.4 to 0.7 meet both held-out balls, as training objects do.
    assert mine["coverage"] >= 0.5 and 0 < mine["MMD"] < 60
    assert len(results["nearest"]) == 3
    table = Path("out/table.md").read_text()
    assert "## Nearest training objects" in table and "ball-0.5" in table
    with Image.open("out/nearest.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # Balls, red or blue, on white.
    assert (pixels[..., 0] - pixels[..., 2] > 100).any() or (
        pixels[..., 2] - pixels[..., 0] > 100
    ).any()
    # The same command changes nothing, other settings are refused.
    before = Path("out/results.json").read_text()
    assert run(monkeypatch, *words) == 0
    again = json.loads(Path("out/results.json").read_text())
    assert again["numbers"] == json.loads(before)["numbers"]
    assert run(monkeypatch, *words, "--seed", "1") == 2
    assert "other settings (seed)" in capsys.readouterr().err


def test_what_cannot_be_measured(models, data, monkeypatch, capsys) -> None:
    balls = data / "balls"
    for words, reason in (
        (["skies", "--data", balls], "skies makes scenes of images"),
        (["balls", "--data", data / "one"], "has 1 held-out object: comparing sets"),
        (["balls", "--data", balls, "--objects", "1"], "--objects must be at least 2"),
        (["balls", "--data", balls, "--training-objects", "0"], "--training-objects"),
        (["balls", "--data", data / "none"], "no folder"),
    ):
        assert run(monkeypatch, *words, "--out", "new") == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert reason in error and error.endswith(".")
        assert not Path("new").exists()
