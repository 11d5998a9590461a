"""A scene model whose scenes are light fields: one evaluation per ray.

A view becomes a code; the mean code of all views becomes, through a hypernetwork, the
weights of an MLP from rays to colours (as in LFN, Sitzmann et al. 2021, whose codes are
fitted instead). Cheap to render, but everything has to fit into the code.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.encoders.scene_model import Condition, ContextState
from unseen.encoders.view_unet import CLEAN, NOISY, ViewUNetSceneModel
from unseen.geometry.boxes import object_box
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.networks.hypernetwork import HyperNetwork, HyperNetworkConfig
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.light_field import LightFieldScene


@dataclasses.dataclass(frozen=True)
class LightFieldConfig:
    """Sizes of the light field model."""

    unet: UNet2dConfig = dataclasses.field(default_factory=UNet2dConfig)
    patch: int = 2
    """The U-Net works on images made this many times smaller (pixels to channels)."""

    head_channels: int = 16
    """Channels at full resolution, before the code."""

    grid: int = 8
    """Features are averaged over so many by so many cells, which become the code."""

    hyper: HyperNetworkConfig = dataclasses.field(
        default_factory=lambda: HyperNetworkConfig(
            num_hidden=1, sizes=(6, 128, 128, 128, 128, 3)
        )
    )
    """The network that predicts the MLP, and the code's width."""


@dataclasses.dataclass(frozen=True)
class LightFieldContext:
    """Codes of the context views, and what the target encoder needs of them."""

    cameras: Cameras
    deterministic: Float[Tensor, "batch view code"]
    joint: Float[Tensor, "batch view code"]
    summary: Float[Tensor, "batch summary"]


class LightFieldSceneModel(ViewUNetSceneModel):
    """Views to `LightFieldScene`s, in the frame of the first context view."""

    def __init__(self, config: LightFieldConfig) -> None:
        # Condition: colour 3.
        super().__init__(config.unet, config.patch, config.head_channels, num_maps=3)
        self.config = config
        cells = config.head_channels * config.grid**2
        self.mean_code = nn.Linear(cells, config.hyper.code_width)
        self.joint_code = nn.Linear(cells, config.hyper.code_width)
        self.hyper = HyperNetwork(config.hyper)

    def _cells(
        self, features: Float[Tensor, "batch_view feature height width"]
    ) -> Float[Tensor, "batch_view cell"]:
        return functional.adaptive_avg_pool2d(features, self.config.grid).flatten(1)

    def encode_context(self, images: Views) -> LightFieldContext:
        t = images.images.new_zeros(len(images))
        reference = images.cameras.extrinsics[:, 0]
        features, summary = self._features(
            images, None, reference, self._embed(t, CLEAN)
        )
        cells = self._cells(features).unflatten(0, images.shape)
        return LightFieldContext(
            images.cameras,
            self.mean_code(cells),
            self.joint_code(cells),
            summary.mean(dim=1),
        )

    def _scene(
        self, codes: Float[Tensor, "batch view code"], cameras: Cameras
    ) -> LightFieldScene:
        first = cameras[:, 0]
        # The first view's frame, with its origin where the object stands.
        frame = torch.linalg.inv(first.extrinsics)
        frame[:, 2, 3] -= 0.5 * (first.near + first.far)
        field = self.hyper(codes.mean(dim=1))
        return LightFieldScene(field, object_box(first), frame=frame)

    def deterministic(self, context: ContextState) -> LightFieldScene:
        assert isinstance(context, LightFieldContext)
        return self._scene(context.deterministic, context.cameras)

    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        color = self.deterministic(context).render(cameras, self.small(size)).color
        return Condition(2 * color - 1, color)

    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> LightFieldScene:
        assert isinstance(context, LightFieldContext)
        embedding = self._embed(t, NOISY) + context.summary
        reference = context.cameras.extrinsics[:, 0]
        features, _ = self._features(noisy, condition.maps, reference, embedding)
        codes = self.joint_code(self._cells(features)).unflatten(0, noisy.shape)
        return self._scene(torch.cat([context.joint, codes], dim=1), context.cameras)
