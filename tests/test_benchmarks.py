"""The gate of the benchmarks: what counts as a regression."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import BASELINE, Benchmarks, lost

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
