"""Frames per second of LFN at the published size, against the authors' evaluation.

    python -m benchmarks.light_field [--threads 1] [--device cuda] [--frames 64]

The twin does what the authors' evaluation does for every frame: it runs the
hypernetwork, and then the predicted MLP in float32 on all rays at once, with layers,
normalisation and ReLU one after the other. Ours runs the hypernetwork once per scene.
Both are timed in turns. On a processor the seconds are its own, summed over threads:
other work on the machine counts little. On a GPU they are the clock's. The floor of
a frame is its operations over the machine's measured rate of matrix products, or the
bytes of the predicted weights and of the rays and colours over its rate of copying,
whichever is longer.

The scene is a light field that is fitted here to views of one procedural object: what
may be interpolated depends on the picture. Its weights are then given to the last
layers' biases of the hypernetwork, so that the twin renders the same scene.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Literal

import rich
import torch
import tyro
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from unseen.cli.allocator import keep_freed_memory
from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.export.video import orbit_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays, plucker
from unseen.methods.lfn import LFN, LFNConfig
from unseen.networks.predicted_mlp import PredictedMLP
from unseen.scenes.light_field import LightFieldScene

FLAT = 2 / 255


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time a frame of LFN in its precisions, beside the authors' way."""

    threads: int = 1
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    side: int = 128
    """Side of a frame in pixels."""
    frames: int = 1 if not torch.cuda.is_available() else 64
    """Frames that ours renders at once; the twin renders one after the other."""
    repeats: int = 5
    fit_steps: int = 300
    """Steps of fitting the scene that is rendered."""

    @torch.no_grad()
    def run(self) -> None:
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        lfn, code = self._model()
        cameras = orbit_cameras(max(self.frames, 8), 40.0, 20.0).to(self.device)
        batch = cameras[: self.frames]
        size = (self.side, self.side)
        scene = lfn.scene(code, batch[None])[0]
        expected = _authors_frames(lfn, code, cameras, size)
        flops = 2 * self.side**2 * lfn.hyper.num_predicted()
        moved = 4 * (lfn.hyper.num_predicted() / self.frames + self.side**2 * (6 + 3))
        flops_rate, bytes_rate = _machine(self.device)
        floor = max(flops / flops_rate, moved / bytes_rate)

        def twin() -> Tensor:
            return _authors_frames(lfn, code, batch[:1], size)

        table = Table(title=f"{self.side}x{self.side}, {self.frames} at once")
        for column in (
            "what",
            "ms",
            "frames/s",
            "of floor",
            "PSNR",
            "twin ms",
            "ratio",
        ):
            table.add_column(column, justify="left" if column == "what" else "right")
        for what, changed in _variants(scene):
            seconds, slow = self._turns(lambda s=changed: s.render(batch, size), twin)
            seconds /= self.frames
            error = (changed.render(cameras, size).color - expected).square().mean()
            table.add_row(
                what,
                f"{1e3 * seconds:.2f}",
                f"{1 / seconds:.1f}",
                f"{seconds / floor:.1f}x",
                f"{-10 * math.log10(max(float(error), 1e-12)):.1f}",
                f"{1e3 * slow:.2f}",
                f"{slow / seconds:.1f}x",
            )
        rich.print(table)
        print(
            f"A frame: {flops / 1e9:.2f} GFLOP, {moved / 1e6:.2f} MB, floor "
            f"{1e3 * floor:.2f} ms in float32. Machine: {self.device}, "
            f"{flops_rate / 1e9:.0f} GFLOP/s, {bytes_rate / 1e9:.1f} GB/s."
        )

    def _model(self) -> tuple[LFN, Tensor]:
        """An LFN of the published size, and the code of a scene that it knows."""
        torch.manual_seed(0)
        lfn = LFN(LFNConfig(num_objects=1)).to(self.device)
        code = torch.zeros(1, lfn.config.hyper.code_width, device=self.device)
        field = _fit(lfn.hyper(code), self.fit_steps)
        for index, tensor in enumerate(_in_order(field)):
            net = lfn.hyper.nets[index]
            last = net[-1]  # type: ignore[index]
            last.bias += (tensor - net(code)[0].reshape(tensor.shape)).flatten()
        return lfn.eval(), code

    def _turns(
        self, fast: Callable[[], object], slow: Callable[[], object]
    ) -> tuple[float, float]:
        """The fastest of some calls of each, taken in turns after a warm-up."""
        times: tuple[list[float], list[float]] = ([], [])
        fast()
        slow()
        for _ in range(self.repeats):
            times[0].append(_time(fast, self.device))
            times[1].append(_time(slow, self.device))
        return min(times[0]), min(times[1])


def _time(call: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    if device == "cpu":
        started = time.process_time()
        call()
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _machine(device: str) -> tuple[float, float]:
    """Floating-point operations and copied bytes (read and written) per second."""
    a, source = torch.randn(2048, 2048).to(device), torch.randn(2**25).to(device)
    target = torch.empty_like(source)
    products = min(_time(lambda: a @ a, device) for _ in range(5))
    copies = min(_time(lambda: target.copy_(source), device) for _ in range(5))
    return 2 * 2048**3 / products, 8 * 2**25 / copies


def _variants(scene: LightFieldScene) -> list[tuple[str, LightFieldScene]]:
    def changed(
        precision: Literal["fp32", "bf16"], flat: float, depth: bool = False
    ) -> LightFieldScene:
        return dataclasses.replace(
            scene, precision=precision, flat=flat, with_depth=depth
        )

    return [
        ("fp32", changed("fp32", 0.0)),
        ("fp32, flat 2/255", changed("fp32", FLAT)),
        ("bf16", changed("bf16", 0.0)),
        ("bf16, flat 2/255", changed("bf16", FLAT)),
        ("fp32 with depth", changed("fp32", 0.0, True)),
    ]


def _authors_frames(
    lfn: LFN, code: Tensor, cameras: Cameras, size: tuple[int, int]
) -> Tensor:
    """One frame after the other; everything is computed for each."""
    frames = []
    for camera in cameras:
        field = lfn.hyper(code)
        x = plucker(*image_rays(camera, size))[None]
        for i, (weight, bias) in enumerate(
            zip(field.weights, field.biases, strict=True)
        ):
            x = x.matmul(weight.transpose(-1, -2))
            x = x + bias[:, None]
            if field.is_hidden(i):
                x = functional.relu(functional.layer_norm(x, x.shape[-1:]))
        frames.append((0.5 * (x[0] + 1)).clamp(0, 1).T.unflatten(-1, size))
    return torch.stack(frames)


def _in_order(field: PredictedMLP) -> list[Tensor]:
    """Weight and bias of each layer, as the hypernetwork's nets predict them."""
    pairs = zip(field.weights, field.biases, strict=True)
    return [x for pair in pairs for x in pair]


def _fit(field: PredictedMLP, steps: int) -> PredictedMLP:
    """Overfit one light field, shape (1,), to 32 views of a procedural chair."""
    generator = torch.Generator().manual_seed(0)
    views = make_object("chair", 5).render(object_cameras(32, generator), 64)
    seen = plucker(*image_rays(views.cameras, (64, 64))).reshape(-1, 6)
    colors = 2 * views.images.movedim(1, -1).reshape(-1, 3) - 1
    with torch.enable_grad():
        parts = [x[0].detach().clone().requires_grad_() for x in _in_order(field)]
        found = PredictedMLP(tuple(parts[::2]), tuple(parts[1::2]), True)
        optimizer = torch.optim.Adam(parts, lr=1e-3)
        for _ in range(steps):
            index = torch.randint(len(seen), (2048,), generator=generator)
            x, y = seen[index].to(field.device), colors[index].to(field.device)
            error = (found(x) - y).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    print(f"Fitted scene: {10 * math.log10(4 / float(error)):.1f} dB on its views.")
    return found.detach()


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
