"""Scene models of pictures: whatever a U-Net's output makes of a known picture."""

from __future__ import annotations

import abc
import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.encoders.scene_model import Condition, ContextState
from unseen.encoders.view_unet import CLEAN, NOISY, ViewUNetSceneModel
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.picture import PictureScene


@dataclasses.dataclass(frozen=True)
class PictureContext:
    """The scenes that the pictures predict, where they were taken, and what the target
    encoder needs of them."""

    deterministic: PictureScene
    cameras: Cameras
    summary: Float[Tensor, "batch summary"]


class PictureSceneModel(ViewUNetSceneModel):
    """Views of a camera that stands still to `PictureScene`s.

    A subclass says what scene a picture and the network's `channels` values per pixel
    make. Only the first context view counts; one scene is one picture, so the features
    of several noisy views are averaged.
    """

    def __init__(
        self, unet: UNet2dConfig, patch: int, head_channels: int, channels: int
    ) -> None:
        # Condition: the expected picture 3, the known one 3.
        super().__init__(unet, patch, head_channels, num_maps=6)
        self.mean_head = nn.Conv2d(head_channels, channels, 1)
        self.joint_head = nn.Conv2d(head_channels, channels, 1)
        for head in (self.mean_head, self.joint_head):
            nn.init.normal_(head.weight, std=1e-2)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    @abc.abstractmethod
    def scene(
        self,
        values: Float[Tensor, "batch channel height width"],
        image: Float[Tensor, "batch 3 height width"],
    ) -> PictureScene:
        """The scenes (batch,) of known pictures, in [0, 1], and what was made of them;
        `values` are near zero before training."""

    def encode_context(self, images: Views) -> PictureContext:
        first = images[:, :1]
        t = images.images.new_zeros(len(images))
        reference = first.cameras.extrinsics[:, 0]
        embedding = self._embed(t, CLEAN)
        features, summary = self._features(first, None, reference, embedding)
        picture = 0.5 * (first.images[:, 0] + 1)
        scene = self.scene(self.mean_head(features), picture)
        return PictureContext(scene, first.cameras, summary[:, 0])

    def deterministic(self, context: ContextState) -> PictureScene:
        assert isinstance(context, PictureContext)
        return context.deterministic

    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        scene, small = self.deterministic(context), self.small(size)
        color = scene.render(cameras, small).color
        known = Views(scene.image[:, None], cameras[:, :1]).shrink(small).images
        maps = torch.cat([color, known.expand(color.shape)], dim=2)
        return Condition(2 * maps - 1, color)

    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> PictureScene:
        assert isinstance(context, PictureContext)
        embedding = self._embed(t, NOISY) + context.summary
        reference = context.cameras.extrinsics[:, 0]
        features, _ = self._features(noisy, condition.maps, reference, embedding)
        features = features.unflatten(0, noisy.shape).mean(dim=1)
        return self.scene(self.joint_head(features), context.deterministic.image)
