"""Where pixelNeRF and VisionNeRF sample rays: coarsely, then where something was found.

Every random number is an argument, so that training, a deterministic rendering and a
comparison with recorded numbers run the same code. Positions are in whatever unit
`near` and `far` are in: depth or distance.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.rendering.endpoint_sampling import (
    endpoint_edges,
    endpoint_quantiles,
    endpoint_uniform,
)


@dataclasses.dataclass(frozen=True)
class SampleNumbers:
    """The random numbers of some rays; None where samples are deterministic."""

    coarse: Float[Tensor, "*batch ray coarse"] | None
    """In [0, 1): where in its bin a coarse sample lies. None is in the middle."""
    fine: Float[Tensor, "*batch ray fine"]
    """In [0, 1]: which quantile of the coarse weights a fine sample is."""
    inside: Float[Tensor, "*batch ray fine"] | None
    """In [0, 1): where in the quantile's bin. None continues the quantile function
    through the bin, which is what samples without noise should do."""
    depth: Float[Tensor, "*batch ray depth"]
    """Standard normal: how far from the expected position a sample lies."""


@dataclasses.dataclass(frozen=True)
class CoarseFineSampling:
    """How many samples a ray gets, and by which rule. The default is pixelNeRF's."""

    rule: Literal["bins", "endpoints"] = "bins"
    """"bins": one coarse sample in each of equal bins; fine ones are drawn from the
    bins' weights; the last interval ends at `far` (pixelNeRF). "endpoints": coarse
    samples from `near` to `far`, both included; fine ones are drawn between their
    midpoints; the last interval repeats the one before (VisionNeRF, as NeRF)."""

    num_coarse: int = 64
    num_fine: int = 16
    """Samples drawn from the coarse weights."""

    num_depth: int = 16
    """Samples around the position that the coarse weights expect (pixelNeRF). The
    expectation is not divided by the opacity, as in the authors' code: where next to
    nothing is hit, these samples lie at `near`."""

    depth_deviation: float = 0.01
    """Standard deviation of the latter, in the unit of positions."""

    def __post_init__(self) -> None:
        if self.num_coarse < 4 or self.num_fine < 1 or self.num_depth < 0:
            raise ValueError(
                "a ray needs 4 coarse samples, a fine one and no negative number "
                f"around its depth, not {self.num_coarse}, {self.num_fine} and "
                f"{self.num_depth}"
            )

    @property
    def num_samples(self) -> int:
        """Samples of the final rendering."""
        return self.num_coarse + self.num_fine + self.num_depth

    @property
    def evaluations_per_ray(self) -> int:
        """Of the coarse network, and of the fine one at all samples."""
        return self.num_coarse + self.num_samples

    def draw(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> SampleNumbers:
        """Random numbers for rays of the batch shape `shape`."""

        def uniform(count: int) -> Float[Tensor, "*batch count"]:
            return torch.rand(*shape, count, generator=generator).to(device)

        normal = torch.randn(*shape, self.num_depth, generator=generator)
        coarse, fine = uniform(self.num_coarse), uniform(self.num_fine)
        # Between midpoints, the quantile function is continuous either way.
        inside = uniform(self.num_fine) if self.rule == "bins" else None
        return SampleNumbers(coarse, fine, inside, normal.to(device))

    def middle(
        self, shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> SampleNumbers:
        """What stands for the random numbers in a deterministic rendering.

        Midpoints of equal parts of the distributions; for "endpoints" quantiles from 0
        to 1, both included, as the authors have it.
        """
        fine = _midpoints(self.num_fine, device)
        if self.rule == "endpoints":
            fine = torch.linspace(0, 1, self.num_fine, device=device)
        depth = torch.special.ndtri(_midpoints(self.num_depth, device))
        fine, depth = fine.expand(*shape, -1), depth.expand(*shape, -1)
        return SampleNumbers(None, fine, None, depth)

    def coarse_positions(
        self,
        near: Float[Tensor, "*batch ray"],
        far: Float[Tensor, "*batch ray"],
        numbers: SampleNumbers,
    ) -> Float[Tensor, "*batch ray coarse"]:
        """The samples that do not depend on the field, ascending."""
        if self.rule == "bins":
            bins = torch.arange(self.num_coarse, device=near.device)
            offset = 0.5 if numbers.coarse is None else numbers.coarse
            fraction = (bins + offset) / self.num_coarse
            return near[..., None] + (far - near)[..., None] * fraction
        even = endpoint_uniform(near, far, self.num_coarse)
        if numbers.coarse is None:
            return even
        edges = 0.5 * (even[..., 1:] + even[..., :-1])
        low = torch.cat([even[..., :1], edges], dim=-1)
        high = torch.cat([edges, even[..., -1:]], dim=-1)
        return low + (high - low) * numbers.coarse

    def fine_positions(
        self,
        positions: Float[Tensor, "*batch ray coarse"],
        weights: Float[Tensor, "*batch ray coarse"],
        near: Float[Tensor, "*batch ray"],
        far: Float[Tensor, "*batch ray"],
        numbers: SampleNumbers,
    ) -> Float[Tensor, "*batch ray sample"]:
        """All samples of the final rendering, ascending; no gradient to the weights."""
        positions, weights = positions.detach(), weights.detach()
        if self.rule == "endpoints":
            fine = endpoint_quantiles(positions, weights, numbers.fine)
        else:
            fraction = bin_quantiles(weights, numbers.fine, numbers.inside)
            fine = near[..., None] + (far - near)[..., None] * fraction
        parts = [positions, fine]
        if self.num_depth:
            expected = (weights * positions).sum(dim=-1, keepdim=True)
            around = expected + self.depth_deviation * numbers.depth
            around = torch.maximum(around, near[..., None])
            parts.append(torch.minimum(around, far[..., None]))
        return torch.cat(parts, dim=-1).sort(dim=-1).values

    def edges(
        self,
        positions: Float[Tensor, "*batch ray sample"],
        far: Float[Tensor, "*batch ray"],
    ) -> Float[Tensor, "*batch ray sample+1"]:
        """Each of ascending samples stands for the interval up to the next one."""
        if self.rule == "endpoints":
            return endpoint_edges(positions)
        return torch.cat([positions, far[..., None]], dim=-1)


def _midpoints(count: int, device: torch.device | str) -> Float[Tensor, " count"]:
    return (torch.arange(count, device=device) + 0.5) / max(count, 1)


def bin_quantiles(
    weights: Float[Tensor, "*batch bin"],
    quantiles: Float[Tensor, "*batch fine"],
    inside: Float[Tensor, "*batch fine"] | None,
) -> Float[Tensor, "*batch fine"]:
    """Quantiles of the density on [0, 1] that is constant in equal bins.

    1e-5 is added to the weights, so that a ray without matter is sampled evenly. With
    `inside`, in [0, 1), the place in a quantile's bin is given; without, it follows.
    """
    count = weights.shape[-1]
    weights = weights + 1e-5
    cdf = (weights / weights.sum(dim=-1, keepdim=True)).cumsum(dim=-1)
    cdf = functional.pad(cdf, (1, 0))
    bins = torch.searchsorted(cdf, quantiles.contiguous(), right=True) - 1
    bins = bins.clamp(0, count - 1)
    if inside is None:
        low, high = cdf.gather(-1, bins), cdf.gather(-1, bins + 1)
        inside = ((quantiles - low) / (high - low)).clamp(0, 1)
    return (bins + inside) / count
