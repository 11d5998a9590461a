"""A scene model whose forward model is a warp: where could what I see move to?

The third application of DFM's paper (section 4.3): the unknown is a displacement field,
the observation a later frame of a camera that stands still. Nothing is 3D, and training
sees frames only, never a flow.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unseen.encoders.scene_model import Condition, ContextState
from unseen.encoders.view_unet import CLEAN, NOISY, ViewUNetSceneModel
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_centers
from unseen.geometry.views import Example, Views
from unseen.networks.unet2d import UNet2dConfig
from unseen.scenes.motion import MotionScene, warp


@dataclasses.dataclass(frozen=True)
class MotionConfig:
    """Sizes of the motion model, and the motions that it is trained on."""

    unet: UNet2dConfig = dataclasses.field(default_factory=UNet2dConfig)
    patch: int = 2
    """The U-Net works on images made this many times smaller (pixels to channels)."""

    head_channels: int = 32
    """Channels at full resolution, before the flows."""

    cell: int = 4
    """Flows are smooth: known on cells of so many pixels, and interpolated."""

    num_layers: int = 5
    """Motions between which a scene can be undecided."""

    reach: float = 0.5
    """The longest flow, in image widths and heights."""

    made_up: bool = True
    """Whether training moves the data's pictures by itself, as below, because the data
    hold no motion. Otherwise context and target are frames of a camera that stands
    still."""

    shift: float = 0.2
    """How far pictures are shifted, in any direction, in image widths."""

    turn: float = 15.0
    """They are turned by up to so many degrees, to either side."""


@dataclasses.dataclass(frozen=True)
class MotionContext(ContextState):
    """The pictures that may move, in [0, 1], what is to be expected of them, and what
    the target encoder needs of them."""

    deterministic: MotionScene
    cameras: Cameras
    summary: Float[Tensor, "batch summary"]

    def select(self, index: Int[Tensor, "selected"]) -> MotionContext:
        scene = self.deterministic
        chosen = MotionScene(
            scene.image[index], scene.flows[index], scene.logits[index]
        )
        return MotionContext(chosen, self.cameras[index], self.summary[index])


class MotionSceneModel(ViewUNetSceneModel):
    """Views of a camera that stands still to `MotionScene`s.

    Only the first context view counts. One scene is one motion, so it is seen once: of
    several noisy views, features are averaged.
    """

    def __init__(self, config: MotionConfig) -> None:
        # Condition: the expected picture 3, the mean flow 2, the picture itself 3.
        super().__init__(config.unet, config.patch, config.head_channels, num_maps=8)
        self.config = c = config
        self.mean_head, self.joint_head = (
            nn.Conv2d(c.head_channels, 3 * c.num_layers, 1) for _ in range(2)
        )
        for head in (self.mean_head, self.joint_head):
            nn.init.normal_(head.weight, std=1e-2)
            assert head.bias is not None
            # Layers differ from the start: one stays, the others go round about.
            angles = torch.arange(c.num_layers - 1) * (2 * math.pi / (c.num_layers - 1))
            offsets = 0.2 * torch.stack([angles.cos(), angles.sin(), 0 * angles])
            offsets = functional.pad(offsets, (1, 0))
            head.bias.data.copy_(offsets.T.flatten())

    def observe(self, example: Example, generator: torch.Generator) -> Example:
        """With `made_up`, the first context picture and a picture that moved."""
        if not self.config.made_up:
            return example
        given = Views(example.context.images, example.context.cameras)[:, :1]
        flow = self.random_flow(len(given), given.size, generator)
        moved = warp(given.images[:, 0], flow.to(given.images))
        return Example(given, Views(moved[:, None], given.cameras))

    def random_flow(
        self, count: int, size: tuple[int, int], generator: torch.Generator
    ) -> Float[Tensor, "count 2 height width"]:
        """Flows of rigid motions in the picture (see `MotionConfig.made_up`)."""
        direction = 2 * math.pi * torch.rand(count, generator=generator)
        turn = 2 * torch.rand(count, generator=generator) - 1
        turn = turn * math.radians(self.config.turn)
        shift = self.config.shift * torch.stack([direction.cos(), direction.sin()], -1)
        # A pixel at x shows what was at R^T (x - shift), about the picture's middle.
        x = pixel_centers(size) - 0.5
        before = x - shift[:, None, None]
        cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
        u, v = before.unbind(dim=-1)
        source = torch.stack([cos * u + sin * v, cos * v - sin * u], dim=1)
        return source - x.movedim(-1, 0)

    def _scene(
        self,
        head: nn.Conv2d,
        features: Float[Tensor, "batch feature height width"],
        image: Float[Tensor, "batch 3 height width"],
    ) -> MotionScene:
        values = head(functional.avg_pool2d(features, self.config.cell))
        size = (image.shape[-2], image.shape[-1])
        values = functional.interpolate(values, size, mode="bilinear")
        values = rearrange(values, "b (k c) h w -> b k c h w", c=3)
        flows = self.config.reach * torch.tanh(values[:, :, :2])
        return MotionScene(image, flows, values[:, :, 2].mean(dim=(-1, -2)))

    def encode_context(self, images: Views) -> MotionContext:
        first = images[:, :1]
        t = images.images.new_zeros(len(images))
        reference = first.cameras.extrinsics[:, 0]
        features, summary = self._features(
            first, None, reference, self._embed(t, CLEAN)
        )
        picture = 0.5 * (first.images[:, 0] + 1)
        scene = self._scene(self.mean_head, features, picture)
        return MotionContext(scene, first.cameras, summary[:, 0])

    def deterministic(self, context: ContextState) -> MotionScene:
        assert isinstance(context, MotionContext)
        return context.deterministic

    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        scene, small = self.deterministic(context), self.small(size)
        found = scene.render(cameras, small)
        assert found.features is not None
        still = scene.at(0.0).render(cameras, small).color
        maps = [2 * found.color - 1, found.features, 2 * still - 1]
        return Condition(torch.cat(maps, dim=2), found.color)

    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> MotionScene:
        assert isinstance(context, MotionContext)
        embedding = self._embed(t, NOISY) + context.summary
        reference = context.cameras.extrinsics[:, 0]
        features, _ = self._features(noisy, condition.maps, reference, embedding)
        features = features.unflatten(0, noisy.shape).mean(dim=1)
        return self._scene(self.joint_head, features, context.deterministic.image)
