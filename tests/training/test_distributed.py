"""Two processes train as one with twice the batch."""

from __future__ import annotations

import dataclasses
import datetime
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.tiny_method import TinyMethod, tiny_batches
from tests.two_processes import run_in_two
from unseen.files import read_tensors
from unseen.geometry.views import Example
from unseen.training import distributed
from unseen.training.checkpoint import list_checkpoints
from unseen.training.config import TrainConfig
from unseen.training.run_log import read_log
from unseen.training.trainer import Trainer

CONFIG = TrainConfig(
    steps=3, learning_rate=1e-2, warmup_steps=0, log_every=1, device="cpu"
)


def _train(config: TrainConfig, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method = TinyMethod(noise=0.0, dropout=0.0).double()
    # A weight that the second process never uses; its mean gradient is a half.
    method.extra = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    plain_loss = method.loss

    def loss(example: Example, generator: torch.Generator):
        losses = plain_loss(example, generator)
        if distributed.rank() == 0:
            extra = method.extra.sum() * (0.5 * distributed.world_size())
            losses = dataclasses.replace(losses, total=losses.total + extra)
        return losses

    method.loss = loss  # type: ignore[method-assign]

    def batches(first: int) -> Iterator[Example]:
        # Both take turns in one stream.
        stream = tiny_batches(first)
        while True:
            taken = [next(stream) for _ in range(distributed.world_size())]
            yield taken[distributed.rank()]

    Trainer(method, config, batches, folder).train()


def test_two_processes_equal_accumulation(tmp_path: Path) -> None:
    pair = tmp_path / "pair"
    pair.mkdir()
    run_in_two(lambda rank: _train(CONFIG, pair))

    # Alone, the pass of the first process and that of the second come in turn.
    alone = tmp_path / "alone"
    alone.mkdir()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_train_alone, args=(alone,))
    process.start()
    process.join()
    assert process.exitcode == 0
    paths = [list_checkpoints(f / "checkpoints")[-1] for f in (pair, alone)]
    first, second = (read_tensors(path)[0] for path in paths)
    for name in first:
        if name.startswith(("model.network", "ema.")):
            torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6)
    # AdamW does not mind the scale of gradients, but their norm shows it.
    logs = [read_log(folder / "log.jsonl") for folder in (pair, alone)]
    for name in ("step", "loss", "gradient_norm"):
        values = [[entry[name] for entry in log] for log in logs]
        assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_processes_wait_for_each_other_for_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Longer than torch's ten minutes: one may have more to prepare than another."""
    told: dict[str, datetime.timedelta] = {}
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda _, **more: told.update(more)
    )
    assert distributed.start("cpu") == "cpu"
    assert told["timeout"] >= datetime.timedelta(hours=12)


def _train_alone(folder: Path) -> None:
    _train(dataclasses.replace(CONFIG, accumulate=2), folder)
