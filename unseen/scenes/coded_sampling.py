"""Where the rays of a coded field are sampled, and how samples add up."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import Measure, PixelGrid, measured, pixel_rays
from unseen.rendering.compositing import composite_weights
from unseen.rendering.endpoint_sampling import endpoint_uniform
from unseen.rendering.sampling import edges_between, sample_uniform
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.scene import PixelRendering

OPEN = 1e10
"""Length of the last interval of the authors' rays."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples of rays at `origins + position * directions`."""

    origins: Float[Tensor, "*ray 3"]
    directions: Float[Tensor, "*ray 3"]
    positions: Float[Tensor, "*ray sample"]
    lengths: Float[Tensor, "*ray sample"]
    """Euclidean lengths that samples stand for."""
    far: Float[Tensor, "*ray"]
    """Positions of the rays' ends."""
    depth_per_position: Float[Tensor, "*ray"]

    def _map(self, function) -> Samples:
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Samples(*(function(x) for x in fields))

    def flatten_views(self) -> Samples:
        """(batch, view, ray) to (batch, ray)."""
        return self._map(lambda x: x.flatten(1, 2))

    def split(self, count: int) -> list[Samples]:
        """Pieces of at most `count` rays."""
        axis = self.far.ndim - 1
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)]
        parts = (x.split(count, dim=axis) for x in fields)
        return [Samples(*piece) for piece in zip(*parts, strict=True)]

    def points(self) -> Float[Tensor, "*ray sample 3"]:
        return torch.addcmul(
            self.origins[..., None, :],
            self.positions[..., None],
            self.directions[..., None, :],
        )

    def unit_directions(self) -> Float[Tensor, "*ray 3"]:
        return functional.normalize(self.directions, dim=-1)

    def weights(
        self, density: Float[Tensor, "*ray part"], part: slice = slice(None)
    ) -> Float[Tensor, "*ray part"]:
        """Shares of consecutive samples in the light that reaches the first of them."""
        return composite_weights(density, self.lengths[..., part])

    def finish(
        self, color: Float[Tensor, "*ray 3"], weights: Float[Tensor, "*ray sample"]
    ) -> PixelRendering:
        """Composited colours over white, and the rest of a rendering."""
        opacity = weights.sum(dim=-1)
        linear = color + (1 - opacity)[..., None]
        position = (weights * self.positions).sum(dim=-1) + (1 - opacity) * self.far
        return PixelRendering(
            linear.clamp(0, 1),
            position * self.depth_per_position,
            opacity,
            extras={"linear": linear},
        )


@dataclasses.dataclass(frozen=True)
class CodedSampling:
    """How a coded field is sampled. The defaults are those for new training."""

    num_samples: int = 96
    """Samples along a ray."""

    pixel_grid: PixelGrid = "centers"
    """Where pixels lie; the authors have "integer"."""

    principal_point: Literal["camera", "center"] = "camera"
    """Where the optical axis meets the image: where the camera says, or always in the
    middle, as in the authors' code."""

    measure: Measure = "depth"
    """What cameras' near and far bound and samples divide equally; the authors have
    distances."""

    quadrature: Literal["midpoint", "open"] = "midpoint"
    """Samples in the middle of equal bins that fill the ray, or, as in the authors'
    code, from near to far, with a last interval of length 1e10. An open ray always
    ends in matter: its opacity is 1, and the network has to learn the background."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """What the network computes in."""

    empty_space: Literal["evaluate", "search"] = "evaluate"
    """Whether pictures get the density of every sample, or first search a grid of 64
    cells along each axis for empty space and skip that: faster, but matter that is
    thinner than a cell and its neighbours may be overlooked."""

    margin: float = 1.5
    """Half-width, in extents of the object, of the cube in which empty space is
    looked for; samples outside of it are always evaluated."""

    max_points: int = 2**18
    """Points that the network takes at a time: this bounds the memory."""

    def positions(
        self,
        near: Float[Tensor, "*batch"],
        far: Float[Tensor, "*batch"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch sample"]:
        """Positions along the rays of cameras, jittered where a generator is given."""
        if self.quadrature == "midpoint":
            return sample_uniform(near, far, self.num_samples, generator)[0]
        if generator is None:
            return endpoint_uniform(near, far, self.num_samples)
        half = (far - near) / (2 * self.num_samples)
        positions = endpoint_uniform(near + half, far - half, self.num_samples)
        jitter = torch.rand(positions.shape, generator=generator).to(positions)
        return positions + half[..., None] * jitter

    def samples(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        positions: Float[Tensor, "*batch sample"],
    ) -> Samples:
        """Samples of pixels' rays, (*batch, ray), at the positions of their camera."""
        if self.principal_point == "center":
            intrinsics = cameras.intrinsics.clone()
            intrinsics[..., :2, 2] = 0.5
            cameras = dataclasses.replace(cameras, intrinsics=intrinsics)
        origins, directions = pixel_rays(cameras, size, pixels, self.pixel_grid)
        directions, depth_per_position = measured(directions, self.measure)
        # World lengths per position: exactly 1 where positions are distances.
        norm = directions.norm(dim=-1)
        if self.measure == "distance":
            norm = torch.ones_like(norm)
        if self.quadrature == "midpoint":
            edges = edges_between(positions, cameras.near, cameras.far)
            intervals = edges.diff(dim=-1)
        else:
            last = torch.full_like(positions[..., :1], OPEN)
            intervals = torch.cat([positions.diff(dim=-1), last], dim=-1)
        shape = (*pixels.shape, positions.shape[-1])
        return Samples(
            origins,
            directions,
            positions[..., None, :].expand(shape),
            intervals[..., None, :] * norm[..., None],
            cameras.far[..., None].expand(pixels.shape),
            depth_per_position,
        )

    def autocast(
        self, device: torch.device
    ) -> contextlib.AbstractContextManager[object]:
        """The block in which the network computes in `precision`."""
        bf16 = self.precision == "bf16"
        return torch.autocast(device.type, torch.bfloat16, enabled=bf16)

    def matter(
        self, occupancy: Occupancy | None, points: Float[Tensor, "ray sample 3"]
    ) -> Bool[Tensor, "ray sample"]:
        """Which samples may be seen: all, where nothing is known of empty space."""
        if occupancy is None:
            return points.new_ones(points.shape[:-1], dtype=torch.bool)
        low, high = occupancy.box
        outside = ((points < low) | (points > high)).any(dim=-1)
        kept = occupancy.holds(points) | outside
        if self.quadrature == "open":
            # However thin, matter in the last interval is opaque.
            kept[:, -1] = True
        return kept


AUTHORS_SAMPLING = CodedSampling(
    pixel_grid="integer",
    principal_point="center",
    measure="distance",
    quadrature="open",
)
"""The conventions of the authors' code."""
