"""The training loop: it learns, accumulates, skips, stops, logs."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.training.tiny_method import TinyMethod, tiny_batches, tiny_example
from unseen.errors import UserError
from unseen.geometry.views import Example
from unseen.methods.method import Losses, Method
from unseen.training.checkpoint import list_checkpoints
from unseen.training.config import TrainConfig
from unseen.training.run_log import read_log
from unseen.training.trainer import Trainer

CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=0,
    log_every=2,
    checkpoint_every=3,
    sample_every=4,
    device="cpu",
)


@pytest.fixture(autouse=True)
def _no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard takes seconds to import; one test asks for it."""
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)


def _tiny(**settings) -> TinyMethod:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyMethod(**settings)


class FaultyMethod(Method):
    """A tiny method that calls `fault` before each loss."""

    def __init__(self, fault) -> None:
        super().__init__()
        self.inner = _tiny()
        self.fault = fault
        self.losses = 0

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        losses = self.inner.loss(example, generator)
        self.losses += 1
        factor = self.fault(self.losses)
        return Losses(losses.total * (1 if factor is None else factor), losses.terms)

    def sample(self, context, cameras, generator):
        return self.inner.sample(context, cameras, generator)


def test_run_folder_after_training(tmp_path: Path) -> None:
    trainer = Trainer(_tiny(), CONFIG, tiny_batches, tmp_path, tiny_example(99))
    trainer.train()
    entries = read_log(tmp_path / "log.jsonl")
    assert [entry["step"] for entry in entries] == [2, 4, 6]
    names = {"loss", "absolute", "gradient_norm", "learning_rate", "skipped"}
    assert names | {"examples_per_second", "seconds"} < entries[0].keys()
    assert entries[2]["loss"] < entries[0]["loss"]
    checkpoints = list_checkpoints(tmp_path / "checkpoints")
    assert [path.stem for path in checkpoints] == ["step-00000003", "step-00000006"]
    grids = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert grids == ["step-00000004.png", "step-00000006.png"]
    with Image.open(tmp_path / "samples" / grids[0]) as picture:
        # Blocks of 1, 2, 2 and 2 views of 8 pixels, four gaps of 2; 4 scenes.
        assert picture.size == (7 * 8 + 4 * 2, 4 * (8 + 2))


def test_logged_values_are_means_over_the_window(tmp_path: Path) -> None:
    for name, every in (("each", 1), ("window", 3)):
        config = dataclasses.replace(CONFIG, log_every=every)
        (tmp_path / name).mkdir()
        Trainer(_tiny(), config, tiny_batches, tmp_path / name).train()
    each = [entry["loss"] for entry in read_log(tmp_path / "each" / "log.jsonl")]
    window = [entry["loss"] for entry in read_log(tmp_path / "window" / "log.jsonl")]
    assert window == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3])


def test_accumulation_equals_the_large_batch(tmp_path: Path) -> None:
    def large(first: int) -> Iterator[Example]:
        small = tiny_batches(2 * first)
        while True:
            pair = [next(small), next(small)]
            context = [example.context for example in pair]
            target = [example.target for example in pair]
            yield Example(type(context[0]).cat(context), type(target[0]).cat(target))

    weights = []
    for accumulate, batches in ((2, tiny_batches), (1, large)):
        config = dataclasses.replace(CONFIG, accumulate=accumulate, steps=4)
        folder = tmp_path / str(accumulate)
        folder.mkdir()
        method = _tiny(noise=0.0, dropout=0.0).double()
        Trainer(method, config, batches, folder).train()
        weights.append(torch.cat([p.flatten() for p in method.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-9, atol=1e-12)
    assert not torch.equal(
        weights[0], torch.cat([p.flatten() for p in _tiny().double().parameters()])
    )


def test_noise_depends_on_seed_and_step_only(tmp_path: Path) -> None:
    # What others draw from the global generator does not matter, nor is it disturbed.
    results = []
    for index in range(2):
        torch.manual_seed(index)
        before = torch.get_rng_state()
        folder = tmp_path / str(index)
        folder.mkdir()
        method = _tiny()
        Trainer(method, CONFIG, tiny_batches, folder).train()
        assert torch.equal(torch.get_rng_state(), before)
        results.append(torch.cat([p.flatten() for p in method.parameters()]))
    assert torch.equal(*results)


def test_bad_steps_are_skipped_and_counted(tmp_path: Path) -> None:
    method = FaultyMethod(lambda n: float("nan") if n in (2, 3) else None)
    config = dataclasses.replace(CONFIG, log_every=1)
    trainer = Trainer(method, config, tiny_batches, tmp_path)
    trainer.train()
    entries = read_log(tmp_path / "log.jsonl")
    assert [entry["skipped"] for entry in entries] == [0, 1, 2, 2, 2, 2]
    assert ["loss" in entry for entry in entries] == [True, False, False, True] + [
        True
    ] * 2
    assert all(torch.isfinite(p).all() for p in method.parameters())
    assert trainer.average.updates == 4


def test_many_bad_steps_in_a_row_end_the_run(tmp_path: Path) -> None:
    method = FaultyMethod(lambda n: float("inf") if n > 4 else None)
    config = dataclasses.replace(CONFIG, max_bad_steps=2)
    with pytest.raises(UserError, match="not finite in 2 steps in a row"):
        Trainer(method, config, tiny_batches, tmp_path).train()
    checkpoints = list_checkpoints(tmp_path / "checkpoints")
    assert [path.stem for path in checkpoints] == ["step-00000003"]


def test_interrupt_finishes_the_step_and_saves(tmp_path: Path) -> None:
    method = FaultyMethod(
        lambda n: os.kill(os.getpid(), signal.SIGINT) if n == 4 else None
    )
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"after step 4 of 6.*--resume"):
        Trainer(method, CONFIG, tiny_batches, tmp_path).train()
    checkpoints = list_checkpoints(tmp_path / "checkpoints")
    assert checkpoints[-1].stem == "step-00000004"
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_that_breaks_the_workers_saves_the_last_step(tmp_path: Path) -> None:
    def batches(first: int) -> Iterator[Example]:
        yield from itertools.islice(tiny_batches(first), 2)
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("DataLoader worker exited unexpectedly")

    with pytest.raises(KeyboardInterrupt, match="after step 2"):
        Trainer(_tiny(), CONFIG, batches, tmp_path).train()
    assert list_checkpoints(tmp_path / "checkpoints")[-1].stem == "step-00000002"


def test_data_that_ends_is_an_error(tmp_path: Path) -> None:
    def batches(first: int) -> Iterator[Example]:
        return itertools.islice(tiny_batches(first), 2)

    with pytest.raises(UserError, match="data ended at step 2"):
        Trainer(_tiny(), CONFIG, batches, tmp_path).train()


def test_saving_publishes_averaged_weights(tmp_path: Path) -> None:
    published = []

    def publish(trainer: Trainer) -> None:
        weight = next(trainer.method.parameters())
        published.append((trainer.step, weight.detach().clone()))

    trainer = Trainer(_tiny(), CONFIG, tiny_batches, tmp_path, None, publish)
    trainer.train()
    assert [step for step, _ in published] == [3, 6]
    name, weight = next(iter(trainer.method.named_parameters()))
    assert torch.equal(published[-1][1], trainer.average.tensors()[name])
    assert not torch.equal(published[-1][1], weight)


def test_bf16_trains_and_keeps_weights_in_fp32(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, precision="bf16", steps=2)
    dtypes = []
    method = _tiny()
    method.network.register_forward_hook(lambda *a: dtypes.append(a[2].dtype))
    Trainer(method, config, tiny_batches, tmp_path).train()
    assert dtypes == [torch.bfloat16] * 2
    assert {p.dtype for p in method.parameters()} == {torch.float32}


def test_unknown_device_is_a_user_error(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, device="quantum")
    with pytest.raises(UserError, match="'quantum' is not available"):
        Trainer(_tiny(), config, tiny_batches, tmp_path)


def test_tensorboard_gets_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    pytest.importorskip("torch.utils.tensorboard")
    Trainer(_tiny(), CONFIG, tiny_batches, tmp_path).train()
    assert list((tmp_path / "tensorboard").glob("events.*"))
