"""The exponential moving average of a module's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """An exponential moving average of the trainable parameters of a module.

    After the n-th update (n = 1, 2, ...) the average is d a + (1 - d) p with
    d = min(decay, n / (n + warmup - 1)), so that the random initial weights are soon
    forgotten although `decay` is close to one. `warmup = 1` uses `decay` throughout.
    """

    def __init__(self, module: nn.Module, decay: float, warmup: float) -> None:
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self._parameters = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self._averages = {
            name: parameter.detach().clone()
            for name, parameter in self._parameters.items()
        }

    def decay_at(self, update: int) -> float:
        """The decay of update number `update`, which counts from 1."""
        return min(self.decay, update / (update + self.warmup - 1))

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the module's present weights."""
        self.updates += 1
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self._averages.values()),
            [parameter.detach() for parameter in self._parameters.values()],
            1 - self.decay_at(self.updates),
        )

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The module holds the averaged weights inside this block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        # Exchange storage, not values: nothing is copied and both keep their layout.
        for name, parameter in self._parameters.items():
            average = self._averages[name]
            self._averages[name] = parameter.data
            parameter.data = average

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self._averages)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Restore averages that `tensors` returned."""
        for name, average in self._averages.items():
            average.copy_(tensors[name])
        self.updates = updates
