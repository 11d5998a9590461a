# length: one scene with its fast and its plain rendering, and its state.
"""The scene of pixelNeRF and VisionNeRF: a field of source views, volume rendered.

Two networks read the same views: the coarse one tells where along a ray the matter is,
the fine one is what is rendered there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.geometry.rays import get_rays
from unseen.networks.aligned_mlp import AlignedMLP, AlignedMLPConfig
from unseen.rendering.coarse_fine import CoarseFineSampling, SampleNumbers
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.volume import RayRendering, integrate
from unseen.scenes.aligned_radiance import AlignedRadiance, AlignedReading, SourceViews
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.ray_sampling import Rays
from unseen.scenes.scene import FieldScene, PixelRendering
from unseen.scenes.sparse_frame import SparseRendering, render_sparsely

MAX_POINTS = 65536
"""Points times views that are evaluated at a time, which bounds the memory."""

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
        density, color = self._query(self.fine, points, directions)
        if not self.reading.world_density:
            density = density / directions.norm(dim=-1)
        return density, color

    def _query(
        self,
        field: AlignedRadiance,
        points: Float[Tensor, "batch point 3"],
        directions: Float[Tensor, "batch point 3"],
        *,
        plain: bool = False,
    ) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point 3"]]:
        """Ask a field piece by piece; pieces are evaluated again for gradients."""
        query = field.query_plain if plain else field.query
        count = max(1, MAX_POINTS // self.sources.cameras.near.numel())
        if points.shape[1] <= count:
            return query(points, directions)
        if not plain:
            # Made here and not in a piece, which would make it once more.
            _ = field.projected
        found = []
        for piece in zip(
            points.split(count, dim=1), directions.split(count, dim=1), strict=True
        ):
            if torch.is_grad_enabled():
                found.append(checkpoint(query, *piece, use_reentrant=False))
            else:
                found.append(query(*piece))
        densities, colors = zip(*found, strict=True)
        return torch.cat(densities, dim=1), torch.cat(colors, dim=1)

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
        density, color = self._query(field, points, directions, plain=plain)
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
            extras = {name: extra[0] for name, extra in r.extras.items()}
            assert r.depth is not None and r.opacity is not None
            return PixelRendering(r.color[0], r.depth[0], r.opacity[0], extras=extras)
        rays = self.reading.camera_rays(cameras, size, pixels)
        shape, device = tuple(rays.near.shape), cameras.device
        if generator is None:
            numbers = self.sampling.middle(shape, device)
        else:
            numbers = self.sampling.draw(shape, generator, device)
        r = self.render_rays(rays, numbers, plain=plain)
        assert r.coarse is not None
        coarse = r.coarse.color.unflatten(1, pixels.shape[1:])
        return PixelRendering(
            r.color.unflatten(1, pixels.shape[1:]),
            (r.depth * rays.depth_per_position).unflatten(1, pixels.shape[1:]),
            r.opacity.unflatten(1, pixels.shape[1:]),
            extras={"coarse_color": coarse},
        )

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
            frames.append(_to_image([self.integrate(rays, *found)], rays, size))
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
                parts.append(self._batch.render_rays(piece, numbers, plain=True))
            frames.append(_to_image(parts, rays, size))
        return stack_renderings(frames)

    def _frame_rays(self, camera: Cameras, size: tuple[int, int]) -> Rays:
        """The rays of all pixels of one camera, as those of a batch of one."""
        pixels = torch.arange(size[0] * size[1], device=camera.device)
        return self.reading.camera_rays(camera[None, None], size, pixels[None, None])

    @functools.cached_property
    def _matter(self) -> Float[Tensor, "2 3"]:
        """A box that holds the matter of one scene."""
        cameras = self.sources.cameras
        corners = cameras.near.new_tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
        origins, directions = get_rays(cameras, corners.expand(*cameras.shape, -1, -1))
        if self.reading.measure == "distance":
            directions = functional.normalize(directions, dim=-1)
        ends = torch.stack([cameras.near, cameras.far])[..., None, None]
        points = (origins + ends * directions).reshape(-1, 3)
        limits = torch.stack([points.amin(dim=0), points.amax(dim=0)])
        return Occupancy.find(self, limits, BOUNDS_RESOLUTION).bounds()

    def bounds(self) -> Float[Tensor, "2 3"]:
        """Where matter is, inside of the box around all source views' frustums."""
        if not self.shape:
            return self._matter
        each = torch.stack([self[i].bounds() for i in range(self.shape[0])])
        return torch.stack([each[:, 0].amin(dim=0), each[:, 1].amax(dim=0)])

    # ---- Files ----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        cameras = self.sources.cameras
        tensors = {
            "maps": self.sources.maps,
            "images": self.sources.images,
            "extrinsics": cameras.extrinsics,
            "intrinsics": cameras.intrinsics,
            "near": cameras.near,
            "far": cameras.far,
            "background": self.background,
        }
        networks = {"coarse": self.coarse_network, "fine": self.fine_network}
        for name, network in networks.items():
            for key, value in network.state_dict().items():
                tensors[f"{name}.{key}"] = value
        return tensors

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
        names = ("extrinsics", "intrinsics", "near", "far")
        cameras = Cameras(*(tensors[name] for name in names))

        def restore(name: str) -> AlignedMLP:
            network = AlignedMLP(AlignedMLPConfig(**config["network"]))
            parts = {k: v for k, v in tensors.items() if k.startswith(f"{name}.")}
            network.load_state_dict(
                {key.removeprefix(f"{name}."): value for key, value in parts.items()}
            )
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


def _to_image(
    parts: Sequence[RayRendering], rays: Rays, size: tuple[int, int]
) -> Rendering:
    """Pieces of the rays of one frame, put together."""
    color, depth, opacity = (
        torch.cat([getattr(part, name) for part in parts], dim=1)[0]
        for name in ("color", "depth", "opacity")
    )
    depth = depth * rays.depth_per_position[0]
    return Rendering(
        color.T.unflatten(-1, size),
        depth.unflatten(-1, size),
        opacity.unflatten(-1, size),
    )
