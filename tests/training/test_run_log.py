"""The log: readable whatever happened to the process that wrote it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from unseen.training.run_log import RunLog, format_duration, read_log

ENTRY = {"loss": 0.5, "examples_per_second": 12.0}


@pytest.fixture(autouse=True)
def _no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def _write(folder: Path, first_step: int, steps: list[int]) -> None:
    with RunLog(folder, first_step, 10) as log:
        for step in steps:
            log.advance(step)
            log.write({"step": step, **ENTRY}, seconds_left=90.0)


def test_every_line_is_json_and_plain_lines_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, 0, [1, 2])
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, **ENTRY},
        {"step": 2, **ENTRY},
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "step 2/10  loss 0.5  12 examples/s  1m 30s left"
    assert len(printed) == 2


def test_resumed_log_drops_what_will_be_repeated(tmp_path: Path) -> None:
    _write(tmp_path, 0, [1, 2, 3])
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # Killed while writing.
    _write(tmp_path, 2, [3])
    entries = read_log(tmp_path / "log.jsonl")
    assert [entry["step"] for entry in entries] == [1, 2, 3]


def test_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.3, "12s"), (75.0, "1m 15s"), (7260.0, "2h 01m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
