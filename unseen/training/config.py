"""The settings of a training run."""

from __future__ import annotations

import dataclasses
from typing import Literal

_POSITIVE = (
    "steps",
    "batch_size",
    "accumulate",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "max_bad_steps",
    "learning_rate",
)
_NOT_NEGATIVE = (
    "warmup_steps",
    "weight_decay",
    "clip_norm",
    "seed",
    "sample_every",
    "num_workers",
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a method is trained, whatever the method."""

    steps: int = 100_000
    """Optimizer steps of the whole run."""
    batch_size: int = 8
    """Scenes per process and forward pass."""
    accumulate: int = 1
    """Forward passes per optimizer step; their gradients are averaged."""
    learning_rate: float = 1e-4
    """Peak learning rate of AdamW."""
    warmup_steps: int = 1000
    """Steps over which the learning rate rises linearly to its peak."""
    decay: Literal["constant", "cosine"] = "constant"
    """What the learning rate does after the warm-up; `cosine` ends at zero."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW; never applied to biases and norm scales."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of AdamW's first and second moment."""
    clip_norm: float = 1.0
    """Largest global gradient norm; 0 does not clip."""
    ema_decay: float = 0.9999
    """Decay per step of the averaged weights."""
    ema_warmup: float = 10.0
    """The n-th average decays by at most n / (n + ema_warmup - 1); 1 is none."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` computes the loss under autocast; weights stay in float32."""
    seed: int = 0
    """Seed of the initial weights, the data order and all noise."""
    log_every: int = 50
    """Steps between two lines of the log; each holds means over the steps between."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    sample_every: int = 2000
    """Steps between two sample grids; 0 draws none."""
    max_bad_steps: int = 20
    """Steps in a row that may be skipped for a loss or gradient that is not finite."""
    num_workers: int = 2
    """Processes that load data; 0 loads in the training process."""
    cache_data: bool = True
    """Keep decoded images in memory, once per loading process."""
    shuffle_buffer: int | None = None
    """Shuffle shard by shard, with so many objects at a time, for slow storage; without
    it every order of all objects is as likely."""
    device: str = "auto"
    """`auto` takes the GPU where there is one; otherwise a name that torch knows."""

    def __post_init__(self) -> None:
        for name in _POSITIVE + _NOT_NEGATIVE:
            value, least = getattr(self, name), 0 if name in _NOT_NEGATIVE else 1e-30
            if not value >= least:
                bound = "0 or more" if name in _NOT_NEGATIVE else "positive"
                raise ValueError(f"{name} must be {bound}, it is {value}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), it is {self.ema_decay}")
        if not self.ema_warmup >= 1:
            raise ValueError(f"ema_warmup must be 1 or more, it is {self.ema_warmup}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), they are {self.betas}")
