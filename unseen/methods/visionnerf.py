"""VisionNeRF: view synthesis from one image (Lin et al., WACV 2023, arXiv 2207.05736).

A vision transformer sees the whole image, a shallow CNN its details; a radiance field
in the coordinates of the one source camera reads their features where its points
project. One pass makes a scene: there is nothing to sample.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from unseen.errors import UserError
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
from unseen.networks.fused_features import FusedFeatures, FusedFeaturesConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.aligned_radiance import AlignedReading, SourceViews
from unseen.scenes.aligned_scene import AlignedRadianceScene
from unseen.scenes.sparse_frame import SparseRendering

# What the network is told, which makes the method; the rest is a choice of conventions.
_READING = AlignedReading(
    octaves=10,
    octave_scale=math.pi,
    frame="camera",
    unit_directions=False,
    sees_color=True,
    density="softplus",
    padding="zeros",
    map_extent="corners",
)
_SAMPLING = CoarseFineSampling(rule="endpoints", num_fine=64, num_depth=0)


@dataclasses.dataclass(frozen=True)
class VisionNeRFConfig:
    """Settings of VisionNeRF; the networks' sizes are those of the released weights."""

    encoder: FusedFeaturesConfig = dataclasses.field(
        default_factory=FusedFeaturesConfig
    )
    """The image encoder."""

    width: int = 512
    """Width of the field's networks."""

    blocks: int = 6
    """Blocks of the field's networks."""

    rectified_shortcut: bool = False
    """See `AlignedMLPConfig`: the released weights need it."""

    image_size: int = 128
    """Height and width of the images, in pixels: a multiple of the patch."""

    reading: AlignedReading = _READING
    sampling: CoarseFineSampling = _SAMPLING
    sparse: SparseRendering = dataclasses.field(default_factory=SparseRendering)
    """How whole frames are rendered."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""

    rays: int = 512
    """Supervised rays of each scene, pooled over its target views."""

    box_share: float = 0.8
    """Share of them inside the object's box."""

    @property
    def network(self) -> AlignedMLPConfig:
        """Settings of the coarse and of the fine network."""
        return AlignedMLPConfig(
            place=self.reading.place,
            features=self.encoder.features,
            width=self.width,
            blocks=self.blocks,
            injections=1,
            view_blocks=self.blocks,
            rectified_shortcut=self.rectified_shortcut,
        )


class VisionNeRF(SceneMethod):
    """Scenes from one image in one pass (transformer and CNN features, volume)."""

    stochastic: ClassVar[bool] = False
    max_context: ClassVar[int | None] = 1
    sample_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: VisionNeRFConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FusedFeatures(config.encoder)
        self.coarse = AlignedMLP(config.network)
        self.fine = AlignedMLP(config.network)
        self.background: Tensor
        background = torch.tensor(config.background)
        self.register_buffer("background", background, persistent=False)

    def scene(self, context: Views) -> AlignedRadianceScene:
        """The scenes (batch,) of single views (batch, 1), differentiable.

        Raises:
            UserError: there are several views of a scene.
        """
        if context.shape[1] != 1:
            raise UserError(
                f"VisionNeRF makes a scene of one image, not of {context.shape[1]}: "
                "give one, or use pixelNeRF."
            )
        images = 2 * context.images - 1
        c = self.config
        return AlignedRadianceScene(
            SourceViews(self.encoder(images[:, 0])[:, None], images, context.cameras),
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
        c = self.config
        scene = self.scene(example.context)
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
        """The scenes (batch,) of single images; seeds and options change nothing."""
        with evaluating(self):
            scene = self.scene(context)
        if on_step is not None:
            on_step(1, 1, scene)
        return scene
