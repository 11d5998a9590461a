"""Networks that are too large for the memory at hand.

Weights of half the size, and networks that take turns on the GPU. Both are hooks around
a network's call, so that whoever calls it hands over and gets float32 tensors, on the
device where the rest of the method lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

Precision = Literal["float32", "bfloat16", "float16"]
"""Of the weights of large networks, and of what they compute."""

_TYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def reduce_precision(networks: Sequence[nn.Module], precision: Precision) -> None:
    """Keep weights of networks in another type, and compute in it.

    Integers that they are given stay integers: bfloat16 could not tell one step of a
    schedule from the next.
    """
    dtype = _TYPES[precision]
    if dtype == torch.float32:
        return

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return _convert((args, kwargs), dtype)

    for network in networks:
        # What diffusers inherits: its own `to` warns of types that files name.
        nn.Module.to(network, dtype)
        network.register_forward_pre_hook(enter, with_kwargs=True)
        network.register_forward_hook(lambda m, a, found: _convert(found, torch.float))


def take_turns(networks: Sequence[nn.Module], device: torch.device | str) -> None:
    """Let networks, which are on the CPU, work on `device`, one at a time.

    A network stays there until another one is called, so that the U-Net is not moved in
    every step of sampling.
    """
    there: list[nn.Module] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if there != [module]:
            for other in there:
                other.to("cpu")
            there[:] = [module.to(device)]
        return _convert((args, kwargs), device)

    for network in networks:
        network.register_forward_pre_hook(enter, with_kwargs=True)
        network.register_forward_hook(lambda m, a, found: _convert(found, "cpu"))


def _convert(values: Any, to: torch.dtype | torch.device | str) -> Any:
    """Tensors in tuples, dictionaries and outputs, elsewhere or of another type."""

    def one(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if isinstance(to, torch.dtype) and not x.is_floating_point():
            return x
        return x.to(to)

    return tree.tree_map(one, values)
