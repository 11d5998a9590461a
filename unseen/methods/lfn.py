"""Light Field Networks (Sitzmann et al., NeurIPS 2021, arXiv 2106.02634).

A scene is an MLP from a ray's Pluecker coordinates to its colour: one evaluation per
pixel. A hypernetwork makes its weights from a code per object. An auto-decoder: codes
of unseen images are fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.encoders.auto_decoder import CodeTable, FitConfig, mean_square_prior
from unseen.encoders.scene_fitting import fit_scenes
from unseen.geometry.boxes import object_box
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import draw_pixels
from unseen.geometry.rays import PixelGrid
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import choose_pixels, color_error, weighted_losses
from unseen.networks.hypernetwork import HyperNetwork, HyperNetworkConfig
from unseen.scenes.light_field import LightFieldScene

FIT = FitConfig(num_steps=500, learning_rate=5e-3)


@dataclasses.dataclass(frozen=True)
class LFNConfig:
    """Settings of LFN; the default is the paper's, with our pixel centres."""

    image_size: int = 128
    """Height and width of the images in pixels."""

    num_objects: int = 0
    """Training objects, each with a code of its own."""

    hyper: HyperNetworkConfig = dataclasses.field(default_factory=HyperNetworkConfig)
    """The hypernetwork, and the shape of the MLP that it predicts."""

    pixel_grid: PixelGrid = "centers"
    """Where pixels lie; the authors have "integer"."""

    code_std: float = 0.01
    """Standard deviation of codes before they are learned; fits start at zero."""

    rays: int = 0
    """Pixels of each image that a training step looks at; 0 is all, as in the paper."""

    color_weight: float = 200.0
    """Weight of the squared error of colours in [-1, 1]."""

    code_weight: float = 1.0
    """Weight of the codes' mean square (the authors take 100 for many classes)."""

    fit: FitConfig = dataclasses.field(default_factory=lambda: FIT)
    """How codes of unseen images are fitted."""

    with_depth: bool = False
    """Whether renderings have depth, which costs several times the colour."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of rendering without gradients; bf16 is faster where the processor knows it."""

    flat: float = 0.0
    """Pixels between others that differ by at most as much (of 1) are interpolated
    when rendering; 0 evaluates all."""


class LFN(SceneMethod):
    """The method. Seeds are ignored: every fit starts at zero, and looks at the same
    pixels."""

    stochastic: ClassVar[bool] = False

    def __init__(self, config: LFNConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hyper.code_width
        self.codes = CodeTable(config.num_objects, width, config.code_std)
        self.hyper = HyperNetwork(config.hyper)

    def scene(
        self, codes: Float[Tensor, "batch code"], cameras: Cameras
    ) -> LightFieldScene:
        """The scenes of codes; `cameras` (batch, view) say where the objects stand."""
        c = self.config
        box = object_box(cameras[:, 0])
        return LightFieldScene(
            self.hyper(codes), box, c.pixel_grid, c.with_depth, c.precision, c.flat
        )

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The training loss, over all views of an example.

        Raises:
            UserError: the example does not say which training objects it shows.
        """
        c = self.config
        views = Views.cat([example.context, example.target], dim=1)
        codes = self.codes(example.objects)
        count = c.rays or views.size[0] * views.size[1]
        pixels = choose_pixels(views, count, "scattered", generator)
        scene = self.scene(codes, views.cameras)
        rendered = scene.render_pixels(views.cameras, views.size, pixels)
        return weighted_losses(
            [
                ("color", c.color_weight, color_error(rendered, views, pixels)),
                ("code", c.code_weight, mean_square_prior(codes)),
            ]
        )

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> LightFieldScene:
        """Fit a code to each entry's views, from zero, by the training loss."""
        c = self.config
        steps = (options or SampleOptions()).num_steps or c.fit.num_steps
        fit = dataclasses.replace(c.fit, num_steps=steps)
        start = context.images.new_zeros(len(seeds), c.hyper.code_width)

        def error(
            scene: LightFieldScene, generators: Sequence[torch.Generator]
        ) -> Tensor:
            pixels = draw_pixels(
                context.size, context.shape[1], fit.rays, generators, start.device
            )
            rendered = scene.render_pixels(context.cameras, context.size, pixels)
            return c.color_weight * color_error(rendered, context, pixels)

        with evaluating(self):
            scene, _ = fit_scenes(
                lambda codes: self.scene(codes["code"], context.cameras),
                error,
                {"code": start},
                fit,
                [0] * len(seeds),
                lambda codes: c.code_weight * mean_square_prior(codes["code"]),
                on_step,
            )
        return scene
