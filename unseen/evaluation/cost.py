"""What rendering a scene costs: evaluations, operations, time, memory."""

from __future__ import annotations

import dataclasses
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from unseen.geometry.cameras import Cameras
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class RenderCost:
    """The cost of one frame.

    `evaluations_per_ray` is the scene's (at most; None where it does not render ray by
    ray). `operations` are the floating point operations of torch's matrix products and
    convolutions, a multiplication and an addition counting two; compiled loops are not
    seen. `seconds` is the fastest of several frames. `peak_bytes` is the most that
    tensors took at once beyond what was there before.
    """

    evaluations_per_ray: int | None
    operations: int
    seconds: float
    peak_bytes: int

    @property
    def frames_per_second(self) -> float:
        return 1 / self.seconds


def render_cost(
    scene: Scene, cameras: Cameras, size: tuple[int, int], repeats: int = 3
) -> RenderCost:
    """Render `cameras` (*batch view), one scene's or a batch's, and measure.

    The first rendering counts operations and memory, and leaves whatever the scene
    keeps for later ones; the fastest of the `repeats` that follow is the time. All
    numbers are divided by the number of cameras, except the peak of memory, which is
    that of the one call.
    """
    cost = frame_cost(
        lambda: scene.render(cameras, size),
        cameras.device,
        cameras.near.numel(),
        repeats,
    )
    return dataclasses.replace(cost, evaluations_per_ray=scene.evaluations_per_ray)


@torch.no_grad()
def frame_cost(
    make: Callable[[], object], device: torch.device, frames: int = 1, repeats: int = 3
) -> RenderCost:
    """The same of anything that makes so many frames when it is called.

    Where nothing is repeated, the time is that of the call that also counts.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)

    def timed() -> float:
        started = time.perf_counter()
        make()
        if on_gpu:
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with FlopCounterMode(display=False) as counter, TensorMemory() as memory:
        first = timed()
    peak = memory.peak
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(device) - before
    seconds = min([timed() for _ in range(repeats)], default=first)
    return RenderCost(None, counter.get_total_flops() // frames, seconds / frames, peak)


class TensorMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that are made in a block, and are alive.

    A processor's allocator keeps no such count. What operations take inside of
    themselves, and arrays that are no tensors, are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # What comes in from outside was there before; a view of it is nothing new.
        self._meet((args, kwargs), new=False)
        result = func(*args, **(kwargs or {}))
        self._meet(result, new=True)
        return result

    def _meet(self, values: Any, new: bool) -> None:
        for value in tree_leaves(values):
            if not isinstance(value, torch.Tensor):
                continue
            storage = value.untyped_storage()
            key = storage._cdata
            if key in self._known:
                continue
            self._known.add(key)
            size = storage.nbytes() if new else 0
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size
