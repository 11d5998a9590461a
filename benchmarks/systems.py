"""What a frame costs in each system: evaluations, operations, seconds, memory.

    python -m benchmarks.systems [--threads 2] [--side 32]

Networks have the published sizes and random weights, which leave no space empty: so
these are the plain costs, without what `benchmarks.pixelnerf` saves where nothing is.
Frames are `side` pixels wide and times are scaled to 128x128 where the cost grows with
the rays; ENR draws its own 128x128 pixels. Beside it stands the claim that Light Field
Networks made of themselves (Sitzmann et al. 2021): 500 frames per second with one
evaluation per ray, against 0.033 of pixelNeRF with 196, on a GPU.
"""

from __future__ import annotations

import dataclasses
import time

import rich
import torch
import tyro
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from unseen.geometry.views import Views
from unseen.methods.codenerf import CodeNeRFConfig
from unseen.methods.lfn import LFNConfig
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.methods.pixelnerf import PixelNeRFConfig
from unseen.methods.registry import PRESETS, build_method
from unseen.methods.srn import SRNConfig
from unseen.methods.visionnerf import VisionNeRFConfig
from unseen.model import object_camera

SIDE = 128
NAMES = (
    "srn-cars",
    "lfn-single",
    "codenerf-srn",
    "pixelnerf-srn",
    "visionnerf-srn",
    "enr-chairs",
)
_RAYS_ALONE = (
    SRNConfig | LFNConfig | CodeNeRFConfig | PixelNeRFConfig | VisionNeRFConfig
)


def evaluations(config: object) -> str:
    """How often a network is asked about a ray."""
    if isinstance(config, LFNConfig):
        return "1"
    if isinstance(config, SRNConfig):
        return f"{config.marcher.num_steps + 1}"
    if isinstance(config, CodeNeRFConfig):
        return f"{config.sampling.num_samples}"
    if isinstance(config, PixelNeRFConfig | VisionNeRFConfig):
        s = config.sampling
        fine = s.num_coarse + s.num_fine + s.num_depth
        return f"{s.num_coarse} + {fine}"
    return "-"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time one frame of every deterministic system at its published size."""

    threads: int = 2
    side: int = 32
    """Side of the frames that are timed."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    @torch.no_grad()
    def run(self) -> None:
        torch.set_num_threads(self.threads)
        table = Table(title=f"A 128x128 frame, {self.device}, {self.threads} threads")
        for column in (
            "system",
            "weights",
            "evaluations per ray",
            "GFLOP",
            "seconds",
            "frames per second",
            "scene MB",
        ):
            table.add_column(column, justify="left" if column == "system" else "right")
        for name in NAMES:
            table.add_row(*self._row(name))
        rich.print(table)

    def _row(self, name: str) -> list[str]:
        config = PRESETS[name].method
        if hasattr(config, "num_objects"):
            config = dataclasses.replace(config, num_objects=1)
        torch.manual_seed(0)
        method = build_method(config).to(self.device).eval()
        assert isinstance(method, SceneMethod)
        camera = object_camera(40.0, 20.0).to(self.device)
        size = (config.image_size, config.image_size)
        image = torch.rand(1, 1, 3, *size, device=self.device)
        context = Views(image, camera[None])
        scene = method.sample_scene(context, [0], options=SampleOptions(1))[0]
        rays = isinstance(config, _RAYS_ALONE)
        side = self.side if rays else SIDE
        scale = (SIDE / side) ** 2
        with FlopCounterMode(display=False) as counter:
            scene.render(camera, (side, side))
        times = []
        for _ in range(3):
            started = time.perf_counter()
            scene.render(camera, (side, side))
            if self.device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        seconds = min(times) * scale
        weights = sum(parameter.numel() for parameter in method.parameters())
        held = sum(x.numel() * x.element_size() for x in scene.tensors().values())
        return [
            name,
            f"{weights / 1e6:.1f} M",
            evaluations(config),
            f"{counter.get_total_flops() * scale / 1e9:,.0f}",
            f"{seconds:.3g}",
            f"{1 / seconds:.3g}",
            f"{held / 1e6:.1f}",
        ]


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
