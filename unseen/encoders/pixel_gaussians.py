"""A scene model whose scenes are 3D Gaussians, some for every place of every view.

Each view places Gaussians along its own rays (cf. "Splatter Image", Szymanowicz et al.
2024, and pixelSplat, Charatan et al. 2024); the Gaussians of all views are rendered
together, by rasterisation instead of ray marching.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from unseen.encoders.scene_model import Condition, ContextState
from unseen.encoders.view_unet import CLEAN, NOISY, ViewUNetSceneModel, pixel_guess
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import get_rays, pixel_centers
from unseen.geometry.views import Views
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.gaussians import GaussianScene, harmonics_of_colors

CHANNELS = {"depth": 1, "place": 2, "scale": 3, "opacity": 1, "color": 3}
"""What a Gaussian is made of."""


@dataclasses.dataclass(frozen=True)
class PixelGaussiansConfig:
    """Sizes of the Gaussian model."""

    unet: UNet2dConfig = dataclasses.field(default_factory=UNet2dConfig)
    patch: int = 2
    """The U-Net works on images made this many times smaller (pixels to channels)."""

    head_channels: int = 32
    """Channels at full resolution, before the Gaussians."""

    stride: int = 2
    """Gaussians stand on a grid of so many pixels."""

    per_place: int = 2
    """Gaussians of each place."""

    detail: float = 0.25
    """How far colours start from a noisy view's own pixels (see `FrustumConfig`)."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class PixelGaussiansContext:
    """Gaussians of the context views and what the target encoder needs of them."""

    cameras: Cameras
    deterministic: GaussianScene
    joint: GaussianScene
    summary: Float[Tensor, "batch summary"]


class PixelGaussiansSceneModel(ViewUNetSceneModel):
    """Views to `GaussianScene`s."""

    def __init__(self, config: PixelGaussiansConfig) -> None:
        # Condition: colour 3, depth 1, opacity 1.
        super().__init__(config.unet, config.patch, config.head_channels, num_maps=5)
        self.config = c = config
        channels = c.per_place * sum(CHANNELS.values())
        self.mean_head, self.joint_head = (
            nn.Conv2d(c.head_channels, channels, c.stride, c.stride) for _ in range(2)
        )
        for head in (self.mean_head, self.joint_head):
            nn.init.normal_(head.weight, std=1e-2)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def _gaussians(
        self,
        head: nn.Conv2d,
        features: Float[Tensor, "batch_view feature height width"],
        views: Views,
        t: Float[Tensor, "batch"],
    ) -> GaussianScene:
        """The Gaussians of all views (batch, view), as scenes (batch,)."""
        c, cameras = self.config, views.cameras
        batch = cameras.shape[0]
        values = head(features)
        size = (values.shape[-2], values.shape[-1])
        values = rearrange(
            values, "(b v) (k c) h w -> b v (h w) k c", b=batch, k=c.per_place
        )
        parts = dict(
            zip(CHANNELS, values.split(list(CHANNELS.values()), dim=-1), strict=True)
        )
        # Anywhere in its place and its neighbours, at any depth.
        cell = values.new_tensor([1 / size[1], 1 / size[0]])
        xy = pixel_centers(size, values.device).reshape(-1, 1, 2)
        xy = (xy + cell * torch.tanh(parts["place"])).flatten(2, 3)
        origins, directions = get_rays(cameras, xy)
        # Several Gaussians of a place start at several depths.
        spread = torch.arange(c.per_place, device=values.device)[:, None]
        start = torch.logit((spread + 0.5) / c.per_place)
        share = torch.sigmoid(parts["depth"] + start).flatten(2)
        near, far = cameras.near[..., None], cameras.far[..., None]
        depth = near + share * (far - near)
        means = origins + depth[..., None] * directions

        # A Gaussian starts as wide as its place.
        focal = torch.stack(
            [cameras.intrinsics[..., 0, 0], cameras.intrinsics[..., 1, 1]], dim=-1
        )
        width = (0.5 * cell / focal).mean(dim=-1)[..., None] * depth
        scales = width.log()[..., None] + parts["scale"].flatten(2, 3).clamp(-4, 2)
        turns = quaternions(cameras.extrinsics[..., :3, :3])[:, :, None]
        guess = pixel_guess(views.shrink(size).images, t, c.detail)
        guess = rearrange(guess, "b v c h w -> b v (h w) 1 c")
        color = torch.sigmoid(parts["color"] + guess).flatten(2, 3)
        return GaussianScene(
            means.flatten(1, 2),
            scales.flatten(1, 2),
            turns.expand(*depth.shape, 4).flatten(1, 2),
            parts["opacity"].reshape(batch, -1),
            harmonics_of_colors(color.flatten(0, 2), 0).reshape(batch, -1, 1, 3),
            values.new_tensor(c.background),
        )

    def encode_context(self, images: Views) -> PixelGaussiansContext:
        t = images.images.new_zeros(len(images))
        reference = images.cameras.extrinsics[:, 0]
        features, summary = self._features(
            images, None, reference, self._embed(t, CLEAN)
        )
        return PixelGaussiansContext(
            images.cameras,
            self._gaussians(self.mean_head, features, images, t),
            self._gaussians(self.joint_head, features, images, t),
            summary.mean(dim=1),
        )

    def deterministic(self, context: ContextState) -> GaussianScene:
        assert isinstance(context, PixelGaussiansContext)
        return context.deterministic

    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        found = self.deterministic(context).render(cameras, self.small(size))
        assert found.depth is not None and found.opacity is not None
        near, far = cameras.near[..., None, None], cameras.far[..., None, None]
        depth = (found.depth - near) / (far - near)
        planes = torch.stack([depth, found.opacity], dim=2)
        maps = torch.cat([2 * found.color - 1, planes], dim=2)
        return Condition(maps, found.color, found.opacity)

    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> GaussianScene:
        assert isinstance(context, PixelGaussiansContext)
        embedding = self._embed(t, NOISY) + context.summary
        reference = context.cameras.extrinsics[:, 0]
        features, _ = self._features(noisy, condition.maps, reference, embedding)
        return join(context.joint, self._gaussians(self.joint_head, features, noisy, t))


def join(first: GaussianScene, second: GaussianScene) -> GaussianScene:
    """The Gaussians of both, in the first one's setting."""
    pairs = zip(first.tensors().items(), second.tensors().values(), strict=True)
    axis = len(first.shape)
    joined = {
        n: torch.cat([x, y], dim=axis) for (n, x), y in pairs if n != "background"
    }
    return dataclasses.replace(first, **joined)


@torch.no_grad()
def quaternions(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Quaternions (w, x, y, z) of rotation matrices, for all angles alike.

    The eigenvector of the largest eigenvalue (Bar-Itzhack 2000, "New method for
    extracting the quaternion from a rotation matrix").
    """
    r = rotations
    trace = r.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    off = torch.stack(
        [
            r[..., 2, 1] - r[..., 1, 2],
            r[..., 0, 2] - r[..., 2, 0],
            r[..., 1, 0] - r[..., 0, 1],
        ],
        dim=-1,
    )
    matrix = torch.empty(*r.shape[:-2], 4, 4, dtype=r.dtype, device=r.device)
    matrix[..., 0, 0] = trace
    matrix[..., 0, 1:] = matrix[..., 1:, 0] = off
    identity = torch.eye(3, dtype=r.dtype, device=r.device)
    matrix[..., 1:, 1:] = r + r.transpose(-1, -2) - trace[..., None, None] * identity
    return torch.linalg.eigh(matrix).eigenvectors[..., -1]
