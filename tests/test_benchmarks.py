"""The gate of the benchmarks: what counts as a regression."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.__main__ import BASELINE, Benchmarks, lost
from benchmarks.posterior import Benchmark as Posterior
from benchmarks.sampling import Benchmark as Sampling
from tests.methods.test_dfm import TINY, make_dfm
from unseen.checkpoints.model_folder import save_model
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural

BEFORE = {"frame": 4.0, "step": 1.1}


def test_a_lost_lead_is_found_and_noise_is_not() -> None:
    assert not lost({"frame": 3.2, "step": 1.05}, BEFORE, 0.3)
    assert lost({"frame": 3.0, "step": 1.1}, BEFORE, 0.3) == [
        "frame: 3.00x, and it was 4.00x"
    ]
    assert len(lost({"frame": 1.0, "step": 0.9}, BEFORE, 0.3)) == 2


def test_what_seems_lost_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(BEFORE))
    monkeypatch.setattr("benchmarks.__main__.BASELINE", path)
    later = iter([{"frame": 3.9, "step": 1.0}])
    slow = {"frame": 2.0, "step": 1.1}
    Benchmarks()._gate([lambda: next(later)], [slow])
    assert "2 of 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        Benchmarks()._gate([lambda: slow], [slow])
    with pytest.raises(SystemExit):
        Benchmarks()._gate([lambda: {}], [{"frame": 4.0}])
    assert "step: no longer measured" in capsys.readouterr().out


def test_the_committed_baseline_holds_leads() -> None:
    assert all(ratio > 1 for ratio in json.loads(BASELINE.read_text()).values())


def test_the_choices_of_the_bundled_model_are_measured(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(make_dfm(), tmp_path / "model", {})
    data = tmp_path / "data"
    write_procedural(data, 12, ProceduralSettings(views=9, size=TINY.image_size))
    model = str(tmp_path / "model")
    Posterior((data,), model, 2, 2, trust=(0.0,), steps=(2,), times=(0.5,)).run()
    printed = capsys.readouterr().out
    assert "trust" in printed and "steps" in printed and "denoising one view" in printed


def test_sampling_is_timed_beside_its_slow_twins(tmp_path) -> None:
    save_model(make_dfm(), tmp_path, {})
    ratios = Sampling(str(tmp_path), torch.get_num_threads(), frame=16).run()
    names = {"denoising step, unguided", "frame 16x16", "131,072 look-ups and gradient"}
    assert ratios.keys() == names and min(ratios.values()) > 0
