"""Features of space from several views' frustums, and their images (GeNVS).

Every known view has a volume of features in its own frustum. A point collects what each
volume holds there, a small network makes density and features of it, and volume
rendering makes an image of features (Chan et al. 2023, section 3.1). It has no colours:
a denoiser reads it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import PixelGrid, pixel_rays
from unseen.networks.feature_mlp import FeatureMLP
from unseen.rendering.compositing import composite, composite_weights
from unseen.rendering.endpoint_sampling import endpoint_edges, endpoint_uniform
from unseen.rendering.sampling import sample_uniform
from unseen.scenes.frustum_volume import look_up_frustums

ENDLESS = 1e10
"""The length of a last interval without an end."""


@dataclasses.dataclass(frozen=True)
class FeatureRendering:
    """How images of features are rendered; `PORT_RENDERING` is the public port's."""

    num_samples: int = 64
    """Samples along a ray."""
    stride: int = 2
    """Rays are this many pixels apart; their image is enlarged bilinearly."""
    pool: Literal["features", "predictions"] = "features"
    """What is averaged over views: features before the network, as in the paper, or
    what it makes of each view's features."""
    pixel_grid: PixelGrid = "centers"
    """Where rays cross the image. With "corners" the outermost ones lie on its edges,
    and so do the outermost pixels of the enlarged image."""
    samples: Literal["bins", "ends"] = "bins"
    """One sample in each of equal bins; or from near to far, both included, each
    standing for the interval up to the next one and the last one for all behind it."""
    length: Literal["distance", "focal"] = "distance"
    """What densities are per unit of: world length along the ray; or depth, in units of
    half the image's width at that focal length, whatever the ray's slant."""
    inclusive: bool = False
    """Whether a sample also attenuates itself (a slip of the public port)."""


PORT_RENDERING = FeatureRendering(
    pixel_grid="corners", samples="ends", length="focal", inclusive=True
)
"""What weights of the public port (UnofficialGeNVS) were trained with."""


@dataclasses.dataclass(frozen=True)
class FrustumFeatures:
    """Volumes in the frustums of `cameras`, slices near to far, and the network."""

    volumes: Float[Tensor, "batch view height width slice feature"]
    cameras: Cameras
    network: FeatureMLP
    settings: FeatureRendering

    def evaluate(
        self, points: Float[Tensor, "batch point 3"]
    ) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point feature"]]:
        """Density and features of world points.

        Views that do not hold a point count as zero, as in the paper's average.
        """
        found, _ = look_up_frustums(self.volumes, self.cameras, points)
        if self.settings.pool == "features":
            return self.network(found.mean(dim=1))
        density, features = self.network(found)
        return density.mean(dim=1), features.mean(dim=1)

    def render(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch view feature height width"]:
        """Images of features at cameras (batch, view), of (height, width) `size`.

        `generator` jitters the samples.
        """
        s = self.settings
        coarse = (size[0] // s.stride, size[1] // s.stride)
        pixels = torch.arange(coarse[0] * coarse[1], device=cameras.device)
        pixels = pixels.expand(*cameras.shape, -1)
        origins, directions = pixel_rays(cameras, coarse, pixels, s.pixel_grid)
        near = cameras.near[..., None].expand(pixels.shape)
        far = cameras.far[..., None].expand(pixels.shape)
        depths, lengths = self.sample(near, far, generator)
        if s.length == "distance":
            lengths = lengths * directions.norm(dim=-1, keepdim=True)
        else:
            lengths = lengths / (2 * cameras.intrinsics[..., 0, 0, None, None])
        points = origins[..., None, :] + depths[..., None] * directions[..., None, :]
        density, features = self.evaluate(points.flatten(1, -2))
        density = density.reshape(depths.shape)
        weights = composite_weights(density, lengths)
        if s.inclusive:
            weights = weights * torch.exp(-density * lengths)
        image = composite(weights, features.reshape(*depths.shape, -1))
        image = image.transpose(-1, -2).unflatten(-1, coarse)
        return self._enlarge(image.flatten(0, 1), size).unflatten(0, cameras.shape)

    def sample(
        self,
        near: Float[Tensor, "*batch"],
        far: Float[Tensor, "*batch"],
        generator: torch.Generator | None,
    ) -> tuple[Float[Tensor, "*batch sample"], Float[Tensor, "*batch sample"]]:
        """Depths of samples, and the depths that they stand for."""
        count = self.settings.num_samples
        if self.settings.samples == "bins":
            return sample_uniform(near, far, count, generator)
        depths = endpoint_uniform(near, far, count)
        if generator is not None:
            shape = (*near.shape, count - 2)
            random = torch.rand(shape, generator=generator, device=generator.device)
            depths = jitter_inner(depths, random.to(depths))
        lengths = endpoint_edges(depths).diff(dim=-1)
        lengths[..., -1] = ENDLESS
        return depths, lengths

    def _enlarge(
        self,
        image: Float[Tensor, "batch feature coarse_height coarse_width"],
        size: tuple[int, int],
    ) -> Float[Tensor, "batch feature height width"]:
        if image.shape[-2:] == size:
            return image
        corners = self.settings.pixel_grid == "corners"
        return functional.interpolate(
            image, size, mode="bilinear", align_corners=corners
        )


def jitter_inner(
    depths: Float[Tensor, "*batch sample"], random: Float[Tensor, "*batch inner"]
) -> Float[Tensor, "*batch sample"]:
    """Equally spaced depths, all but both ends moved by up to half their spacing.

    `random` are numbers in [0, 1) for the inner samples.
    """
    step = depths[..., 1:2] - depths[..., :1]
    inner = depths[..., 1:-1] + (random - 0.5) * step
    return torch.cat([depths[..., :1], inner, depths[..., -1:]], dim=-1)
