"""What compiled loops share: how numba compiles them, and threads that run them.

Some computations on a CPU are bound by the memory traffic between torch operations.
As one loop over their elements they touch everything once. Such loops are compiled by
numba; each has a twin in torch, which runs elsewhere and in tests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, no_type_check

import numba
import numpy as np
import torch

# What is infinite or not a number stays what it is; the rest of rounding is free.
_settings = {"nogil": True, "cache": True, "error_model": "numpy"}
_settings["fastmath"] = {"contract", "arcp", "nsz", "reassoc"}
kernel = numba.njit(**_settings)
"""Compiles a function that runs without the interpreter's lock."""
inlined = numba.njit(**_settings, inline="always")
"""Compiles a function into its callers."""


def run_tasks(function: Callable[..., None], tasks: list[tuple[Any, ...]]) -> None:
    """Run a kernel on the arguments of every task, on as many threads as torch uses.

    Tasks must write to places of their own; then results do not depend on threads.
    """
    workers = min(torch.get_num_threads(), len(tasks))
    if workers <= 1:
        for task in tasks:
            function(*task)
        return
    list(_pool(workers).map(lambda task: function(*task), tasks))


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="unseen-compiled")


@inlined
@no_type_check
def locate(x, size):
    """Lower neighbour on an axis, and the weights of it and of the next voxel.

    See `interpolation._locate`: weights fall off linearly outside of the grid.
    """
    x = x * np.float32(size) - np.float32(0.5)
    highest = max(size - 2, 0)
    lower = np.int64(0)
    if x >= highest + 1:
        lower = np.int64(highest)
    elif x > 0:
        lower = min(np.int64(np.floor(x)), np.int64(highest))
    x = x - np.float32(lower)
    first = max(np.float32(1) - abs(x), np.float32(0))
    second = max(np.float32(1) - abs(x - np.float32(1)), np.float32(0))
    if size == 1:
        second = np.float32(0)
    return lower, first, second
