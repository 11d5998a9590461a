"""What a frame costs in each system: evaluations, operations, seconds, memory.

    python -m benchmarks.systems [--threads 2] [--side 32]

Networks have the published sizes and random weights, which leave no space empty: so
these are the plain costs, without what `benchmarks.pixelnerf` saves where nothing is.
Frames are `side` pixels wide and times are scaled to 128x128 where the cost grows with
the rays; ENR draws its own 128x128 pixels. The peak of memory is that of the frame that
was timed. Beside it stands the claim that Light Field Networks made of themselves
(Sitzmann et al. 2021): 500 frames per second with one evaluation per ray, against 0.033
of pixelNeRF with 196, on a GPU.
"""

from __future__ import annotations

import dataclasses

import rich
import torch
import tyro
from rich.table import Table

from unseen.data.cameras import object_camera
from unseen.evaluation.cost import render_cost
from unseen.geometry.views import Views
from unseen.methods.codenerf import CodeNeRFConfig
from unseen.methods.lfn import LFNConfig
from unseen.methods.method import SampleOptions, SceneMethod
from unseen.methods.pixelnerf import PixelNeRFConfig
from unseen.methods.registry import PRESETS, build_method
from unseen.methods.srn import SRNConfig
from unseen.methods.visionnerf import VisionNeRFConfig

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
            "peak MB",
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
        cost = render_cost(scene, camera, (side, side))
        seconds = cost.seconds * scale
        weights = sum(parameter.numel() for parameter in method.parameters())
        held = sum(x.numel() * x.element_size() for x in scene.tensors().values())
        return [
            name,
            f"{weights / 1e6:.1f} M",
            f"{cost.evaluations_per_ray or '-'}",
            f"{cost.operations * scale / 1e9:,.0f}",
            f"{seconds:.3g}",
            f"{1 / seconds:.3g}",
            f"{cost.peak_bytes / 1e6:,.0f}",
            f"{held / 1e6:.1f}",
        ]


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
