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
