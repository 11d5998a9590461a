"""What it gains to compute attention to one token as the linear map that it is.

    python -m benchmarks.one_token [--size small] [--side 32] [--device cuda]

Times one call of the U-Net of Zero-1-to-3 with its own cross-attention and with that of
diffusers, in turns. On a processor the seconds are its own, so that other work on the
machine counts little.
"""

from __future__ import annotations

import dataclasses
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import rich
import torch
import tyro
from rich.table import Table

from unseen.methods.presets_latent import LATENT_PRESETS
from unseen.networks.latent import LatentUNet, TokenAttention


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time the U-Net of Zero-1-to-3 with both kinds of cross-attention."""

    size: Literal["published", "small"] = "published"
    side: int = 32
    """Side of the latents."""
    batch: int = 2
    """Two are one sample with guidance."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    repeats: int = 5

    @torch.no_grad()
    def run(self) -> None:
        """Measure and print."""
        name = "zero123" if self.size == "published" else "zero123-small"
        config = LATENT_PRESETS[name].method.unet
        unet = LatentUNet(config).to(self.device).eval()
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, config.in_channels, self.side, self.side)
        x = torch.randn(shape, generator=generator).to(self.device)
        token = torch.randn(self.batch, 1, config.context, generator=generator)
        token, step = token.to(self.device), torch.full((self.batch,), 500.0).to(x)

        own = dict(unet.model.attn_processors)
        plain = importlib.import_module("diffusers.models.attention_processor")
        general: dict[str, Any] = {
            key: plain.AttnProcessor2_0() if isinstance(x, TokenAttention) else x
            for key, x in own.items()
        }
        seconds: dict[str, list[float]] = {"linear": [], "general": []}
        results = {}
        for _ in range(self.repeats + 1):
            for kind, processors in (("general", general), ("linear", own)):
                # diffusers empties the dictionary that it is given.
                unet.model.set_attn_processor(dict(processors))
                found, took = self._timed(lambda: unet(x, step, token))
                results[kind] = found
                seconds[kind].append(took)
        difference = float((results["linear"] - results["general"]).abs().max())
        medians = {k: statistics.median(v[1:]) for k, v in seconds.items()}
        table = Table("attention to one token", "ms per call", title=name)
        for kind, took in medians.items():
            table.add_row(kind, f"{1000 * took:.1f}")
        rich.print(table)
        gain = 100 * (1 - medians["linear"] / medians["general"])
        rich.print(f"{gain:.1f} % less; largest difference {difference:.1e}")

    def _timed(self, call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
        on_gpu = self.device.startswith("cuda")
        clock = time.perf_counter if on_gpu else time.process_time
        if on_gpu:
            torch.cuda.synchronize()
        started = clock()
        found = call()
        if on_gpu:
            torch.cuda.synchronize()
        return found, clock() - started


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
