"""Posed images to one feature volume: unprojection and pooling (HoloDiffusion).

Karnewar et al., "HoloDiffusion: Training a 3D Diffusion Model using 2D Images", CVPR
2023, section 3.3. Every voxel's centre is projected into all views; what it meets there
is pooled over the views by a small network.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.ray_choice import without_background
from unseen.geometry.views import Views
from unseen.networks.embeddings import harmonic_embedding
from unseen.networks.resnet34 import ResNetConfig, ResNetPyramid

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, which trained weights expect."""


@dataclasses.dataclass(frozen=True)
class UnprojectionConfig:
    """Sizes; the defaults are those of HoloDiffusion's settings."""

    trunk: ResNetConfig = dataclasses.field(
        default_factory=lambda: ResNetConfig(blocks=(3, 4, 6, 3))
    )
    """The image encoder; the features of all its stages are read, not its stem's."""

    image_size: int = 256
    """Height and width to which images are resized for the image encoder."""

    projection: int = 16
    """Channels to which the features of every stage are reduced."""

    width: int = 128
    """Width of the layers that pool views."""

    direction_octaves: int = 3
    """Frequencies of the encoding of the directions from which points are seen."""

    @property
    def sampled(self) -> int:
        """Channels of what one view says of a point."""
        directions = 3 * (1 + 2 * self.direction_octaves)
        return self.projection * len(self.trunk.blocks) + 1 + 3 + directions


def voxel_centers(
    resolution: int, extent: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "voxel 3"]:
    """World points in a cube of side `extent` about the origin; x moves fastest."""
    steps = (torch.arange(resolution, device=device) + 0.5) / resolution - 0.5
    z, y, x = torch.meshgrid(*[extent * steps] * 3, indexing="ij")
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3)


class UnprojectionEncoder(nn.Module):
    """Views (batch, view) to volumes of features in (-1, 1).

    `background` is what images show where there is no object, with values in [0, 1].
    """

    def __init__(
        self,
        config: UnprojectionConfig,
        features: int,
        resolution: int,
        extent: float,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.extent = resolution, extent
        self.trunk = ResNetPyramid(config.trunk)
        widths = [config.trunk.width * 2**i for i in range(len(config.trunk.blocks))]
        self.projections = nn.ModuleList(
            nn.Conv2d(width, config.projection, 1) for width in widths
        )
        width = config.width
        self.from_view = nn.Linear(config.sampled, width)
        self.from_mean = nn.Linear(config.sampled, width)
        self.hidden = nn.Linear(width, width)
        self.pooled = nn.Linear(width, width)
        self.mapper = nn.Linear(width, features)
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self._background: Tensor
        color = torch.tensor(background)
        self.register_buffer("_background", color, persistent=False)

    def feature_maps(
        self,
        images: Float[Tensor, "image 3 height width"],
        masks: Float[Tensor, "image height width"],
    ) -> list[Float[Tensor, "image _ _ _"]]:
        """What is looked up where points project: features, the mask and the colour.

        The features of each stage have the length 1 / sqrt(number of stages).
        """
        side = self.config.image_size
        small = functional.interpolate(images, (side, side), mode="bilinear")
        mean, deviation = (
            small.new_tensor(x)[:, None, None] for x in (_MEAN, _DEVIATION)
        )
        normal = (small - mean) / deviation
        stages = self.trunk.scales(normal)[1:]
        maps = [
            functional.normalize(projection(stage), dim=1) / math.sqrt(len(stages))
            for projection, stage in zip(self.projections, stages, strict=True)
        ]
        return [*maps, masks[:, None], small]

    def pool(
        self,
        maps: list[Float[Tensor, "batch_view _ _ _"]],
        cameras: Cameras,
        points: Float[Tensor, "point 3"],
    ) -> Float[Tensor, "batch point hidden"]:
        """What the views of cameras (batch, view) say of world points, pooled.

        Points that project outside of an image, or nowhere, find zeros there.
        """
        batch, view = cameras.shape
        xy, _ = project(cameras, points)
        grid = (2 * xy - 1).flatten(0, 1)[:, :, None]
        found = [
            functional.grid_sample(x, grid, align_corners=False)[..., 0] for x in maps
        ]
        sampled = torch.cat(found, dim=1).transpose(1, 2)
        directions = functional.normalize(points - cameras.centers[:, :, None], dim=-1)
        octaves = self.config.direction_octaves
        encoded = harmonic_embedding(directions, octaves).flatten(0, 1)
        sampled = torch.cat([sampled, encoded], dim=-1).unflatten(0, (batch, view))
        # The mean is the same for all views: it passes its layer once.
        joined = self.from_view(sampled) + self.from_mean(
            sampled.mean(dim=1, keepdim=True)
        )
        hidden = functional.leaky_relu(self.hidden(joined), 0.2)
        said = self.pooled(hidden)
        # The first channel says how much a view is listened to.
        return (said * said[..., :1].softmax(dim=1)).sum(dim=1)

    def forward(
        self, views: Views
    ) -> Float[Tensor, "batch feature depth height width"]:
        shown = without_background(views, self._background)
        assert shown.masks is not None
        maps = self.feature_maps(shown.images.flatten(0, 1), shown.masks.flatten(0, 1))
        points = voxel_centers(self.resolution, self.extent, views.images.device)
        return self.volume(self.pool(maps, views.cameras, points))

    def volume(
        self, pooled: Float[Tensor, "batch voxel hidden"]
    ) -> Float[Tensor, "batch feature depth height width"]:
        """What views say of the centres of all voxels, as a volume."""
        features = self.mapper(pooled).tanh().transpose(1, 2)
        return features.unflatten(2, (self.resolution,) * 3)
