"""The radiance field of pixelNeRF and VisionNeRF: a function of source views' pixels.

A world point picks up, from every source view, the image feature where it projects; an
MLP turns these, the point's place and the viewing direction into density and colour
(Yu et al., CVPR 2021; Lin et al., WACV 2023).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.geometry.rays import Measure, PixelGrid
from unseen.networks.aligned_mlp import AlignedMLP
from unseen.networks.embeddings import octave_encoding
from unseen.rendering.interpolation import TrilinearCorners, lookup, trilinear_corners
from unseen.scenes.ray_sampling import Rays

MAX_POINTS = 65536
"""Points times views that are evaluated at a time, which bounds the memory."""


@dataclasses.dataclass(frozen=True)
class AlignedReading:
    """How points, directions and pixels are put to the network.

    The defaults are those of pixelNeRF where they make the method, and this library's
    conventions where they do not; importers of released weights set the authors'.
    """

    octaves: int = 6
    """Frequencies of the encoding of points: octave_scale 2^k, k < octaves."""

    octave_scale: float = 1.5

    frame: Literal["rotated", "camera"] = "rotated"
    """Points as the network sees them: the world's axes turned into the source
    camera's, about the world's origin (pixelNeRF drops the translation), or the source
    camera's own coordinates (VisionNeRF)."""

    unit_directions: bool = True
    """Whether viewing directions have length 1, or z = 1 in the camera that looks, as
    VisionNeRF has it."""

    sees_color: bool = False
    """Whether the network is told the source image's colour beside its features."""

    density: Literal["relu", "softplus"] = "relu"

    world_density: bool = True
    """Whether density is per world unit of length, or per unit of the depth of the
    camera that looks, as the authors of VisionNeRF have it."""

    padding: Literal["border", "zeros"] = "border"
    """What is read outside of a source image: its border, and behind the camera the
    mirror image; or nothing, in both cases."""

    map_extent: Literal["ratio", "corners"] = "ratio"
    """Where pixel index i of n lies in a map of m features: at i m / n (pixelNeRF's
    "latent scaling"; exact for a strided convolution), or at i (m - 1) / (n - 1)."""

    pixel_grid: PixelGrid = "centers"
    """Where pixels lie; the authors of both systems have "integer"."""

    measure: Measure = "depth"
    """What cameras' near and far bound and samples divide; the authors of pixelNeRF
    have distances."""

    @property
    def place(self) -> int:
        """Numbers that say where a point is and where it is seen from."""
        return 3 * (1 + 2 * self.octaves) + 3 + 3 * self.sees_color

    def camera_rays(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "batch view ray"],
    ) -> Rays:
        """Rays through pixels (flat indices), those of all views one after another."""
        return Rays.of_pixels(cameras, size, pixels, self.pixel_grid, self.measure)

    def map_points(
        self,
        xy: Float[Tensor, "*batch point 2"],
        image_size: tuple[int, int],
        map_size: tuple[int, int],
    ) -> Float[Tensor, "*batch point 2"]:
        """Normalised image points to indices (column, row) of a feature map."""
        image = xy.new_tensor(image_size[::-1])
        grid = xy.new_tensor(map_size[::-1])
        index = xy * image
        if self.pixel_grid == "centers":
            index = index - 0.5
        if self.map_extent == "corners":
            return index * ((grid - 1) / (image - 1))
        return index * (grid / image)


@dataclasses.dataclass(frozen=True)
class SourceViews:
    """What a field knows of the images it was made from; (batch,) or one scene.

    `maps` are features as the encoder gives them, `images` in [-1, 1].
    """

    maps: Float[Tensor, "*batch view feature map_height map_width"]
    images: Float[Tensor, "*batch view 3 height width"]
    cameras: Cameras

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    def __getitem__(self, index: Any) -> SourceViews:
        """Index the batch axis."""
        parts = self.maps[index], self.images[index], self.cameras[index]
        return SourceViews(*parts)


@dataclasses.dataclass(frozen=True)
class AlignedRadiance:
    """A network and the views that it reads; batched over scenes, or one scene."""

    network: AlignedMLP
    sources: SourceViews
    reading: AlignedReading

    def __getitem__(self, index: Any) -> AlignedRadiance:
        """Index the batch axis."""
        return dataclasses.replace(self, sources=self.sources[index])

    @functools.cached_property
    def projected(self) -> Float[Tensor, "batch view channel map_height map_width"]:
        """The feature maps through the network's linear maps, channel-last in memory.

        Interpolation commutes with them, so this is done once and not at every sample.
        """
        return self.network.project_features(self.sources.maps)

    # ---- Where points are -----------------------------------------------------------

    def place(
        self,
        points: Float[Tensor, "batch point 3"],
        directions: Float[Tensor, "batch point 3"],
    ) -> tuple[
        Float[Tensor, "batch view point place"], Float[Tensor, "batch view point 2"]
    ]:
        """What every view says of points' places, and where they project (normalised).

        `directions` are those in which rays go through the points, of any length if
        `unit_directions`, otherwise with z = 1 in the camera that looks.
        """
        cameras, reading = self.sources.cameras, self.reading
        rotation = cameras.extrinsics[..., :3, :3]
        if reading.unit_directions:
            directions = functional.normalize(directions, dim=-1)
        seen_from = torch.einsum("bvji,bpj->bvpi", rotation, directions)
        local = world_to_camera(cameras, points[:, None])
        where = local
        if reading.frame == "rotated":
            where = torch.einsum("bvji,bpj->bvpi", rotation, points)
        encoded = octave_encoding(where, reading.octaves, reading.octave_scale)
        xy = self._project(local)
        parts = [encoded, seen_from]
        if reading.sees_color:
            parts.append(self._colors(xy))
        return torch.cat(parts, dim=-1), xy

    def _project(
        self, local: Float[Tensor, "batch view point 3"]
    ) -> Float[Tensor, "batch view point 2"]:
        intrinsics = self.sources.cameras.intrinsics
        homogeneous = torch.einsum("bvij,bvpj->bvpi", intrinsics, local)
        depth = local[..., 2:]
        if self.reading.padding == "zeros":
            depth = depth.clamp(min=1e-8)
        # A point in the camera's plane projects to nowhere; any border pixel will do.
        depth = torch.where(depth == 0, 1e-8, depth)
        return (homogeneous[..., :2] / depth).clamp(-1e6, 1e6)

    def corners(
        self, xy: Float[Tensor, "batch view point 2"], map_size: tuple[int, int]
    ) -> TrilinearCorners:
        """Normalised image points in maps of a size, (batch view) of them."""
        index = self.reading.map_points(xy, self.sources.image_size, map_size)
        extent = xy.new_tensor(map_size[::-1])
        if self.reading.padding == "border":
            index = torch.minimum(index.clamp(min=0), extent - 1)
        xy = (index + 0.5) / extent
        middle = torch.full_like(xy[..., :1], 0.5)
        xyz = torch.cat([xy, middle], dim=-1).flatten(0, 1)
        return trilinear_corners(xyz, (1, *map_size))

    def _colors(
        self, xy: Float[Tensor, "batch view point 2"]
    ) -> Float[Tensor, "batch view point 3"]:
        """Colours of the source images, in [-1, 1]; zero outside of them."""
        images = self.sources.images
        corners = self.corners(xy, self.sources.image_size)
        found = lookup(images.flatten(0, 1)[:, :, None], corners)
        return found.unflatten(0, images.shape[:2])

    # ---- Density and colour ---------------------------------------------------------

    def activate(
        self, out: Float[Tensor, "*batch 4"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 3"]]:
        """Density (>= 0) and colour in [0, 1] of the network's output."""
        out = out.float()
        relu = self.reading.density == "relu"
        density = out[..., 3].relu() if relu else functional.softplus(out[..., 3])
        return density, out[..., :3].sigmoid()

    def query(
        self,
        points: Float[Tensor, "batch point 3"],
        directions: Float[Tensor, "batch point 3"],
    ) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point 3"]]:
        """Density and colour at world points, seen in directions (see `place`)."""
        place, xy = self.place(points, directions)
        projected = self.projected
        height, width = projected.shape[-2:]
        corners = self.corners(xy, (height, width))
        found = lookup(projected.flatten(0, 1)[:, :, None], corners)
        found = found.unflatten(0, projected.shape[:2])
        told = found.chunk(self.network.config.injections, dim=-1)
        return self.activate(self.network.decode(place, told))

    def query_plain(
        self,
        points: Float[Tensor, "batch point 3"],
        directions: Float[Tensor, "batch point 3"],
    ) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point 3"]]:
        """`query` as the papers write it: features are read, then mapped."""
        place, xy = self.place(points, directions)
        maps = self.sources.maps
        map_size = (maps.shape[-2], maps.shape[-1])
        index = self.reading.map_points(xy, self.sources.image_size, map_size)
        # grid_sample counts from -1 to 1 between the centres of the outermost pixels.
        grid = 2 * index / (xy.new_tensor(map_size[::-1]) - 1) - 1
        found = functional.grid_sample(
            maps.flatten(0, 1),
            grid.flatten(0, 1)[:, :, None],
            padding_mode=self.reading.padding,
            align_corners=True,
        )
        features = found[..., 0].mT.unflatten(0, maps.shape[:2])
        return self.activate(self.network(place, features))

    def query_in_pieces(
        self,
        points: Float[Tensor, "batch point 3"],
        directions: Float[Tensor, "batch point 3"],
        *,
        plain: bool = False,
    ) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point 3"]]:
        """`query`, or `query_plain`; pieces are evaluated again for gradients."""
        query = self.query_plain if plain else self.query
        count = max(1, MAX_POINTS // self.sources.cameras.near.numel())
        if points.shape[1] <= count:
            return query(points, directions)
        if not plain:
            # Made here and not in a piece, which would make it once more.
            _ = self.projected
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
