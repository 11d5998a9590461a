"""Equivariant Neural Rendering (Dupont et al., ICML 2020, arXiv 2006.07630).

One image becomes a latent volume, which is turned as the camera turns around the
object, and decoded into a novel view. No camera is modelled beyond its orientation, and
no geometry: the networks learn from pairs of views that turning the volume and turning
the camera shall be the same thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch

from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import structural_similarity, weighted_losses
from unseen.networks.voxel_resnet import VoxelDecoder, VoxelEncoder, VoxelNetworkConfig
from unseen.scenes.voxel_latent import VoxelLatentScene


@dataclasses.dataclass(frozen=True)
class ENRConfig:
    """Settings of Equivariant Neural Rendering; the defaults are the authors'.

    Raises:
        ValueError: the networks are made for images of another size.
    """

    image_size: int = 128
    """Height and width of the images, in pixels."""

    network: VoxelNetworkConfig = dataclasses.field(default_factory=VoxelNetworkConfig)
    """Layers of the encoder; those of the decoder mirror them."""

    ssim_weight: float = 0.05
    """Weight of 1 - SSIM beside the mean absolute error."""

    def __post_init__(self) -> None:
        if self.image_size != self.network.image_size:
            raise ValueError(
                f"these networks are for images of {self.network.image_size} pixels, "
                f"not {self.image_size}: change strides or the last of `unfold`"
            )


class ENR(SceneMethod):
    """The method."""

    stochastic: ClassVar[bool] = False
    max_context: ClassVar[int | None] = 1
    sample_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: ENRConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VoxelEncoder(config.network)
        self.decoder = VoxelDecoder(config.network)

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """Each of two views is drawn from the volume of the other.

        The views of a scene (context first) are taken in pairs, in their order; an odd
        one is left out. Nothing is random here: which views are a pair is up to the
        data.

        Raises:
            UserError: there is only one view of each scene.
        """
        views = Views.cat([example.context, example.target], dim=1)
        count = views.shape[1] // 2 * 2
        if not count:
            raise UserError("ENR learns from pairs of views: give two of each scene.")
        first, second = views[:, 0:count:2], views[:, 1:count:2]
        both = Views.cat([first, second], dim=1)
        other = Views.cat([second, first], dim=1)
        scene = self.infer(both.flatten())
        target = other.flatten()
        drawn = scene.render(target.cameras[:, None], target.size).color[:, 0]
        absolute = (drawn - target.images).abs().mean(dim=(1, 2, 3))
        dissimilar = 1 - structural_similarity(drawn, target.images)
        return weighted_losses(
            [
                ("absolute", 1.0, absolute),
                ("ssim", self.config.ssim_weight, dissimilar),
            ]
        )

    def infer(self, views: Views) -> VoxelLatentScene:
        """The scenes (batch,) of one view each (batch,), differentiable.

        Raises:
            UserError: the images have another size than the method's.
        """
        size = self.config.image_size
        if views.size != (size, size):
            raise UserError(
                f"ENR was trained with images of {size} x {size} pixels, not "
                f"{views.size[0]} x {views.size[1]}: resize them."
            )
        return VoxelLatentScene(self.encoder(views.images), views.cameras, self.decoder)

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> VoxelLatentScene:
        """The scenes (batch,) of one view each (batch, 1), in one pass.

        Deterministic; `seeds`, `cameras` and `options` change nothing. The scenes
        share the method's decoder.

        Raises:
            UserError: there are several views, or they have another size.
        """
        if context.shape[1] != 1:
            raise UserError(
                f"ENR infers a scene from one image, not from {context.shape[1]}: "
                "give one context view."
            )
        with evaluating(self):
            scene = self.infer(context[:, 0])
        if on_step is not None:
            on_step(1, 1, scene)
        return scene
