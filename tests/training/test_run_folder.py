"""The run folder tells what was trained and by what."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from unseen.errors import UserError
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset
from unseen.training.run_folder import (
    Run,
    check_new,
    check_resumable,
    read_run,
    write_run,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    width: int = 4


PRESET = Preset(Settings(8), TrainConfig(steps=5, betas=(0.5, 0.9)), 2, 3)
RUN = Run("small", "Tiny", PRESET, ("/data",), (1.0,), "start")
CONFIGS = {"Tiny": Settings}


def test_round_trip_and_a_record_of_every_start(tmp_path: Path) -> None:
    write_run(tmp_path, RUN, 0)
    write_run(tmp_path, RUN, 3)
    assert read_run(tmp_path, CONFIGS) == RUN
    starts = json.loads((tmp_path / "versions.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 3]
    assert starts[0]["torch"] == torch.__version__
    names = {"time", "command", "unseen", "commit", "python", "platform", "threads"}
    assert names < starts[0].keys()


def test_full_folder_is_refused(tmp_path: Path) -> None:
    check_new(tmp_path)
    check_new(tmp_path / "new")
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match=r"not empty.*--resume"):
            check_new(path)


def test_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to resume"):
        read_run(tmp_path, CONFIGS)


@pytest.mark.parametrize(
    "change", [{"method": "Other"}, {"settings": None}, {"data": None}]
)
def test_run_that_is_not_understood(tmp_path: Path, change: dict) -> None:
    write_run(tmp_path, RUN, 0)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"config\.json"):
        read_run(tmp_path, CONFIGS)


@pytest.mark.parametrize("name", ["seed", "batch_size", "accumulate"])
def test_what_moves_the_data_cannot_change(name: str) -> None:
    changed = dataclasses.replace(PRESET.train, **{name: 17})
    with pytest.raises(UserError, match=f"'{name}'"):
        check_resumable(PRESET, dataclasses.replace(PRESET, train=changed))


def test_method_cannot_change_but_the_length_of_the_run_can() -> None:
    with pytest.raises(UserError, match="'method'"):
        check_resumable(PRESET, dataclasses.replace(PRESET, method=Settings(9)))
    with pytest.raises(UserError, match="'num_context'"):
        check_resumable(PRESET, dataclasses.replace(PRESET, num_context=1))
    longer = dataclasses.replace(PRESET.train, steps=50, learning_rate=1.0)
    check_resumable(PRESET, dataclasses.replace(PRESET, train=longer))
