"""A method small enough to train in a test, and a stream that can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import torch

# The first optimizer imports this, for seconds; processes that tests fork inherit it.
import torch._dynamo
from torch import nn

from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.views import Example, Views
from unseen.methods.method import Losses, Method


class TinyMethod(Method):
    """Predicts the target image from the context image plus noise."""

    def __init__(self, noise: float = 0.1, dropout: float = 0.5) -> None:
        super().__init__()
        self.noise = noise
        self.network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        # Another layout than the default, which checkpoints must preserve.
        for module in self.network:
            if isinstance(module, nn.Conv2d):
                layout = torch.channels_last
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        self.calls += 1
        dtype = next(self.parameters()).dtype
        images = example.context.images[:, 0].to(dtype)
        noise = torch.randn(images.shape, generator=generator).to(dtype)
        error = self.network(images + self.noise * noise) - example.target.images[:, 0]
        total = error.square().mean()
        return Losses(total, {"absolute": error.abs().mean().detach()})

    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        image = self.network(context.images[:, 0]).clamp(0, 1)[:, None]
        return Views(image.expand(-1, cameras.shape[1], -1, -1, -1), cameras)


def tiny_example(seed: int, batch: int = 4, size: int = 8) -> Example:
    """Random images at fixed cameras."""
    generator = torch.Generator().manual_seed(seed)

    def views(count: int) -> Views:
        images = torch.rand(batch, count, 3, size, size, generator=generator)
        centers = torch.tensor([0.0, -2.0, 0.5]).expand(batch, count, 3)
        cameras = Cameras(
            look_at(centers, torch.zeros(batch, count, 3)),
            intrinsics_from_fov(torch.full((batch, count), 0.8)),
            torch.full((batch, count), 1.0),
            torch.full((batch, count), 3.0),
        )
        return Views(images, cameras)

    return Example(views(1), views(2))


def tiny_batches(first: int, batch: int = 4) -> Iterator[Example]:
    """The examples number `first`, `first` + 1, ... of an endless stream."""
    while True:
        yield tiny_example(first, batch)
        first += 1
