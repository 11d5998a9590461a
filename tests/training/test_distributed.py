"""Two processes train as one with twice the batch."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.tiny_method import TinyMethod, tiny_batches
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


def _worker(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    assert distributed.start("cpu") == "cpu"
    assert (distributed.rank(), distributed.world_size()) == (rank, 2)
    _train(CONFIG, folder)
    distributed.stop()


def test_two_processes_equal_accumulation(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pair = tmp_path / "pair"
    pair.mkdir()
    processes = [
        context.Process(target=_worker, args=(rank, port, pair)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]

    # Alone, the pass of the first process and that of the second come in turn.
    alone = tmp_path / "alone"
    alone.mkdir()
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


def _train_alone(folder: Path) -> None:
    _train(dataclasses.replace(CONFIG, accumulate=2), folder)
