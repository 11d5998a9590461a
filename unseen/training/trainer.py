"""The one trainer. It knows `Method` and an iterator of examples, nothing else."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from unseen.errors import UserError
from unseen.geometry.views import Example
from unseen.methods.method import Method
from unseen.training.checkpoint import (
    Trainable,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from unseen.training.config import TrainConfig
from unseen.training.distributed import average_gradients, rank, world_size
from unseen.training.ema import ExponentialAverage
from unseen.training.interrupt import StopRequest
from unseen.training.meter import Meter
from unseen.training.optimizer import learning_rate, make_optimizer
from unseen.training.random import derive_generator, derive_seed
from unseen.training.run_log import RunLog
from unseen.training.sample_grid import sample_grid, save_sample_grid

Batches = Callable[[int], Iterator[Example]]
"""The endless stream of batched examples, from the n-th on."""


def choose_device(name: str) -> torch.device:
    """'auto' is the GPU where there is one and the CPU elsewhere.

    Raises:
        UserError: torch does not know the device or it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"the device '{name}' is not available: use 'auto', 'cpu' or 'cuda'."
        ) from error


class Trainer:
    """Trains a method and keeps its run folder.

    A step depends on the weights, the seed and the step's number only: all noise
    comes from generators seeded with (seed, step, pass, rank), and the data from a
    stream that can start anywhere. So a resumed run repeats an uninterrupted one, on
    the CPU bit for bit.

    Args:
        method: The method to train, already initialised.
        config: The settings.
        batches: `batches(n)` iterates over batched examples, from the n-th on. It
            should not end.
        folder: The run folder; gets `checkpoints/`, `samples/`, `log.jsonl`.
        held_out: A batched example for the sample grids; without it none are drawn.
        on_save: Called after every checkpoint, with the averaged weights swapped in;
            gets the trainer.
    """

    def __init__(
        self,
        method: Method,
        config: TrainConfig,
        batches: Batches,
        folder: Path,
        held_out: Example | None = None,
        on_save: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.config = config
        self.device = choose_device(config.device)
        self.method = method.to(self.device).train()
        self.average = ExponentialAverage(method, config.ema_decay, config.ema_warmup)
        self.optimizer = make_optimizer(method, config)
        self.folder = folder
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self._bad_in_row = 0
        self._meter = Meter()
        self._batches = batches
        self._held_out = held_out
        self._on_save = on_save
        self._parameters = [p for p in method.parameters() if p.requires_grad]
        self._is_main = rank() == 0
        self._stopped = False
        self._saved_step = -1
        self._clock = 0.0

    @property
    def _trainable(self) -> Trainable:
        return Trainable(self.method, self.average, self.optimizer)

    # ---- State ----------------------------------------------------------------------

    def resume(self) -> None:
        """Continue from the newest checkpoint of the run folder, if there is one."""
        checkpoints = list_checkpoints(self.folder / "checkpoints")
        if not checkpoints:
            return
        state = load_checkpoint(checkpoints[-1], self._trainable)
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.skipped = state["skipped"]
        self._bad_in_row = state["bad_in_row"]
        self._meter = Meter(**state["meter"])
        self._saved_step = self.step

    def save(self) -> None:
        """Write a checkpoint."""
        state = {
            "seconds": self.seconds,
            "skipped": self.skipped,
            "bad_in_row": self._bad_in_row,
            "meter": self._meter.state(),
        }
        self._saved_step = self.step
        if not self._is_main:
            return
        folder, keep = self.folder / "checkpoints", self.config.keep_checkpoints
        save_checkpoint(folder, self.step, self._trainable, state, keep)
        if self._on_save is not None:
            with self.average.swapped_in():
                self._on_save(self)

    # ---- The loop -------------------------------------------------------------------

    def train(self) -> None:
        """Train until `config.steps` steps are done; the last one is checkpointed.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the step was finished and saved.
            UserError: too many steps in a row were not finite, or the data ended.
        """
        c = self.config
        log = RunLog(self.folder, self.step, c.steps) if self._is_main else None
        with self._forked_randomness(), log or contextlib.nullcontext():
            with StopRequest() as stop:
                self._clock = time.perf_counter()
                batches = self._batches(self.step * c.accumulate)
                while self.step < c.steps and not self._stopped:
                    if self._train_step(batches, stop):
                        self._periodic(log)
            if self.step != self._saved_step:
                self.save()
        if self.step < c.steps:
            raise KeyboardInterrupt(
                f"stopped after step {self.step} of {c.steps} and saved; run the same "
                "command with --resume to continue"
            )

    def _train_step(self, batches: Iterator[Example], stop: StopRequest) -> bool:
        """One optimizer step; False if a stop request broke the data workers first."""
        c = self.config
        self.optimizer.zero_grad(set_to_none=True)
        try:
            examples = [self._next(batches) for _ in range(c.accumulate)]
        except RuntimeError:
            self._stopped = stop.requested  # Ctrl-C reaches the workers as well.
            if self._stopped:
                return False
            raise
        terms = self._backward(examples)
        # Every process must take the same decision, so the request is averaged too.
        flag = torch.full_like(terms["loss"], float(stop.requested))
        averaged = average_gradients(
            self._parameters, torch.stack([*terms.values(), flag])
        )
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, c.clip_norm or math.inf)
        *values, stopped, norm = torch.cat([averaged, norm[None]]).tolist()
        self._stopped = stopped > 0
        report = dict(zip(terms, values, strict=True)) | {"gradient_norm": norm}
        if math.isfinite(report["loss"]) and math.isfinite(norm):
            self._update(report)
        else:
            self._skip()
        self.step += 1
        seconds = time.perf_counter() - self._clock
        self._clock += seconds
        self.seconds += seconds
        self._meter.add_step(c.batch_size * c.accumulate * world_size(), seconds)
        return True

    def _next(self, batches: Iterator[Example]) -> Example:
        try:
            return next(batches).to(self.device)
        except StopIteration:
            raise UserError(
                f"the data ended at step {self.step} of {self.config.steps}: give a "
                "stream that repeats."
            ) from None

    def _backward(self, examples: list[Example]) -> dict[str, Tensor]:
        """Add up the gradients of all passes; returns the mean loss and its terms."""
        c = self.config
        sums: dict[str, Tensor] = {}
        for index, example in enumerate(examples):
            place = (c.seed, self.step, index, rank())
            # Layers such as dropout know the global generator only.
            torch.manual_seed(derive_seed(*place))  # random: forked by `train`
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=c.precision == "bf16"
            ):
                losses = self.method.loss(example, derive_generator(*place))
            (losses.total / c.accumulate).backward()
            for name, value in {**losses.terms, "loss": losses.total}.items():
                value = value.detach().float() / c.accumulate
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def _update(self, report: dict[str, float]) -> None:
        """Move the weights and note what is to be logged."""
        self._bad_in_row = 0
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimizer.step()
        self.average.update()
        self._meter.add_values(report)

    def _skip(self) -> None:
        """Leave the weights alone after a loss or gradient that is not finite."""
        self.skipped += 1
        self._bad_in_row += 1
        if self._bad_in_row >= self.config.max_bad_steps:
            raise UserError(
                f"the loss or its gradient was not finite in {self._bad_in_row} steps "
                f"in a row up to step {self.step}: lower the learning rate, check the "
                "data, or train in fp32, from the last checkpoint on."
            )

    # ---- What happens now and then --------------------------------------------------

    def _periodic(self, log: RunLog | None) -> None:
        """Log, save and draw when it is time to."""
        c = self.config
        if log is not None:
            log.advance(self.step)
            if self.step % c.log_every == 0:
                self._log(log)
        if self.step % c.checkpoint_every == 0 and self.step != self._saved_step:
            self.save()
        drawing = c.sample_every > 0 and self._held_out is not None
        last = self.step == c.steps
        if drawing and self._is_main and (self.step % c.sample_every == 0 or last):
            self.draw_samples()

    def _log(self, log: RunLog) -> None:
        """Write means over the steps since the last entry, and start over."""
        meter, self._meter = self._meter, Meter()
        entry: dict[str, float] = {"step": self.step, **meter.means()}
        entry["learning_rate"] = learning_rate(self.config, self.step - 1)
        entry["skipped"] = self.skipped
        entry["examples_per_second"] = meter.examples_per_second()
        entry["seconds"] = self.seconds
        log.write(entry, meter.seconds_per_step() * (self.config.steps - self.step))

    def draw_samples(self) -> None:
        """Write `samples/step-STEP.png`, drawn with the averaged weights."""
        if self._held_out is None:
            return
        with self.average.swapped_in():
            image = sample_grid(
                self.method, self._held_out.to(self.device), self.config.seed
            )
        path = self.folder / "samples" / f"step-{self.step:08d}.png"
        save_sample_grid(image, path)

    @contextlib.contextmanager
    def _forked_randomness(self) -> Iterator[None]:
        """Leave torch's global generators as they were found."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            yield
