"""SparseFusion's epipolar feature transformer (Zhou & Tulsiani 2023, section 3.1).

What the context views show along a target ray's epipolar lines becomes one feature and
one colour of that ray. Three transformers take turns: over the views at every depth,
over the depths in every view, and over the views, each followed by a weighted mean (cf.
generalizable patch-based rendering, Suhail et al. 2022). Nothing is a scene.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.geometry.cameras import Cameras, scene_middle
from unseen.geometry.projection import project
from unseen.geometry.rays import get_rays, plucker
from unseen.geometry.views import Views
from unseen.networks.embeddings import harmonic_embedding
from unseen.networks.resnet34 import ResNetConfig, ResNetPyramid


@dataclasses.dataclass(frozen=True)
class EpipolarConfig:
    """Sizes of the epipolar transformer; the defaults are the authors'."""

    encoder: ResNetConfig = dataclasses.field(
        default_factory=lambda: ResNetConfig(blocks=(2, 2, 2))
    )
    """The image encoder: the first stages of a ResNet-18."""

    width: int = 256
    """Channels of the tokens, and of the features."""

    num_layers: int = 4
    """Layers of each of the three transformers."""

    dropout: float = 0.1
    """Dropout within their layers."""

    octaves: int = 6
    """Frequencies of the embeddings of rays and depths."""

    num_depths: int = 20
    """Points along a target ray."""

    half_range: float = 5.0
    """Half the depth range of the first context view, in the network's units."""

    def __post_init__(self) -> None:
        if self.num_depths < 2:
            raise ValueError("a ray needs two depths, its nearest and its furthest")


@dataclasses.dataclass(frozen=True)
class EpipolarFeatures:
    """What the context says of target rays.

    `color` is the network's guess in [0, 1]; `blended` are the context's colours,
    averaged with the weights below. `depth_weights` say which points along a ray each
    context view looks at, `view_weights` which views the feature is made of; both sum
    to one.
    """

    color: Float[Tensor, "batch ray 3"]
    features: Float[Tensor, "batch ray feature"]
    blended: Float[Tensor, "batch ray 3"]
    depth_weights: Float[Tensor, "batch view ray depth"]
    view_weights: Float[Tensor, "batch view ray"]


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """Features and colours that context views see at points along target rays, the
    embedded rays from the views to the points, those of the target, and the depths."""

    seen: Float[Tensor, "batch view ray depth seen"]
    seen_ray: Float[Tensor, "batch view ray depth plucker"]
    own_ray: Float[Tensor, "batch view ray plucker"]
    depth: Float[Tensor, "batch view ray depth embedding"]


class TokenTransformer(nn.Module):
    """A linear layer and a transformer over a sequence, without positions."""

    def __init__(self, config: EpipolarConfig, channels_in: int) -> None:
        super().__init__()
        width = config.width
        self.enter = nn.Sequential(nn.Linear(channels_in, width), nn.GELU())
        layer = nn.TransformerEncoderLayer(width, 1, width, config.dropout)
        self.layers = nn.TransformerEncoder(
            layer, config.num_layers, enable_nested_tensor=False
        )

    def forward(
        self, tokens: Float[Tensor, "sequence entry channel"]
    ) -> Float[Tensor, "sequence entry width"]:
        return self.layers(self.enter(tokens))


class EpipolarTransformer(nn.Module):
    """Context views and target rays to features of these rays.

    Images are in [0, 1] here. Poses are seen in a frame that the first context view
    defines (`to_first_view`), so the world's frame and unit do not matter.
    """

    def __init__(self, config: EpipolarConfig) -> None:
        super().__init__()
        self.config = c = config
        self.encoder = ResNetPyramid(c.encoder)
        ray, depth = 6 * (1 + 2 * c.octaves), 1 + 2 * c.octaves
        seen = c.encoder.features + 3
        self.over_views = TokenTransformer(c, ray + depth + seen)
        self.over_depths = TokenTransformer(c, 2 * ray + depth + c.width)
        self.depth_score = nn.Linear(c.width, 1)
        self.over_summaries = TokenTransformer(c, 2 * ray + c.width)
        self.view_score = nn.Linear(c.width, 1)
        self.color = nn.Linear(c.width, 3)

    def encode(
        self, images: Float[Tensor, "batch view 3 height width"]
    ) -> Float[Tensor, "batch view feature map_height map_width"]:
        """Feature maps of the context's images, which no target camera changes."""
        return self.encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def forward(
        self,
        context: Views,
        maps: Float[Tensor, "batch view feature map_height map_width"],
        camera: Cameras,
        points: Float[Tensor, "ray 2"],
    ) -> EpipolarFeatures:
        """Features of rays through normalised image `points` of cameras (batch,).

        `context` (batch, view) are the views whose feature maps are `maps`. Depths are
        spaced evenly from the target camera's near to its far.
        """
        cameras, target = to_first_view(context.cameras, camera, self.config.half_range)
        return self.look_along(Views(context.images, cameras), maps, target, points)

    def look_along(
        self,
        context: Views,
        maps: Float[Tensor, "batch view feature map_height map_width"],
        target: Cameras,
        points: Float[Tensor, "ray 2"],
    ) -> EpipolarFeatures:
        """`forward` of cameras that are in the network's frame already."""
        tokens = self._tokens(context, maps, target, points)
        seen_ray, own_ray, depth = tokens.seen_ray, tokens.own_ray, tokens.depth
        batch, view, rays, depths = seen_ray.shape[:4]

        seen = torch.cat([seen_ray, depth, tokens.seen], dim=-1).transpose(0, 1)
        mixed = self.over_views(seen.flatten(1, 3)).reshape(*seen.shape[:4], -1)
        own = own_ray[:, :, :, None].expand(-1, -1, -1, depths, -1)
        along = torch.cat([own, seen_ray, depth, mixed.transpose(0, 1)], dim=-1)
        along = self.over_depths(along.flatten(0, 2).transpose(0, 1)).transpose(0, 1)
        along = along.unflatten(0, (batch, view, rays))
        depth_weights = self.depth_score(along).softmax(dim=-2)
        summary = (depth_weights * along).sum(dim=-2)

        # The ray from a view to the middle point stands for the view's rays.
        each = torch.cat([own_ray, seen_ray[..., depths // 2, :], summary], dim=-1)
        each = each.transpose(0, 1)
        summary = self.over_summaries(each.flatten(1, 2)).reshape(*each.shape[:3], -1)
        view_weights = self.view_score(summary).softmax(dim=0)
        features = (view_weights * summary).sum(dim=0)

        depth_weights = depth_weights[..., 0]
        view_weights = view_weights[..., 0].transpose(0, 1)
        weights = depth_weights * view_weights[..., None]
        return EpipolarFeatures(
            self.color(features).sigmoid(),
            features,
            torch.einsum("bvrd,bvrdc->brc", weights, tokens.seen[..., -3:]),
            depth_weights,
            view_weights,
        )

    def _tokens(
        self,
        context: Views,
        maps: Float[Tensor, "batch view feature map_height map_width"],
        target: Cameras,
        points: Float[Tensor, "ray 2"],
    ) -> _Tokens:
        """What is known of the points at all depths of all target rays."""
        c, cameras = self.config, context.cameras
        batch, view = cameras.shape
        origins, directions = get_rays(target, points.expand(batch, -1, -1))
        share = torch.linspace(0, 1, c.num_depths, device=points.device)
        near, far = target.near[:, None], target.far[:, None]
        depth = near + share * (far - near)
        world = origins[..., None, :] + depth[:, None, :, None] * directions[:, :, None]
        world = world.flatten(1, 2)[:, None].expand(-1, view, -1, -1)
        xy, _ = project(cameras, world)
        seen = torch.cat([_look_up(maps, xy), _look_up(context.images, xy)], dim=-1)
        toward = world - cameras.centers[:, :, None]
        seen_ray = plucker(cameras.centers[:, :, None].expand_as(toward), toward)
        shape = (batch, view, len(points), c.num_depths)
        depth = harmonic_embedding(depth[..., None], c.octaves)
        own_ray = harmonic_embedding(plucker(origins, directions), c.octaves)
        return _Tokens(
            seen.reshape(*shape, -1),
            harmonic_embedding(seen_ray, c.octaves).reshape(*shape, -1),
            own_ray[:, None].expand(-1, view, -1, -1),
            depth[:, None, None].expand(*shape[:3], -1, -1),
        )


def to_first_view(
    context: Cameras, target: Cameras, half_range: float
) -> tuple[Cameras, Cameras]:
    """Cameras (batch, view) and (batch,) in the frame of the first context view.

    Its axes are that camera's, turned so that x points left and y up (PyTorch3D's, the
    authors'); its origin is the middle of the camera's depth range, half of which has
    the length `half_range`.
    """
    first = context[:, 0]
    turn = first.extrinsics.new_tensor([-1.0, -1.0, 1.0])[:, None]
    motion = torch.eye(4).to(first.extrinsics).repeat(len(first), 1, 1)
    motion[:, :3, :3] = turn * first.extrinsics[:, :3, :3].transpose(-1, -2)
    middle = scene_middle(first)
    motion[:, :3, 3] = -torch.einsum("bij,bj->bi", motion[:, :3, :3], middle)
    scale = 2 * half_range / (first.far - first.near)
    return (
        _scaled(context.transform(motion[:, None]), scale[:, None]),
        _scaled(target.transform(motion), scale),
    )


def _scaled(cameras: Cameras, scale: Float[Tensor, "*#batch"]) -> Cameras:
    """Cameras of a world in other units."""
    extrinsics = cameras.extrinsics.clone()
    extrinsics[..., :3, 3] *= scale[..., None]
    near, far = cameras.near * scale, cameras.far * scale
    return Cameras(extrinsics, cameras.intrinsics, near, far)


def _look_up(
    maps: Float[Tensor, "batch view channel height width"],
    xy: Float[Tensor, "batch view point 2"],
) -> Float[Tensor, "batch view point channel"]:
    """Bilinear look-up; outside of a map its border goes on.

    The image's edges are the centres of a map's outer pixels, as the authors have it.
    """
    found = functional.grid_sample(
        maps.flatten(0, 1),
        (2 * xy - 1).flatten(0, 1)[:, None],
        align_corners=True,
        padding_mode="border",
    )
    return found[:, :, 0].transpose(-1, -2).unflatten(0, maps.shape[:2])
