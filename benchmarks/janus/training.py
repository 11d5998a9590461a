"""Training of the priors, and of whatever else is small here."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.janus.prior import (
    SCHEDULE,
    TASKS,
    NetworkConfig,
    ViewNetwork,
    group_of,
)
from benchmarks.janus.world import GROUP, Renderings
from unseen.cli.progress import Bar, progress_bars
from unseen.diffusion.noise import random_levels
from unseen.diffusion.prediction import v_from_eps
from unseen.diffusion.schedules import unsqueeze_like
from unseen.files import check_tensors, read_tensors, write_tensors
from unseen.training.random import derive_generator

Loss = Callable[[int, torch.Generator], Tensor]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and how fast."""

    steps: int = 1500
    batch: int = 4
    """Groups of four views per step."""
    rate: float = 1e-3
    """Of Adam, at its highest; it falls to zero along a cosine."""
    warmup: int = 50
    """Steps in which the rate rises."""


def train(
    path: Path,
    network: nn.Module,
    config: TrainingConfig,
    loss: Loss,
    seed: int,
) -> float:
    """Train a network, or read it if it is there; the seconds that it took
    (of one core, so that other work on the machine does not count).

    `loss` is that of a step, by its number, which draws from the step's own generator.
    After a break the training starts anew: it takes minutes.
    """
    if path.exists():
        tensors, metadata = read_tensors(path)
        check_tensors(network.state_dict(), tensors, path)
        network.load_state_dict(tensors)
        return float(metadata["seconds"])
    started, total = time.process_time(), 0.0
    optimizer = torch.optim.Adam(network.parameters(), config.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, config)
    )
    network.train()
    with progress_bars() as progress:
        bar = Bar(progress, path.stem)
        for step in range(config.steps):
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(step, derive_generator(seed, step))
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.report(step + 1, config.steps)
            total += float(value.detach())
            if (step + 1) % 250 == 0:
                progress.console.print(f"{path.stem} {step + 1}: {total / 250:.4f}")
                total = 0.0
    network.eval()
    seconds = time.process_time() - started
    write_tensors(path, network.state_dict(), {"seconds": f"{seconds:.1f}"})
    return seconds


def _rate(step: int, config: TrainingConfig) -> float:
    """The share of the highest rate at a step."""
    rise = min((step + 1) / config.warmup, 1.0)
    return rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def new_network(config: NetworkConfig, seed: int) -> ViewNetwork:
    """A network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # random: layers draw from the global one
        return ViewNetwork(config)


def diffusion_loss(
    network: ViewNetwork,
    data: Renderings,
    batch: int,
    step: int,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of v in some groups of views, of one task per step.

    A group has one noise level where its views see each other.
    """
    task = TASKS[step % len(TASKS)]
    index = torch.randint(len(data), (batch,), generator=generator)
    x_0 = 2 * data.pixels(index) - 1
    together = group_of(task) > 1
    x_t, t, eps = random_levels(
        x_0 if together else x_0.flatten(0, 1), SCHEDULE, generator
    )
    alpha, sigma = (unsqueeze_like(s, x_t) for s in SCHEDULE.alpha_sigma(t))
    v = v_from_eps(x_t, eps, alpha, sigma)
    if together:
        x_t, v = x_t.flatten(0, 1), v.flatten(0, 1)
        t = t.repeat_interleave(GROUP)
    azimuth, elevation = data.azimuth[index], data.elevation[index]
    found = network(x_t, t, azimuth.flatten(), elevation.flatten(), task)
    return functional.mse_loss(found.float(), v)
