"""A named, complete recipe: which method, trained how, on which views."""

from __future__ import annotations

import dataclasses
from typing import Any

from unseen.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """Everything that `unseen train NAME` needs besides the data.

    `method` is the method's configuration dataclass; its type says which method.
    """

    method: Any
    train: TrainConfig
    num_context: int = 1
    """Views that are given."""
    num_target: int = 2
    """Views that are asked for."""
    description: str = ""
    """One line for `unseen models`."""


PLAIN_ADAM = TrainConfig(
    learning_rate=1e-4,
    warmup_steps=0,
    betas=(0.9, 0.999),
    clip_norm=0.0,
    ema_decay=0.0,
)
"""Adam without warm-up, clipping or averaging, as most of the published systems used
it; steps and batch size are theirs to say."""

MINUTES = TrainConfig(
    steps=2_000,
    batch_size=8,
    learning_rate=1e-3,
    warmup_steps=50,
    decay="cosine",
    ema_decay=0.99,
    checkpoint_every=250,
    sample_every=500,
    num_workers=0,
)
"""For thin networks on two processor cores."""
