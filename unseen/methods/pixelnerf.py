"""pixelNeRF: Neural Radiance Fields from One or Few Images (Yu et al., CVPR 2021).

A convolutional network turns every source view into a map of features; a radiance
field reads them where its points project. One pass makes a scene of one or several
views: there is nothing to sample, and where views say nothing the scene is the mean of
what could be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import choose_rays
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import coarse_and_fine
from unseen.networks.aligned_mlp import AlignedMLP, AlignedMLPConfig
from unseen.networks.resnet34 import ResNetConfig, ResNetPyramid
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.aligned_radiance import AlignedReading, SourceViews
from unseen.scenes.aligned_scene import AlignedRadianceScene
from unseen.scenes.sparse_frame import SparseRendering


@dataclasses.dataclass(frozen=True)
class PixelNeRFConfig:
    """Settings of pixelNeRF; the networks' sizes are the paper's."""

    encoder: ResNetConfig = dataclasses.field(default_factory=ResNetConfig)
    """The image encoder."""

    width: int = 512
    """Width of the field's networks."""

    blocks: int = 5
    view_blocks: int = 3
    """Blocks of the field's networks, and of these those that treat single views."""

    image_size: int = 128
    """Height and width of the images, in pixels."""

    reading: AlignedReading = dataclasses.field(default_factory=AlignedReading)
    sampling: CoarseFineSampling = dataclasses.field(default_factory=CoarseFineSampling)
    sparse: SparseRendering = dataclasses.field(default_factory=SparseRendering)
    """How whole frames are rendered."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""

    context_weights: tuple[float, ...] = (1.0,)
    """How often training uses 1, 2, ... of the context views it is given."""

    rays: int = 128
    """Supervised rays of each scene, pooled over its target views."""

    box_share: float = 0.0
    """Share of them inside the object's box. The authors begin with 1, for the first
    100,000 steps, and end with 0: that is two runs, the second with --init."""

    @property
    def network(self) -> AlignedMLPConfig:
        """Settings of the coarse and of the fine network."""
        return AlignedMLPConfig(
            place=self.reading.place,
            features=self.encoder.features,
            width=self.width,
            blocks=self.blocks,
            injections=self.view_blocks,
            view_blocks=self.view_blocks,
        )


class PixelNeRF(SceneMethod, title="pixelNeRF"):
    """Scenes from one or few images in one pass (pixel-aligned features, volume)."""

    stochastic: ClassVar[bool] = False
    sample_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: PixelNeRFConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ResNetPyramid(config.encoder)
        self.coarse = AlignedMLP(config.network)
        self.fine = AlignedMLP(config.network)
        self.background: Tensor
        background = torch.tensor(config.background)
        self.register_buffer("background", background, persistent=False)

    def scene(self, context: Views) -> AlignedRadianceScene:
        """The scenes (batch,) of context views (batch, view), differentiable."""
        images = 2 * context.images - 1
        maps = self.encoder(images.flatten(0, 1)).unflatten(0, context.shape)
        c = self.config
        return AlignedRadianceScene(
            SourceViews(maps, images, context.cameras),
            self.coarse,
            self.fine,
            c.reading,
            c.sampling,
            self.background,
            c.sparse,
        )

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """Mean squared colour errors of the coarse and of the fine rendering."""
        c, context = self.config, example.context
        weights = torch.tensor(c.context_weights[: context.shape[1]])
        count = int(torch.multinomial(weights, 1, generator=generator)) + 1
        scene = self.scene(context[:, :count])
        chosen = choose_rays(
            example.target, c.rays, c.box_share, self.background, generator
        )
        return coarse_and_fine(scene, chosen, example.target.size, generator)

    # ---- Inference ------------------------------------------------------------------

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> AlignedRadianceScene:
        """The scenes (batch,) of context views; seeds and options change nothing."""
        with evaluating(self):
            scene = self.scene(context)
        if on_step is not None:
            on_step(1, 1, scene)
        return scene
