"""The scene of pixelNeRF and VisionNeRF: a field of source views, volume rendered.

Two networks read the same views: the coarse one tells where along a ray the matter is,
the fine one is what is rendered there.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from unseen.geometry.boxes import box_around, frustum_box
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.networks.aligned_mlp import AlignedMLP, AlignedMLPConfig
from unseen.rendering.coarse_fine import CoarseFineSampling, SampleNumbers
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.volume import RayRendering, integrate
from unseen.scenes.aligned_radiance import AlignedRadiance, AlignedReading, SourceViews
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.ray_sampling import Rays
from unseen.scenes.scene import FieldScene, PixelRendering, cat_pixels
from unseen.scenes.sparse_frame import SparseRendering, render_sparsely
from unseen.scenes.state import (
    camera_tensors,
    cameras_of,
    module_state,
    module_tensors,
)

BOUNDS_RESOLUTION = 32
"""Cells, along each axis, in which matter is looked for to bound it."""


@dataclasses.dataclass(frozen=True)
class AlignedRadianceScene(FieldScene):
    """Radiance fields of source views; shape is () or (batch,).

    What these networks make of a point depends on the direction in which it is seen,
    its density too. `evaluate` is not told one: there, points are seen from the first
    source camera, which is where the field knows most.

    `render_pixels` reports in `extras` "coarse_color" (..., ray, 3): what the coarse
    network renders by itself, to be supervised as the colour is.

    `render` skips what cannot be seen (`sparse_frame`), `render_plain` does not.
    """

    sources: SourceViews
    coarse_network: AlignedMLP
    fine_network: AlignedMLP
    reading: AlignedReading
    sampling: CoarseFineSampling
    background: Float[Tensor, "3"]
    sparse: SparseRendering = dataclasses.field(default_factory=SparseRendering)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sources.cameras.shape[:-1])

    @property
    def evaluations_per_ray(self) -> int:
        return self.sampling.evaluations_per_ray

    def _index(self, index: Any) -> AlignedRadianceScene:
        return dataclasses.replace(self, sources=self.sources[index])

    def __getitem__(self, index: int | slice) -> AlignedRadianceScene:
        return self._index(index)

    @functools.cached_property
    def _batch(self) -> AlignedRadianceScene:
        """This scene with a batch axis; kept, because its fields keep their maps."""
        return self if self.shape else self._index(None)

    @functools.cached_property
    def coarse(self) -> AlignedRadiance:
        """The field that tells where the matter is."""
        return AlignedRadiance(self.coarse_network, self.sources, self.reading)

    @functools.cached_property
    def fine(self) -> AlignedRadiance:
        """The field that is rendered."""
        return AlignedRadiance(self.fine_network, self.sources, self.reading)

    # ---- Points ---------------------------------------------------------------------

    def _directions(
        self, points: Float[Tensor, "batch point 3"]
    ) -> Float[Tensor, "batch point 3"]:
        """From the first source camera to points, with z = 1 in that camera."""
        camera = self.sources.cameras[:, 0]
        depth = world_to_camera(camera, points)[..., 2:].clamp(min=1e-6)
        return (points - camera.centers[:, None]) / depth

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        """Density per world unit and colour, as seen from the first source camera."""
        if not self.shape:
            density, color = self._batch.evaluate(points[None])
            return density[0], color[0]
        directions = self._directions(points)
        density, color = self.fine.query_in_pieces(points, directions)
        if not self.reading.world_density:
            density = density / directions.norm(dim=-1)
        return density, color

    # ---- Rays -----------------------------------------------------------------------

    def _render_at(
        self,
        field: AlignedRadiance,
        rays: Rays,
        positions: Float[Tensor, "batch ray sample"],
        *,
        plain: bool,
    ) -> RayRendering:
        """Volume render one field at positions along rays."""
        points = rays.points(positions)
        directions = rays.directions[:, :, None].expand(*positions.shape, 3)
        directions = directions.flatten(1, 2)
        density, color = field.query_in_pieces(points, directions, plain=plain)
        density = density.unflatten(1, positions.shape[1:])
        color = color.unflatten(1, positions.shape[1:])
        return self.integrate(rays, positions, density, color)

    def integrate(
        self,
        rays: Rays,
        positions: Float[Tensor, "batch ray sample"],
        density: Float[Tensor, "batch ray sample"],
        color: Float[Tensor, "batch ray sample 3"],
    ) -> RayRendering:
        """Composite a field's values; positions are the result's depths."""
        edges = self.sampling.edges(positions, rays.far)
        directions = rays.directions
        if not self.reading.world_density:
            directions = functional.normalize(directions, dim=-1)
        r = integrate(density, color, directions, positions, edges, self.background)
        # What is missed lies at `far`, wherever the last interval ends.
        depth = r.depth + (1 - r.opacity) * (rays.far - edges[..., -1])
        return dataclasses.replace(r, depth=depth)

    def render_rays(
        self, rays: Rays, numbers: SampleNumbers, *, plain: bool = False
    ) -> RayRendering:
        """Render rays of a batch, all samples of them; differentiable.

        `numbers` place the samples (`CoarseFineSampling.draw` or `.middle`). Positions
        take the place of depths in the result. `plain` reads features and puts them to
        the network sample by sample, as the papers write it: the slow twin.
        """
        first = self.sampling.coarse_positions(rays.near, rays.far, numbers)
        coarse = self._render_at(self.coarse, rays, first, plain=plain)
        positions = self.sampling.fine_positions(
            first, coarse.weights, rays.near, rays.far, numbers
        )
        fine = self._render_at(self.fine, rays, positions, plain=plain)
        return dataclasses.replace(fine, coarse=coarse)

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
        *,
        plain: bool = False,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; `plain` as in `render_rays`."""
        if not self.shape:
            r = self._batch.render_pixels(
                cameras[None], size, pixels[None], generator, plain=plain
            )
            return r[0]
        rays = self.reading.camera_rays(cameras, size, pixels)
        shape, device = tuple(rays.near.shape), cameras.device
        if generator is None:
            numbers = self.sampling.middle(shape, device)
        else:
            numbers = self.sampling.draw(shape, generator, device)
        r = self.render_rays(rays, numbers, plain=plain)
        assert r.coarse is not None
        found = _pixels(r, rays)
        extras = {"coarse_color": r.coarse.color}
        return dataclasses.replace(found, extras=extras).unflatten(pixels.shape[1:])

    # ---- Images ---------------------------------------------------------------------

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`. What cannot be seen is skipped, to the eye's precision
        (see `SparseRendering`), without gradients."""
        if self.shape:
            return stack_renderings(
                [self[i].render(cameras[i], size) for i in range(self.shape[0])]
            )
        fields = self._batch.coarse, self._batch.fine
        frames = []
        for camera in cameras:
            rays = self._frame_rays(camera, size)
            found = render_sparsely(*fields, rays, size, self.sampling, self.sparse)
            pixels = _pixels(self.integrate(rays, *found), rays)
            frames.append(pixels[0].image(size))
        return stack_renderings(frames)

    def render_plain(
        self, cameras: Cameras, size: tuple[int, int], rays_at_a_time: int = 1024
    ) -> Rendering:
        """One scene as the papers write it, every sample of every ray: slow."""
        frames = []
        for camera in cameras:
            rays, parts = self._frame_rays(camera, size), []
            for piece in rays.split(rays_at_a_time):
                numbers = self.sampling.middle(tuple(piece.near.shape), camera.device)
                r = self._batch.render_rays(piece, numbers, plain=True)
                parts.append(_pixels(r, piece))
            frames.append(cat_pixels(parts)[0].image(size))
        return stack_renderings(frames)

    def _frame_rays(self, camera: Cameras, size: tuple[int, int]) -> Rays:
        """The rays of all pixels of one camera, as those of a batch of one."""
        pixels = torch.arange(size[0] * size[1], device=camera.device)
        return self.reading.camera_rays(camera[None, None], size, pixels[None, None])

    @functools.cached_property
    def _matter(self) -> Float[Tensor, "2 3"]:
        """A box that holds the matter of one scene."""
        limits = frustum_box(self.sources.cameras, self.reading.measure)
        return Occupancy.find(self, limits, BOUNDS_RESOLUTION).bounds()

    def bounds(self) -> Float[Tensor, "2 3"]:
        """Where matter is, inside of the box around all source views' frustums."""
        if not self.shape:
            return self._matter
        each = [self[i].bounds() for i in range(self.shape[0])]
        return box_around(torch.stack(each))

    # ---- Files ----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        return {
            "maps": self.sources.maps,
            "images": self.sources.images,
            **camera_tensors(self.sources.cameras),
            "background": self.background,
            **module_tensors("coarse", self.coarse_network),
            **module_tensors("fine", self.fine_network),
        }

    def config(self) -> dict[str, Any]:
        return {
            "network": dataclasses.asdict(self.coarse_network.config),
            "reading": dataclasses.asdict(self.reading),
            "sampling": dataclasses.asdict(self.sampling),
            "sparse": dataclasses.asdict(self.sparse),
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> AlignedRadianceScene:
        cameras = cameras_of(tensors)

        def restore(name: str) -> AlignedMLP:
            network = AlignedMLP(AlignedMLPConfig(**config["network"]))
            network.load_state_dict(module_state(name, tensors))
            return network.to(cameras.device).eval()

        return cls(
            SourceViews(tensors["maps"], tensors["images"], cameras),
            restore("coarse"),
            restore("fine"),
            AlignedReading(**config["reading"]),
            CoarseFineSampling(**config["sampling"]),
            tensors["background"],
            SparseRendering(**config["sparse"]),
        )


def _pixels(r: RayRendering, rays: Rays) -> PixelRendering:
    """Rendered rays (batch, ray) with depths in place of positions."""
    return PixelRendering(r.color, r.depth * rays.depth_per_position, r.opacity)
