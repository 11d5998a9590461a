"""A run that is killed and resumed equals one that is not, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny_method import TinyMethod, tiny_batches, tiny_example
from unseen.files import read_tensors
from unseen.training.checkpoint import list_checkpoints
from unseen.training.config import TrainConfig
from unseen.training.run_log import read_log
from unseen.training.trainer import Trainer

# 30 steps of two passes; neither the log's window nor the kills fall on a checkpoint.
CONFIG = TrainConfig(
    steps=30,
    accumulate=2,
    learning_rate=1e-2,
    warmup_steps=12,
    decay="cosine",
    weight_decay=0.1,
    log_every=3,
    checkpoint_every=10,
    sample_every=7,
    keep_checkpoints=3,
    device="cpu",
)
TIMES = ("seconds", "examples_per_second")


def _die_at(number: int, function: Callable) -> Callable:
    """`function`, with a SIGKILL instead of its `number`-th call."""
    calls = 0

    def wrapped(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return wrapped


def _train(folder: Path, resume: bool, die_in: str, number: int) -> None:
    """Train the tiny method; in the child process."""
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]
    torch.manual_seed(0)
    method = TinyMethod()
    if die_in == "loss":
        method.loss = _die_at(number, method.loss)  # type: ignore[method-assign]
    trainer = Trainer(method, CONFIG, tiny_batches, folder, tiny_example(99))
    if die_in == "rename":
        os.replace = _die_at(number, os.replace)
    if resume:
        torch.manual_seed(1)  # Another process has another history.
        trainer.resume()
    trainer.train()


def _run(
    folder: Path, resume: bool = False, die_in: str = "", number: int = 0
) -> int | None:
    """Train in a process of its own, which dies for real; its exit status."""
    folder.mkdir(exist_ok=True)
    # A fork need not import torch again, which takes seconds.
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_train, args=(folder, resume, die_in, number))
    process.start()
    process.join()
    return process.exitcode


def _curve(folder: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in entry.items() if name not in TIMES}
        for entry in read_log(folder / "log.jsonl")
    ]


def _steps(folder: Path) -> list[int]:
    paths = list_checkpoints(folder / "checkpoints")
    return [int(path.stem.removeprefix("step-")) for path in paths]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An uninterrupted run, and one that was killed twice."""
    root = tmp_path_factory.mktemp("runs")
    plain, killed = root / "plain", root / "killed"
    assert _run(plain) == 0

    # In step 18, seven steps after the first checkpoint.
    assert _run(killed, die_in="loss", number=36) == -signal.SIGKILL
    assert _steps(killed) == [10]
    # The log is ahead of the checkpoint.
    assert _curve(killed)[-1]["step"] == 15

    # While the checkpoint of step 20 is written: there are the renames of the log
    # and of the sample grid of step 14, and then this one.
    status = _run(killed, resume=True, die_in="rename", number=3)
    assert status == -signal.SIGKILL
    assert _steps(killed) == [10]
    assert list((killed / "checkpoints").glob(".partial-*"))

    assert _run(killed, resume=True) == 0
    return plain, killed


def test_loss_curve_is_bit_identical(folders: tuple[Path, Path]) -> None:
    plain, killed = folders
    assert [entry["step"] for entry in _curve(plain)] == list(range(3, 31, 3))
    assert _curve(killed) == _curve(plain)


def test_final_state_is_bit_identical(folders: tuple[Path, Path]) -> None:
    states = [read_tensors(list_checkpoints(f / "checkpoints")[-1])[0] for f in folders]
    assert states[0].keys() == states[1].keys()
    for group in ("model", "ema", "optimizer"):
        assert any(name.startswith(group) for name in states[0])
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_sample_grids_are_identical(folders: tuple[Path, Path]) -> None:
    plain, killed = [sorted((f / "samples").iterdir()) for f in folders]
    assert [path.name for path in plain] == [path.name for path in killed]
    assert [path.read_bytes() for path in plain] == [p.read_bytes() for p in killed]


def test_remains_of_the_kill_are_gone(folders: tuple[Path, Path]) -> None:
    _, killed = folders
    assert _steps(killed) == [10, 20, 30]
    assert not list((killed / "checkpoints").glob(".partial-*"))
