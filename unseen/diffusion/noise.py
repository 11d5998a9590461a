"""Sources of the random numbers that samplers draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.schedule import SteppedSchedule

# A tensor to standard normal numbers of its shape, dtype and device.
Noise = Callable[[Tensor], Tensor]


def normal_like(
    x: Float[Tensor, "*shape"], generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Standard normal numbers, drawn where the generator lives.

    The half types receive rounded float32 numbers: a seed means one noise.
    """
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    drawn = torch.randn(
        x.shape, generator=generator, device=generator.device, dtype=dtype
    )
    return drawn.to(x)


def random_levels(
    x_0: Float[Tensor, "batch *rest"],
    schedule: SteppedSchedule,
    generator: torch.Generator,
) -> tuple[
    Float[Tensor, "batch *rest"], Float[Tensor, "batch"], Float[Tensor, "batch *rest"]
]:
    """x_t, t and eps of training: t is uniform over the schedule's steps.

    The generator lives on the CPU; what is drawn goes where x_0 is.
    """
    step = torch.randint(schedule.num_steps, (len(x_0),), generator=generator)
    t = schedule.t_of_step(step).to(x_0.device)
    eps = torch.randn(x_0.shape, generator=generator).to(x_0)
    return schedule.add_noise(x_0, eps, t), t, eps


@final
@dataclasses.dataclass(frozen=True)
class PerSampleNoise:
    """Draws entry i of a batch from generator i.

    Each sample of a batch then sees the numbers that it would see alone: the first
    four of eight samples equal four samples of the same seeds.
    """

    generators: Sequence[torch.Generator]

    def __call__(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        if len(x) != len(self.generators):
            raise ValueError(
                f"A batch of {len(x)} needs as many generators, not "
                f"{len(self.generators)}."
            )
        pairs = zip(x, self.generators, strict=True)
        return torch.stack([normal_like(entry, g) for entry, g in pairs])


def get_noise(generator: torch.Generator | None, noise: Noise | None) -> Noise:
    """The source of noise of a sampler that takes one of the two arguments.

    With neither, drawing raises a ValueError: no random number is ever implicit.
    """
    if generator is not None and noise is not None:
        raise ValueError("Give a generator or a noise function, not both.")
    if noise is not None:
        return noise

    def draw(x: Tensor) -> Tensor:
        if generator is None:
            raise ValueError("A stochastic sampler needs a generator or a noise.")
        return normal_like(x, generator)

    return draw
