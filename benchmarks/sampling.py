"""Seconds and memory of sampling and rendering, beside their floors.

    python -m benchmarks.sampling [MODEL] [--threads 2]

The floor of a step is its floating-point operations over the machine's measured rate
of matrix products; that of a frame is the bytes that its look-ups read over the
measured rate of copying. Every fast path is timed against its slow twin in the same
run, so that ratios can be compared between machines.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable
from unittest import mock

import rich
import torch
import tyro
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import unseen
from unseen.cli.allocator import keep_freed_memory
from unseen.data.cameras import object_camera
from unseen.encoders.scene_model import plain_denoiser
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.dfm import DFM
from unseen.methods.method import SampleOptions
from unseen.rendering.interpolation import lookup, trilinear_corners
from unseen.scenes.frustum_volume import FrustumVolumeScene

SCENES = 4


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time the bundled model, or another one with frustum volumes."""

    model: tyro.conf.Positional[str] = "vehicles-64"
    threads: int = 2
    frame: int = 128
    """Side of the rendered frames in pixels."""

    def run(self) -> dict[str, float]:
        """Print the table; how many times faster each path is than its slow twin."""
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        method = unseen.load(self.model).method
        assert isinstance(method, DFM)
        with torch.no_grad():
            return self._report(method)

    def _report(self, method: DFM) -> dict[str, float]:
        ratios: dict[str, float] = {}
        flops_rate, bytes_rate = _machine()
        table = Table(title=f"{self.model}, {self.threads} threads, {SCENES} scenes")
        for column in ("what", "seconds", "floor", "of floor", "slow twin", "ratio"):
            table.add_column(column, justify="left" if column == "what" else "right")

        def add(what: str, seconds: float, floor: float, twin: float) -> None:
            cells = [f"{seconds:.4f}", f"{floor:.4f}", f"{seconds / floor:.1f}x"]
            table.add_row(what, *cells, f"{twin:.4f}", f"{twin / seconds:.1f}x")
            ratios[what.partition(" (")[0]] = twin / seconds

        side = method.config.image_size
        size = (side, side)
        context = Views(torch.rand(1, 1, 3, *size), object_camera(40.0, 20.0)[None])
        context = Views.cat([context] * SCENES)
        camera = method.completion_cameras(context)[:, :1]
        state = method.model.encode_context(context)
        condition = method.model.condition(state, camera, size)
        fast = method.model.denoiser(state, condition, camera, size)
        slow = plain_denoiser(method.model, state, condition, camera, size)
        x_t, t = torch.randn(SCENES, 1, 3, *size), torch.full((SCENES,), 0.5)
        with FlopCounterMode(display=False) as counter:
            fast(x_t, t)
        seconds = _time(lambda: fast(x_t, t))
        floor = counter.get_total_flops() / flops_rate
        add("denoising step, unguided", seconds, floor, _time(lambda: slow(x_t, t)))

        started = time.perf_counter()
        options = SampleOptions(guidance=2.0)
        scenes = method.sample_scene(context, list(range(SCENES)), options=options)
        each = (time.perf_counter() - started) / SCENES
        scene = scenes[0]
        assert isinstance(scene, FrustumVolumeScene)
        self._add_frame(scene, bytes_rate, add)
        options = SampleOptions(guidance=1.0)
        started = time.perf_counter()
        method.sample_scene(context, list(range(SCENES)), options=options)
        unguided = (time.perf_counter() - started) / SCENES
        _add_lookup(add, bytes_rate)
        rich.print(table)
        config = method.config.sampling
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"One scene: {each:.2f} s guided, {unguided:.2f} s unguided "
            f"({config.num_steps} steps x {len(config.azimuths)} views). "
            f"Machine: {flops_rate / 1e9:.0f} GFLOP/s, {bytes_rate / 1e9:.1f} GB/s. "
            f"Peak memory: {peak:.2f} GiB."
        )
        return ratios

    def _add_frame(
        self,
        scene: FrustumVolumeScene,
        bytes_rate: float,
        add: Callable[[str, float, float, float], None],
    ) -> None:
        camera = object_camera(40.0, 20.0)
        size = (self.frame, self.frame)
        pixels = torch.arange(self.frame**2).expand(1, -1)
        share = float(scene.occupancy.cells.float().mean())
        samples = self.frame**2 * scene.num_samples * share
        views, channels = scene.volumes.shape[0], scene.volumes.shape[-1]
        add(
            f"frame {self.frame}x{self.frame} ({share:.0%} of space occupied)",
            _time(lambda: scene.render(camera, size)),
            samples * views * 8 * channels * 4 / bytes_rate,
            self._time_twin(scene, camera, size, pixels),
        )

    @staticmethod
    def _time_twin(
        scene: FrustumVolumeScene,
        camera: Cameras,
        size: tuple[int, int],
        pixels: torch.Tensor,
    ) -> float:
        """All samples, looked up and composited by torch."""
        with mock.patch("unseen.scenes.frustum_volume.is_compiled", return_value=False):
            return _time(lambda: scene.render_pixels(camera, size, pixels))


def _add_lookup(
    add: Callable[[str, float, float, float], None], bytes_rate: float
) -> None:
    """Trilinear look-ups, forward and backward, against grid_sample."""
    volume = torch.randn(1, 32, 64, 64, 10).movedim(-1, 1)
    axes = [torch.linspace(0.1, 0.9, n) for n in (32, 64, 64)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
    points = grid.reshape(1, -1, 3)
    gradient = torch.randn(1, points.shape[1], 10)

    def fast() -> None:
        table = volume.clone().requires_grad_()
        corners = trilinear_corners(points, (32, 64, 64))
        lookup(table, corners).backward(gradient)

    def slow() -> None:
        table = volume.clone().requires_grad_()
        found = torch.nn.functional.grid_sample(
            table, 2 * points[:, :, None, None] - 1, align_corners=False
        )
        found[..., 0, 0].transpose(1, 2).backward(gradient)

    with torch.enable_grad():
        moved = 2 * points.shape[1] * 8 * 10 * 4
        add(
            "131,072 look-ups and gradient",
            _time(fast),
            moved / bytes_rate,
            _time(slow),
        )


def _machine() -> tuple[float, float]:
    """Floating-point operations and copied bytes (read and written) per second."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    source = torch.randn(2**26)
    target = torch.empty_like(source)
    return 2 * 2048**3 / _time(lambda: a @ b), 8 * 2**26 / _time(
        lambda: target.copy_(source)
    )


def _time(call: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
