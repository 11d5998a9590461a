"""Checkpoints: rotation, and every kind of file that is not one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.tiny_method import TinyMethod
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.training.checkpoint import (
    FORMAT_VERSION,
    Trainable,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from unseen.training.config import TrainConfig
from unseen.training.ema import ExponentialAverage
from unseen.training.optimizer import make_optimizer


def _trainable(seed: int) -> Trainable:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method = TinyMethod()
    optimizer = make_optimizer(method, TrainConfig())
    average = ExponentialAverage(method, 0.9, 1.0)
    generator = torch.Generator().manual_seed(seed)
    for parameter in method.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    average.update()
    return Trainable(method, average, optimizer)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path, 7, _trainable(0), {"note": [1.5]}, keep=2)


def _snapshot(trainable: Trainable, folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(save_checkpoint(folder, 1, trainable, {}, keep=1))[0]


def test_round_trip(checkpoint: Path, tmp_path: Path) -> None:
    other = _trainable(1)
    state = load_checkpoint(checkpoint, other)
    assert (state["step"], state["note"], other.average.updates) == (7, [1.5], 1)
    original, _ = read_tensors(checkpoint)
    restored = _snapshot(other, tmp_path / "again")
    assert original.keys() == restored.keys()
    assert all(torch.equal(original[name], restored[name]) for name in original)


def test_layout_of_moments_follows_the_weights(checkpoint: Path) -> None:
    other = _trainable(1)
    load_checkpoint(checkpoint, other)
    weight = other.method.network[0].weight  # type: ignore[index]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert other.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    trainable = _trainable(0)
    for step in (8, 9, 10, 100):
        save_checkpoint(tmp_path, step, trainable, {}, keep=2)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-00000010.safetensors", "step-00000100.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_failed_write_leaves_the_old_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="disk is full"):
            save_checkpoint(checkpoint.parent, 8, _trainable(1), {}, keep=1)
    assert list_checkpoints(checkpoint.parent) == [checkpoint]
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]
    load_checkpoint(checkpoint, _trainable(1))


Change = Callable[[dict[str, torch.Tensor], dict], None]
WEIGHT = "network.0.weight"


def _newer(tensors: dict[str, torch.Tensor], state: dict) -> None:
    state["format_version"] = FORMAT_VERSION + 1


DAMAGES: dict[str, tuple[Change, str]] = {
    "missing": (lambda t, _: t.pop(f"model.{WEIGHT}"), f"model.{WEIGHT}"),
    "missing average": (lambda t, _: t.pop(f"ema.{WEIGHT}"), f"ema.{WEIGHT}"),
    "missing moment": (
        lambda t, _: t.pop(f"optimizer.{WEIGHT}.exp_avg"),
        "optimizer",
    ),
    "extra": (lambda t, _: t.update({"model.x": torch.zeros(1)}), "model.x"),
    "extra group": (lambda t, _: t.update({"x": torch.zeros(1)}), "'x'"),
    "extra moment": (
        lambda t, _: t.update({"optimizer.x.exp_avg": torch.zeros(1)}),
        "optimizer.x.exp_avg",
    ),
    "misshapen": (
        lambda t, _: t.update({f"model.{WEIGHT}": torch.zeros(2)}),
        f"model.{WEIGHT}",
    ),
    "misshapen moment": (
        lambda t, _: t.update({f"optimizer.{WEIGHT}.exp_avg": torch.zeros(2)}),
        f"optimizer.{WEIGHT}.exp_avg",
    ),
    "not finite": (lambda t, _: t[f"ema.{WEIGHT}"].fill_(torch.nan), f"ema.{WEIGHT}"),
    "newer": (_newer, "newer version"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_changes_nothing(
    damage: str, checkpoint: Path, tmp_path: Path
) -> None:
    tensors, metadata = read_tensors(checkpoint)
    state = json.loads(metadata["state"])
    change, named = DAMAGES[damage]
    change(tensors, state)
    write_tensors(checkpoint, tensors, {"state": json.dumps(state)})

    trainable = _trainable(1)
    before = _snapshot(trainable, tmp_path / "before")
    with pytest.raises(UserError) as error:
        load_checkpoint(checkpoint, trainable)
    assert named in str(error.value)
    assert str(checkpoint) in str(error.value)
    after = _snapshot(trainable, tmp_path / "after")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_truncated_checkpoint(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(checkpoint, _trainable(1))


def test_other_safetensors_file(checkpoint: Path) -> None:
    write_tensors(checkpoint, {"a": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_checkpoint(checkpoint, _trainable(1))
