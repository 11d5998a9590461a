"""A frame of an aligned radiance field without the samples that cannot be seen.

The network is nearly all of the cost, and nearly all samples are in empty space or
behind something. Where there is matter is found out by the field itself: a sparse grid
of the frame's own rays is sampled densely, so that the direction of view, on which
these fields' density depends, is the right one. Then rays are followed from front to
back, and the network is asked for samples near something that the grid has found, until
next to no light is left. Everything here is without gradients.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unseen.networks.aligned_mlp import AlignedMLP
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.rendering.compositing import composite_weights
from unseen.rendering.interpolation import lookup
from unseen.scenes.aligned_radiance import AlignedRadiance
from unseen.scenes.ray_sampling import Rays

POINTS_AT_A_TIME = 4096
"""Points that the network is asked for together: its layers stay in the cache."""


@dataclasses.dataclass(frozen=True)
class SparseRendering:
    """How a frame is rendered fast. The tests hold it to 45 dB of the plain twin."""

    stride: int = 4
    """Every so many-th row and column of the frame is searched for matter; in frames
    of less than eight strides a side, more of them."""

    least_opacity: float = 1e-3
    """A searched sample that takes less light than this is empty."""

    least_light: float = 1e-3
    """A ray of which less than this is left is not followed any further."""

    margin: float = 1.0
    """How much optical thickness a searched sample may lack, before the activation of
    its density, and still count as near to matter: small things are between rays."""

    group: int = 8
    """Samples of a ray that are asked for together."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network. bfloat16 is faster on processors that have it, and costs an error
    of about half a step of an 8-bit colour."""


class _Asker:
    """One field, asked for points without gradients, in the precision of a frame."""

    def __init__(self, field: AlignedRadiance, precision: str) -> None:
        self.field = field
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.network: AlignedMLP = field.network
        maps = field.projected
        if self.dtype != torch.float32:
            self.network = copy.deepcopy(field.network).to(self.dtype)
            maps = maps.to(self.dtype)
        self.maps = maps.flatten(0, 1)[:, :, None]
        self.size = (maps.shape[-2], maps.shape[-1])

    def ask(
        self,
        points: Float[Tensor, "point 3"],
        directions: Float[Tensor, "point 3"],
    ) -> Float[Tensor, "point 4"]:
        """What the network says: colour logits, and density before its activation."""
        found = [
            self._piece(*piece)
            for piece in zip(
                points.split(POINTS_AT_A_TIME),
                directions.split(POINTS_AT_A_TIME),
                strict=True,
            )
        ]
        return torch.cat(found) if found else points.new_zeros(0, 4)

    def _piece(
        self,
        points: Float[Tensor, "point 3"],
        directions: Float[Tensor, "point 3"],
    ) -> Float[Tensor, "point 4"]:
        place, xy = self.field.place(points[None], directions[None])
        corners = self.field.corners(xy, self.size)
        found = lookup(self.maps, corners).unflatten(0, place.shape[:2])
        told = found.to(self.dtype).chunk(self.network.config.injections, dim=-1)
        return self.network.decode(place.to(self.dtype), told)[0].float()


@torch.no_grad()
def render_sparsely(
    coarse: AlignedRadiance,
    fine: AlignedRadiance,
    rays: Rays,
    size: tuple[int, int],
    sampling: CoarseFineSampling,
    settings: SparseRendering,
) -> tuple[
    Float[Tensor, "1 ray sample"],
    Float[Tensor, "1 ray sample"],
    Float[Tensor, "1 ray sample 3"],
]:
    """Positions, densities and colours along all rays of a frame.

    `rays` (1, ray) are those of an image of (height, width) `size`, row by row. The
    samples are those of `CoarseFineSampling.middle`; densities are zero where nobody
    asked for them.
    """
    shape = (1, size[0] * size[1])
    numbers = sampling.middle(shape, rays.near.device)
    first = sampling.coarse_positions(rays.near, rays.far, numbers)
    frame = _Frame(rays, size, sampling, settings, coarse.reading.world_density)
    askers = [_Asker(field, settings.precision) for field in (coarse, fine)]
    wanted = frame.search(askers, first[0])
    density, _, found = frame.follow(askers[0], first[0], wanted)
    weights = composite_weights(density, frame.lengths(first[0]))
    positions = sampling.fine_positions(
        first, weights[None], rays.near, rays.far, numbers
    )
    wanted = wanted | frame.grow(found)
    density, color, _ = frame.follow(askers[1], positions[0], wanted)
    return positions, density[None], color[None]


class _Frame:
    """The rays of one frame, and the search for matter along them.

    What is wanted or found is noted in bins: one for every coarse sample of every ray.
    """

    def __init__(
        self,
        rays: Rays,
        size: tuple[int, int],
        sampling: CoarseFineSampling,
        settings: SparseRendering,
        world_density: bool,
    ) -> None:
        self.origins, self.directions = rays.origins[0], rays.directions[0]
        self.near, self.far = rays.near[0], rays.far[0]
        self.size, self.sampling, self.settings = size, sampling, settings
        scale = self.directions.norm(dim=-1)
        self.scale = scale if world_density else torch.ones_like(scale)

    def lengths(
        self, positions: Float[Tensor, "ray sample"]
    ) -> Float[Tensor, "ray sample"]:
        """The length that each sample stands for, in the density's unit."""
        edges = self.sampling.edges(positions, self.far)
        return edges.diff(dim=-1) * self.scale[:, None]

    def bins(self, positions: Float[Tensor, "ray sample"]) -> Int[Tensor, "ray sample"]:
        """The bin of each position."""
        fraction = (positions - self.near[:, None]) / (self.far - self.near)[:, None]
        last = self.sampling.num_coarse - 1
        if self.sampling.rule == "bins":
            index = (fraction * (last + 1)).floor()
        else:
            index = (fraction * last).round()
        return index.long().clamp(0, last)

    def search(
        self, askers: Sequence[_Asker], positions: Float[Tensor, "ray bin"]
    ) -> Bool[Tensor, "ray bin"]:
        """Bins at and next to matter, as far as every so many-th ray meets it.

        The askers, of networks that were trained to see the same, take turns from bin
        to bin.
        """
        rays = self._searched()
        near = torch.zeros_like(positions, dtype=torch.bool)
        lengths = self.lengths(positions)[rays]
        for index, asker in enumerate(askers):
            asked = torch.zeros_like(lengths, dtype=torch.bool)
            asked[:, index :: len(askers)] = True
            out = self._ask(asker, positions[rays], rays, asked)
            out[..., 3] += self.settings.margin / lengths
            density, _ = asker.field.activate(out)
            matter = density * lengths > self.settings.least_opacity
            near[rays] |= asked & matter
        return self.grow(near)

    def _searched(self) -> Int[Tensor, "searched"]:
        """Every so many-th row and column, the columns of every other row shifted.

        So a narrow upright thing is met on one of two rows.
        """
        height, width = self.size
        # Small frames show things in few pixels.
        stride = max(1, min(self.settings.stride, height // 8, width // 8))
        device = self.near.device
        rows = torch.arange(stride // 2, height, stride, device=device)
        columns = torch.arange(0, width, stride, device=device)
        shift = stride // 2 * (torch.arange(len(rows), device=device) % 2)
        columns = columns + shift[:, None]
        grid = rows[:, None] * width + columns
        return grid[columns < width]

    def grow(self, bins: Bool[Tensor, "ray bin"]) -> Bool[Tensor, "ray bin"]:
        """Bins and their neighbours, on the ray and on the rays of adjacent pixels."""
        grown = bins.unflatten(0, self.size)
        for axis in range(3):
            before = grown
            grown = before.clone()
            count = before.shape[axis] - 1
            grown.narrow(axis, 1, count).logical_or_(before.narrow(axis, 0, count))
            grown.narrow(axis, 0, count).logical_or_(before.narrow(axis, 1, count))
        return grown.flatten(0, 1)

    def follow(
        self,
        asker: _Asker,
        positions: Float[Tensor, "ray sample"],
        wanted: Bool[Tensor, "ray bin"],
    ) -> tuple[
        Float[Tensor, "ray sample"],
        Float[Tensor, "ray sample 3"],
        Bool[Tensor, "ray bin"],
    ]:
        """Densities and colours of samples in wanted bins, and the bins with matter.

        The search has gaps, so whatever is found makes its neighbours wanted.
        """
        density = torch.zeros_like(positions)
        color = positions.new_zeros(*positions.shape, 3)
        asked = torch.zeros_like(positions, dtype=torch.bool)
        lengths, bins = self.lengths(positions), self.bins(positions)
        while self._march(
            asker, positions, lengths, wanted.gather(-1, bins), asked, density, color
        ):
            matter = (density * lengths > self.settings.least_opacity).float()
            found = torch.zeros_like(wanted, dtype=torch.float32)
            found = found.scatter_reduce(-1, bins, matter, "amax") > 0
            wanted = wanted | self.grow(found)
        matter = (density * lengths > self.settings.least_opacity).float()
        found = torch.zeros_like(wanted, dtype=torch.float32)
        return density, color, found.scatter_reduce(-1, bins, matter, "amax") > 0

    def _march(
        self,
        asker: _Asker,
        positions: Float[Tensor, "ray sample"],
        lengths: Float[Tensor, "ray sample"],
        wanted: Bool[Tensor, "ray sample"],
        asked: Bool[Tensor, "ray sample"],
        density: Float[Tensor, "ray sample"],
        color: Float[Tensor, "ray sample 3"],
    ) -> bool:
        """Ask for what is wanted and was not asked, front to back while light is left.

        Fills the last three tensors in place; says whether anything was asked.
        """
        passed = torch.zeros_like(self.near)
        darkest = -math.log(self.settings.least_light)
        everyone = torch.arange(len(passed), device=passed.device)
        anything = False
        for start in range(0, positions.shape[1], self.settings.group):
            part = slice(start, start + self.settings.group)
            new = wanted[:, part] & ~asked[:, part] & (passed < darkest)[:, None]
            if new.any():
                anything = True
                out = self._ask(asker, positions[:, part], everyone, new)
                found = asker.field.activate(out)
                density[:, part] += found[0] * new
                color[:, part] += found[1] * new[..., None]
                asked[:, part] |= new
            passed += (density[:, part] * lengths[:, part]).sum(dim=-1)
        return anything

    def _ask(
        self,
        asker: _Asker,
        positions: Float[Tensor, "ray sample"],
        rays: Int[Tensor, "ray"],
        asked: Bool[Tensor, "ray sample"],
    ) -> Float[Tensor, "ray sample 4"]:
        """Ask for the marked samples of some rays; zero elsewhere."""
        ray = rays[asked.nonzero()[:, 0]]
        directions = self.directions[ray]
        points = self.origins[ray] + positions[asked][:, None] * directions
        out = positions.new_zeros(*asked.shape, 4)
        out[asked] = asker.ask(points, directions)
        return out
