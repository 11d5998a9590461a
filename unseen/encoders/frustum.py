"""The fast scene model: a 2D U-Net gives every view a volume in its own frustum.

In the paper's conditional field an MLP is evaluated at every sample of every ray,
which takes nine tenths of a training step. Here the network ends in the volume: the
U-Net reads a view (image, rays and, for a noisy one, the deterministic rendering) and
writes, for every pixel and every depth slice, evidence for density and colour. What
is left to do for a sample of a ray is one trilinear lookup per view.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.encoders.scene_model import (
    Condition,
    ContextState,
    Denoiser,
    plain_denoiser,
)
from unseen.encoders.view_unet import ViewUNetSceneModel, pixel_guess
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.frustum_own_view import OwnView
from unseen.scenes.frustum_volume import (
    COLOR,
    CONFIDENCE,
    FrustumVolumeScene,
    transmittance,
)


@dataclasses.dataclass(frozen=True)
class FrustumConfig:
    """Sizes of the frustum scene model."""

    unet: UNet2dConfig = dataclasses.field(default_factory=UNet2dConfig)
    patch: int = 2
    """The U-Net works on images made this many times smaller (pixels to channels)."""

    num_slices: int = 32
    """Depth slices of a volume."""

    num_features: int = 4
    """Feature channels of the deterministic scene, rendered for the target encoder."""

    head_channels: int = 32
    """Channels at full resolution, before the volumes."""

    detail: float = 0.25
    """Deviation of images in [-1, 1] about what is known of them from elsewhere: how
    far the colours of a noisy view's voxels start from its own pixels."""

    trust: float = 0.0
    """Added, while sampling, to the confidence of what a context view sees: of its
    voxels, as far as light reaches them in the deterministic scene. What is sampled
    for other views then overrules the input less where it saw something, and as before
    where it did not (not in the paper)."""

    num_samples: int = 32
    """Samples along a ray in training."""

    num_render_samples: int = 64
    """Samples along a ray of a finished scene."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class FrustumContext:
    """Volumes of the context views and what the target encoder needs of them."""

    cameras: Cameras
    deterministic: Float[Tensor, "batch view height width slice mean_channel"]
    joint: Float[Tensor, "batch view height width slice channel"]
    summary: Float[Tensor, "batch summary"]


class FrustumSceneModel(ViewUNetSceneModel):
    """Views to `FrustumVolumeScene`s."""

    def __init__(self, config: FrustumConfig) -> None:
        # Condition: colour 3, depth 1, opacity 1, features.
        super().__init__(
            config.unet, config.patch, config.head_channels, 5 + config.num_features
        )
        self.config = c = config
        joint = COLOR.stop
        self.joint_head = nn.Conv2d(c.head_channels, joint * c.num_slices, 1)
        self.deterministic_head = nn.Conv2d(
            c.head_channels, (joint + c.num_features) * c.num_slices, 1
        )
        for head in (self.joint_head, self.deterministic_head):
            nn.init.normal_(head.weight, std=1e-2)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def _volumes(
        self,
        head: nn.Conv2d,
        features: Float[Tensor, "batch_view feature height width"],
        images: Float[Tensor, "batch view 3 height width"],
        t: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch view height width slice channel"]:
        """Volumes of logits; colours start from those of the views' own pixels."""
        # Channels last is how the look-up reads a volume: this rearranges nothing.
        volumes = rearrange(
            head(features),
            "(b v) (d c) h w -> b v h w d c",
            b=len(images),
            d=self.config.num_slices,
        )
        guess = pixel_guess(images, t, self.config.detail).movedim(2, -1)
        after = volumes.shape[-1] - COLOR.stop
        volumes = volumes + functional.pad(guess, (COLOR.start, after))[..., None, :]
        # Rendering wants it so, and would copy it anew each time.
        return volumes.contiguous()

    def encode_context(self, images: Views) -> FrustumContext:
        t = images.images.new_zeros(images.shape[0])
        embedding = self._embed(t, role=0)
        reference = images.cameras.extrinsics[:, 0]
        features, summary = self._features(images, None, reference, embedding)
        mean = self._volumes(self.deterministic_head, features, images.images, t)
        joint = self._volumes(self.joint_head, features, images.images, t)
        if self.config.trust and not self.training:
            joint[..., CONFIDENCE] += self.config.trust * transmittance(
                mean, images.cameras
            )
        return FrustumContext(images.cameras, mean, joint, summary.mean(dim=1))

    def _scene(self, volumes: Tensor, cameras: Cameras) -> FrustumVolumeScene:
        samples = self.config.num_samples
        if not self.training:
            samples = self.config.num_render_samples
        background = volumes.new_tensor(self.config.background)
        return FrustumVolumeScene(volumes, cameras, background, samples)

    def deterministic(self, context: ContextState) -> FrustumVolumeScene:
        assert isinstance(context, FrustumContext)
        return self._scene(context.deterministic, context.cameras)

    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        # The U-Net works at the small size, so that is all the condition needs.
        small = (size[0] // self.config.patch, size[1] // self.config.patch)
        scene = dataclasses.replace(
            self.deterministic(context), num_samples=self.config.num_samples
        )
        pixels = torch.arange(small[0] * small[1], device=cameras.device)
        pixels = pixels.expand(*cameras.shape, -1)
        r = scene.render_pixels(cameras, small, pixels, generator)
        # Frustum volumes are fields: they have both.
        assert r.depth is not None and r.opacity is not None
        near, far = cameras.near[..., None], cameras.far[..., None]
        depth = (r.depth - near) / (far - near)
        maps = [2 * r.color - 1, depth[..., None], r.opacity[..., None]]
        if r.features is not None:
            maps.append(r.features)
        images = rearrange(
            torch.cat(maps, dim=-1), "b v (h w) c -> b v c h w", h=small[0]
        )
        return Condition(
            images, 0.5 * (images[:, :, :3] + 1), r.opacity.unflatten(-1, small)
        )

    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> FrustumVolumeScene:
        assert isinstance(context, FrustumContext)
        embedding = self._embed(t, role=1) + context.summary
        reference = context.cameras.extrinsics[:, 0]
        features, _ = self._features(noisy, condition.maps, reference, embedding)
        volumes = self._volumes(self.joint_head, features, noisy.images, t)
        return self._scene(
            torch.cat([context.joint, volumes], dim=1),
            Cameras.cat([context.cameras, noisy.cameras], dim=1),
        )

    def denoiser(
        self,
        context: ContextState,
        condition: Condition,
        cameras: Cameras,
        size: tuple[int, int],
    ) -> Denoiser:
        """`plain_denoiser` with one sample per slice, without its look-ups.

        Of one target view; several look at each other's volumes, which takes look-ups.
        """
        assert isinstance(context, FrustumContext)
        if cameras.shape[1] != 1:
            return plain_denoiser(self, context, condition, cameras, size)
        others = self._scene(context.joint, context.cameras)
        own_view = OwnView.prepare(others, cameras[:, 0], size)

        def denoise(
            x_t: Float[Tensor, "batch view 3 height width"], t: Float[Tensor, "batch"]
        ) -> tuple[Float[Tensor, "batch view 3 height width"], FrustumVolumeScene]:
            scene = self.joint(context, Views(x_t, cameras), condition, t)
            color = own_view.render(scene.volumes[:, -1]).color
            color = color.transpose(-1, -2).unflatten(-1, size)
            return 2 * color[:, None] - 1, scene

        return denoise
