"""Seconds of a training step of DFM, and what its fast parts save.

    python -m benchmarks.training [--threads 2] [--batch 8]

A step is the loss, its gradient and the optimiser's, on random images: the rendering of
frustum volumes costs the same whatever they show. Every row turns one thing off, in
the same run, so that ratios can be compared between machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from unittest import mock

import rich
import torch
import tyro
from rich.table import Table

from unseen.cli.allocator import keep_freed_memory
from unseen.data.cameras import object_camera
from unseen.geometry.cameras import turn_cameras
from unseen.geometry.views import Example, Views
from unseen.methods.dfm import DFM
from unseen.methods.registry import PRESETS, build_method
from unseen.scenes.frustum_volume import FrustumVolumeScene

IS_COMPILED = "unseen.scenes.frustum_volume.is_compiled"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time the training of a DFM with frustum volumes."""

    preset: tyro.conf.Positional[str] = "vehicles-64"
    threads: int = 2
    batch: int = 8
    """Scenes of a step."""
    repeats: int = 3
    """The fastest of so many counts."""

    def run(self) -> dict[str, float]:
        """Print the table; what each fast part saves, as a ratio of seconds."""
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        method = build_method(PRESETS[self.preset].method)
        assert isinstance(method, DFM)
        table = Table(
            title=f"{self.preset}, {self.batch} scenes, {self.threads} threads"
        )
        for column in ("what", "seconds", "without", "seconds", "ratio"):
            table.add_column(column, justify="right" if column == "seconds" else "left")

        ratios: dict[str, float] = {}

        def add(what: str, seconds: float, without: str, twin: float) -> None:
            ratio = f"{twin / seconds:.1f}x"
            # What bf16 saves is the machine's own.
            if without != "in fp32":
                ratios[f"{what}, {without}"] = twin / seconds
            table.add_row(what, f"{seconds:.3f}", without, f"{twin:.3f}", ratio)

        example = self._example(method)
        step = self._time(_Step(method, example, bf16=True))
        plain = self._time(_Step(method, example, bf16=False))
        add("step in bf16", step, "in fp32", plain)
        with _rendering_by_torch():
            plain = self._time(_Step(method, example, bf16=True))
        add("step in bf16", step, "rendering by torch", plain)
        march = _March(method, example)
        ordered = self._time(march)
        with _rendering_by_torch():
            plain = self._time(march)
        add("rendering and its gradient", ordered, "rendering by torch", plain)
        march.shuffle()
        add("rendering and its gradient", ordered, "pixels in order", self._time(march))
        rich.print(table)
        return ratios

    def _example(self, method: DFM) -> Example:
        generator = torch.Generator().manual_seed(0)
        side, preset = method.config.image_size, PRESETS[self.preset]
        given = preset.num_context
        given = given if isinstance(given, int) else given[1]
        count = given + preset.num_target
        images = torch.rand(self.batch, count, 3, side, side, generator=generator)
        # The views of a scene go around it.
        azimuths = torch.arange(count) * (2 * torch.pi / count)
        cameras = turn_cameras(object_camera(40.0, 20.0), azimuths)
        views = Views(images, cameras.expand(self.batch, count))
        return Example(views[:, :given], views[:, given:])

    def _time(self, call) -> float:
        """The fastest of some calls, after one to warm up."""
        call()
        times = []
        for _ in range(self.repeats):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        return min(times)


class _Step:
    """One step of training."""

    def __init__(self, method: DFM, example: Example, bf16: bool) -> None:
        self._method, self._example, self._bf16 = method, example, bf16
        self._optimizer = torch.optim.AdamW(method.parameters(), lr=0.0)

    def __call__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            losses = self._method.loss(self._example, generator)
        self._optimizer.zero_grad()
        losses.total.backward()
        self._optimizer.step()


class _March:
    """The supervised pixels of a batch of frustum volumes, forward and backward."""

    def __init__(self, method: DFM, example: Example) -> None:
        config = method.config
        side, batch = config.image_size, len(example.target.images)
        with torch.no_grad():
            scene = method.reconstruct(example.context)
        assert isinstance(scene, FrustumVolumeScene)
        volumes = scene.volumes.detach().requires_grad_()
        self._scene = dataclasses.replace(scene, volumes=volumes)
        self._cameras, self._size = example.target.cameras[:, 0], (side, side)
        generator = torch.Generator().manual_seed(0)
        order = [torch.randperm(side**2, generator=generator) for _ in range(batch)]
        self._unordered = torch.stack(order)[:, : config.target_pixels]
        self._pixels = self._unordered.sort(dim=-1).values

    def shuffle(self) -> None:
        """Take the pixels as they were drawn."""
        self._pixels = self._unordered

    def __call__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shown = self._scene.render_pixels(
            self._cameras, self._size, self._pixels, generator
        )
        shown.color.sum().backward()


@contextlib.contextmanager
def _rendering_by_torch() -> Iterator[None]:
    """The twin of the compiled loops that other devices use."""
    with mock.patch(IS_COMPILED, return_value=False):
        yield


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
