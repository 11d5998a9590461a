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
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

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
    """Every so many-th row and column of the frame is searched for matter."""

    least_opacity: float = 1e-3
    """A searched sample that takes less light than this is empty."""

    least_light: float = 1e-3
    """A ray of which less than this is left is not followed any further."""

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
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point 3"]]:
        found = [
            self._piece(*piece)
            for piece in zip(
                points.split(POINTS_AT_A_TIME),
                directions.split(POINTS_AT_A_TIME),
                strict=True,
            )
        ]
        if not found:
            return points.new_zeros(0), points.new_zeros(0, 3)
        density, color = zip(*found, strict=True)
        return torch.cat(density), torch.cat(color)

    def _piece(
        self,
        points: Float[Tensor, "point 3"],
        directions: Float[Tensor, "point 3"],
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point 3"]]:
        place, xy = self.field.place(points[None], directions[None])
        corners = self.field.corners(xy, self.size)
        found = lookup(self.maps, corners).unflatten(0, place.shape[:2])
        told = found.to(self.dtype).chunk(self.network.config.injections, dim=-1)
        out = self.network.decode(place.to(self.dtype), told)
        density, color = self.field.activate(out[0])
        return density, color


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
    # Where each network sees something: not the same places, they are two networks.
    near_coarse, near_fine = (frame.search(asker, first[0]) for asker in askers)

    density, _ = frame.follow(askers[0], first[0], near_coarse)
    thickness = density * frame.lengths(first[0])
    weights = composite_weights(density, frame.lengths(first[0]))
    positions = sampling.fine_positions(
        first, weights[None], rays.near, rays.far, numbers
    )
    # What the ray's own coarse samples found counts as well as the grid.
    found = (thickness > settings.least_opacity)[:, None].float()
    found = functional.max_pool1d(found, 3, 1, 1)[:, 0] > 0
    bins = frame.bins(positions[0])
    wanted = (near_fine | found).gather(-1, bins)
    density, color = frame.follow(askers[1], positions[0], wanted)
    return positions, density[None], color[None]


class _Frame:
    """The rays of one frame, and the search for matter along them."""

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
        """The coarse sample that is next to each position."""
        fraction = (positions - self.near[:, None]) / (self.far - self.near)[:, None]
        last = self.sampling.num_coarse - 1
        if self.sampling.rule == "bins":
            index = (fraction * (last + 1)).floor()
        else:
            index = (fraction * last).round()
        return index.long().clamp(0, last)

    def search(
        self, asker: _Asker, positions: Float[Tensor, "ray sample"]
    ) -> Bool[Tensor, "ray sample"]:
        """Which coarse samples of all rays are near matter, by a grid of the rays."""
        (height, width), stride = self.size, self.settings.stride
        device = positions.device
        rows = torch.arange(0, height - 1 + stride, stride, device=device)
        columns = torch.arange(0, width - 1 + stride, stride, device=device)
        rows, columns = rows.clamp(max=height - 1), columns.clamp(max=width - 1)
        grid = (rows[:, None] * width + columns).flatten()
        everywhere = torch.ones_like(positions[grid], dtype=torch.bool)
        density, _ = self._ask(asker, positions, grid, everywhere)
        thickness = density * self.lengths(positions)[grid]
        # Negative log of the light that is left: opacity, for small ones.
        matter = (thickness > self.settings.least_opacity).float()
        matter = matter.reshape(1, 1, len(rows), len(columns), -1)
        # A cell between four searched rays holds what any of them found, and the
        # samples before and after.
        kernel = (min(2, len(rows)), min(2, len(columns)), 3)
        cells = functional.max_pool3d(matter, kernel, 1, (0, 0, 1))[0, 0] > 0
        pixel_rows = torch.arange(height, device=device) // stride
        pixel_columns = torch.arange(width, device=device) // stride
        pixel_rows = pixel_rows.clamp(max=cells.shape[0] - 1)
        pixel_columns = pixel_columns.clamp(max=cells.shape[1] - 1)
        return cells[pixel_rows][:, pixel_columns].flatten(0, 1)

    def follow(
        self,
        asker: _Asker,
        positions: Float[Tensor, "ray sample"],
        wanted: Bool[Tensor, "ray sample"],
    ) -> tuple[Float[Tensor, "ray sample"], Float[Tensor, "ray sample 3"]]:
        """Densities and colours of wanted samples while light is left."""
        density = torch.zeros_like(positions)
        color = positions.new_zeros(*positions.shape, 3)
        lengths = self.lengths(positions)
        passed = torch.zeros_like(self.near)
        darkest = -math.log(self.settings.least_light)
        everyone = torch.arange(len(passed), device=passed.device)
        for start in range(0, positions.shape[1], self.settings.group):
            part = slice(start, start + self.settings.group)
            asked = wanted[:, part] & (passed < darkest)[:, None]
            found = self._ask(asker, positions[:, part], everyone, asked)
            density[:, part], color[:, part] = found
            passed += (density[:, part] * lengths[:, part]).sum(dim=-1)
        return density, color

    def _ask(
        self,
        asker: _Asker,
        positions: Float[Tensor, "any sample"],
        chosen: Int[Tensor, "ray"],
        asked: Bool[Tensor, "ray sample"],
    ) -> tuple[Float[Tensor, "ray sample"], Float[Tensor, "ray sample 3"]]:
        """Ask for the marked samples of chosen rays; zero elsewhere."""
        ray, _ = asked.nonzero(as_tuple=True)
        ray = chosen[ray]
        directions = self.directions[ray]
        along = positions[chosen][asked][:, None]
        found = asker.ask(self.origins[ray] + along * directions, directions)
        density = positions.new_zeros(asked.shape)
        color = positions.new_zeros(*asked.shape, 3)
        density[asked], color[asked] = found
        return density, color
