"""A scene model whose forward model is a warp: where could what I see move to?

DFM's single-image motion: the unknown is a displacement field, the observation a later
frame of a camera that stands still. Nothing is 3D, and training sees frames only, never
a flow.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.encoders.picture import PictureSceneModel
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


class MotionSceneModel(PictureSceneModel):
    """Views of a camera that stands still to `MotionScene`s."""

    def __init__(self, config: MotionConfig) -> None:
        channels = 3 * config.num_layers
        super().__init__(config.unet, config.patch, config.head_channels, channels)
        self.config = config
        # Layers differ from the start: one stays, the others go round about.
        others = config.num_layers - 1
        angles = torch.arange(others) * (2 * math.pi / others)
        offsets = 0.2 * torch.stack([angles.cos(), angles.sin(), 0 * angles])
        start = functional.pad(offsets, (1, 0)).T.flatten()
        for head in (self.mean_head, self.joint_head):
            assert head.bias is not None
            head.bias.data.copy_(start)

    def scene(
        self,
        values: Float[Tensor, "batch channel height width"],
        image: Float[Tensor, "batch 3 height width"],
    ) -> MotionScene:
        """See `PictureSceneModel.scene`; three values per layer, smooth in space."""
        size = (image.shape[-2], image.shape[-1])
        values = functional.avg_pool2d(values, self.config.cell)
        values = functional.interpolate(values, size, mode="bilinear")
        values = rearrange(values, "b (k c) h w -> b k c h w", c=3)
        flows = self.config.reach * torch.tanh(values[:, :, :2])
        return MotionScene(image, flows, values[:, :, 2].mean(dim=(-1, -2)))

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
