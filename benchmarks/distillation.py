"""What a step of distillation costs beside the prior's own forward pass.

    python benchmarks/distillation.py

The prior has the architecture of Stable Diffusion with thinner layers and random
weights. Seconds of a step are split into the prior's forward pass (all branches), the
autoencoder (encoding and its gradient, in steps that encode), and all else: rendering,
its gradient, regularisers and the optimiser. Needs diffusers.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import rich
import torch
import tyro
from rich.table import Table

from unseen.checkpoints.diffusers_prior import DiffusersPrior
from unseen.diffusion.schedules import ScaledLinearSchedule
from unseen.distillation.distiller import Distiller
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.training.random import derive_generator


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Seconds per step of some presets."""

    presets: tuple[str, ...] = ("small", "small-gaussians", "small-latents")
    """Presets to time."""

    width: int = 96
    """Channels of the network's finest level; Stable Diffusion has 320."""

    side: int = 32
    """Side of the latents; Stable Diffusion has 64."""

    steps: int = 6
    """Steps to time, after two to warm up."""

    def run(self) -> None:
        """Print the table."""
        prior = build_prior(self.width, self.side)
        table = Table("preset", "step", "prior", "autoencoder", "else", "else / prior")
        for name in self.presets:
            total, forward, autoencoder = self._time(prior, name)
            rest = total - forward - autoencoder
            table.add_row(
                name,
                *(f"{x:.3f} s" for x in (total, forward, autoencoder, rest)),
                f"{rest / forward:.0%}",
            )
        rich.print(table)
        weights = sum(p.numel() for p in prior._unet.parameters())
        print(
            f"Prior: {weights / 1e6:.1f} M weights, {torch.get_num_threads()} threads."
        )

    def _time(self, prior: DiffusersPrior, name: str) -> tuple[float, float, float]:
        """Seconds of a step, of the prior in it, and of the autoencoder in it."""
        clock = Clock()
        distiller = Distiller(
            prior, DISTILL_PRESETS[name], lambda i: derive_generator(0, i), "a cup"
        )
        for step in range(2):
            distiller.step(step)
        original = prior.predict_noise, prior.encode
        prior.predict_noise = clock.around(prior.predict_noise, "prior")  # type: ignore
        prior.encode = clock.encoding(prior.encode)  # type: ignore[method-assign]
        started = time.perf_counter()
        for step in range(2, 2 + self.steps):
            distiller.step(step)
        total = time.perf_counter() - started
        prior.predict_noise, prior.encode = original  # type: ignore[method-assign]
        each = [x / self.steps for x in (total, clock.prior, clock.autoencoder)]
        return each[0], each[1], each[2]


class Clock:
    """Seconds that were spent in the prior."""

    def __init__(self) -> None:
        self.prior = self.autoencoder = 0.0

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same function, whose seconds are added to those of `name`."""

        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            found = function(*arguments)
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)
            return found

        return timed

    def encoding(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        """The same encoder, cut off from the scene to time its gradient alone."""
        clock = self

        class Encode(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, images: Any, generator: Any) -> Any:
                started = time.perf_counter()
                with torch.enable_grad():
                    ctx.images = images.detach().requires_grad_()
                    ctx.latents = encode(ctx.images, generator)
                clock.autoencoder += time.perf_counter() - started
                return ctx.latents.detach()

            @staticmethod
            def backward(ctx: Any, *gradients: Any) -> Any:
                started = time.perf_counter()
                (found,) = torch.autograd.grad(ctx.latents, ctx.images, gradients[0])
                clock.autoencoder += time.perf_counter() - started
                return found, None

        return Encode.apply


def build_prior(width: int, side: int) -> DiffusersPrior:
    """A thin Stable Diffusion with random weights, and random texts."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    kinds: tuple[Any, Any] = UNet2DConditionModel, AutoencoderKL
    torch.manual_seed(0)
    unet = kinds[0](
        sample_size=side,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        cross_attention_dim=64,
        attention_head_dim=8,
    )
    vae = kinds[1](
        block_out_channels=(width // 3, 2 * width // 3, width, width),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=16,
        sample_size=8 * side,
    )
    for network in (unet, vae):
        network.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    return DiffusersPrior(
        unet,
        vae,
        lambda texts: torch.randn(len(texts), 77, 64, generator=generator),
        ScaledLinearSchedule().discrete_alphas_cumprod(),
    )


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
