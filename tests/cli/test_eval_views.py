"""`unseen eval` with methods that sample views, beside one that samples scenes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.methods import test_genvs, test_threedim
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.methods import registry
from unseen.methods.genvs import GeNVS
from unseen.methods.threedim import ThreeDiM, ThreeDiMConfig, ViewSamplingConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny models and a tiny data set."""
    folder = tmp_path_factory.mktemp("views")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
        save_model(SkyDecoder(SkyConfig(num_objects=2)), folder / "sky", {})
    sampling = ViewSamplingConfig(2, 1.0)
    three = ThreeDiMConfig(test_threedim.NETWORK, 16, sampling=sampling)
    save_model(ThreeDiM(three), folder / "3dim", {})
    save_model(test_genvs.make(), folder / "genvs", {})
    settings = ProceduralSettings(views=6, size=16, supersample=1)
    write_procedural(folder / "data", 24, settings)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: object) -> int:
    models = [str(folder / name) for name in ("sky", "3dim", "genvs")]
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    words = ["eval", *models, "--data", str(folder / "data"), "--no-baselines"]
    words += ["--steps", "1", "--objects", "2", *map(str, more)]
    monkeypatch.setattr(sys, "argv", ["unseen", *words])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_all_kinds_stand_in_one_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "out"
    more = ("--samples", 2, "--out", out)
    calls: list[int] = []
    inner = GeNVS.sample_view

    def spy(self, known, *rest, **named):
        calls.append(known.shape[1])
        return inner(self, known, *rest, **named)

    monkeypatch.setattr(GeNVS, "sample_view", spy)
    assert run(monkeypatch, folder, *more) == 0
    shown = capsys.readouterr().out
    # Five views of two objects; and one view that is counted.
    assert calls == [1, 2, 3, 4, 5, 1, 1, 2, 3, 4, 5]
    found = json.loads((out / "results.json").read_text())
    names = ["sky"]
    names += [n for m in ("3dim", "genvs") for n in (m, f"{m}, best of 2")]
    assert list(found["numbers"]) == names and all(name in shown for name in names)
    for name in ("3dim", "genvs"):
        first, best = (
            found["numbers"][row]["data"]["PSNR"]
            for row in (name, f"{name}, best of 2")
        )
        assert first <= best
        cost = found["cost"][name]
        assert cost["operations"] > 0 and cost["seconds_per_frame"] > 0
        assert cost["seconds_per_scene"] == 0
    assert found["cost"]["sky"]["seconds_per_scene"] > 0
    assert "best of 2" in (out / "index.html").read_text()
    # Everything is kept: nothing is sampled again.
    calls.clear()
    assert run(monkeypatch, folder, *more) == 0 and calls == []
    assert json.loads((out / "results.json").read_text())["numbers"] == found["numbers"]


def test_an_interrupted_run_continues_with_the_next_scene(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "out"
    inner, calls = ThreeDiM.sample_view, []

    def interrupted(self, *rest, **named):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return inner(self, *rest, **named)

    monkeypatch.setattr(ThreeDiM, "sample_view", interrupted)
    assert run(monkeypatch, folder, "--out", out) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert run(monkeypatch, folder, "--out", out) == 0
    # The second scene from its first view on; the first one is kept.
    assert len(calls) == 8 + 5


def test_the_posterior_is_dfms_alone(folder: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder, "--protocol", "posterior") == 2
    assert "measures DFM alone" in capsys.readouterr().err
    assert run(monkeypatch, folder, "--samples", 0) == 2
    assert "at least one sample" in capsys.readouterr().err
