"""Memory and seconds of a latent diffusion model, by the precision of its weights.

    python -m benchmarks.latent_memory [--model FOLDER] [--offload] [--steps 2]

Loads the model and samples one view of a picture, each time in a process of its own.
Without a model it takes Zero-1-to-3 as published, with random weights (2 GB in a
temporary folder). Of the GPU, where there is one, its peak of allocated memory is
given; else the largest resident set of the process and its processor time.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import rich
import torch
import tyro
from rich.table import Table

import unseen
from unseen.checkpoints.model_folder import save_model
from unseen.cli.demo import example_images
from unseen.methods.presets_latent import LATENT_PRESETS
from unseen.methods.zero123 import Zero123
from unseen.networks.large import Precision


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Measure loading and sampling, in float32 and in half precision."""

    model: Path | None = None
    steps: int = 2
    offload: bool = False
    """Also with networks that visit the GPU one at a time."""
    precisions: tuple[Literal["float32", "bfloat16", "float16"], ...] = (
        "float32",
        "bfloat16",
    )

    def run(self) -> None:
        """Measure and print."""
        with tempfile.TemporaryDirectory() as folder:
            model = self.model or _random_model(Path(folder))
            table = Table("weights", "offloaded", "GiB, loaded", "GiB, peak", "seconds")
            for offload in (False, True) if self.offload else (False,):
                for precision in self.precisions:
                    found = _in_a_process(model, precision, offload, self.steps)
                    table.add_row(
                        precision,
                        "yes" if offload else "no",
                        f"{found['loaded']:.2f}",
                        f"{found['peak']:.2f}",
                        f"{found['seconds']:.1f}",
                    )
            rich.print(table)


def _random_model(folder: Path) -> Path:
    """Zero-1-to-3 as published, with weights that say nothing."""
    with torch.device("meta"):
        method = Zero123(LATENT_PRESETS["zero123"].method)
    method.to_empty(device="cpu")
    # The same million numbers all over: there are 1,200 million weights.
    noise = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    for parameter in method.parameters():
        flat = parameter.data.view(-1)
        scale = max(parameter[0].numel(), 1) ** -0.5
        for part in flat.split(len(noise)):
            part.copy_(noise[: len(part)] * scale)
    save_model(method, folder, {}, stored_type="float16")
    return folder


def _in_a_process(
    model: Path, precision: Precision, offload: bool, steps: int
) -> dict[str, float]:
    words = [str(model), precision, str(int(offload)), str(steps)]
    code = "from benchmarks.latent_memory import measure; measure()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure() -> None:
    """What the process that measures does; its arguments are those of the command."""
    model, precision, offload, steps = sys.argv[1:]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = unseen.load(model, device, precision, offload == "1")  # type: ignore[arg-type]
    found = {"loaded": _peak(device)}
    clock = time.perf_counter if device == "cuda" else time.process_time
    started = clock()
    loaded.sample_views(example_images()[0], num_views=1, num=1, steps=int(steps))
    found |= {"seconds": clock() - started, "peak": _peak(device)}
    print(json.dumps(found))


def _peak(device: str) -> float:
    """In GiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    # Not `ru_maxrss`, which begins at that of the process which started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
