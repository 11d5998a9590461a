"""A method that learns a code per object, and fits codes to new ones: very small."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tests.analytic_scene import SkyScene
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)


@dataclasses.dataclass(frozen=True)
class SkyConfig:
    image_size: int = 8
    num_objects: int = 0
    fitting_steps: int = 20


class SkyDecoder(SceneMethod):
    """A code is decoded to the tint of a sky; fitting is gradient descent on it."""

    stochastic: ClassVar = False

    def __init__(self, config: SkyConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.Embedding(config.num_objects, 4)
        self.decoder = nn.Linear(4, 3)

    def decode(self, codes: Float[Tensor, "batch 4"]) -> SkyScene:
        return SkyScene(self.decoder(codes).sigmoid())

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        assert example.objects is not None
        scene = self.decode(self.codes(example.objects))
        error = scene.render(example.target.cameras, example.target.size).color
        total = (error - example.target.images).square().mean()
        return Losses(total, {"color": total.detach()})

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> SkyScene:
        asked = None if options is None else options.num_steps
        steps = asked or self.config.fitting_steps
        mean = self.codes.weight.detach().mean(dim=0)
        codes = mean.expand(context.shape[0], -1).clone()
        with evaluating(self):
            for step in range(steps):
                with torch.enable_grad():
                    codes.requires_grad_()
                    shown = self.decode(codes).render(context.cameras, context.size)
                    error = (shown.color - context.images).square()
                    # A sum over scenes: what one descends does not depend on others.
                    total = error.mean(dim=(1, 2, 3, 4)).sum()
                    (slope,) = torch.autograd.grad(total, codes)
                codes = (codes - 10.0 * slope).detach()
                if on_step is not None:
                    on_step(step + 1, steps, self.decode(codes))
            return self.decode(codes)
