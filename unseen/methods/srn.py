"""Scene Representation Networks (Sitzmann et al., NeurIPS 2019, arXiv 1906.01618).

A scene is an MLP from world points to features, whose weights a hypernetwork makes
from a code per object. A recurrent ray marcher finds where each ray ends, and a small
network colours the feature there. An auto-decoder: codes of unseen images are fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.encoders.auto_decoder import CodeTable, FitConfig, mean_square_prior
from unseen.encoders.scene_fitting import fit_scenes
from unseen.geometry.boxes import object_box
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import draw_pixels
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
from unseen.networks.ray_marcher import RayMarcher, RayMarcherConfig
from unseen.scenes.ray_marched import Marching, RayMarchedScene
from unseen.scenes.scene import PixelRendering

HYPER = HyperNetworkConfig(
    sizes=(3, 256, 256, 256, 256), plain_last=False, split="layer"
)
FIT = FitConfig(num_steps=500, learning_rate=5e-3)


@dataclasses.dataclass(frozen=True)
class SRNConfig:
    """Settings of SRN; the default is the paper's, with our pixel centres."""

    image_size: int = 128
    """Height and width of the images in pixels."""

    num_objects: int = 0
    """Training objects, each with a code of its own."""

    hyper: HyperNetworkConfig = dataclasses.field(default_factory=lambda: HYPER)
    """The hypernetwork, and the shape of the MLP that it predicts."""

    marcher: RayMarcherConfig = dataclasses.field(default_factory=RayMarcherConfig)
    """The ray marcher."""

    marching: Marching = dataclasses.field(default_factory=Marching)
    """Where rays start, and which convention of pixel centres they follow."""

    code_std: float = 0.01
    """Standard deviation of codes before they are learned or fitted."""

    rays: int = 0
    """Pixels of each image that a training step looks at; 0 is all, as in the paper."""

    color_weight: float = 200.0
    """Weight of the squared error of colours in [-1, 1]."""

    code_weight: float = 1.0
    """Weight of the codes' mean square."""

    depth_weight: float = 10.0
    """Weight of the square of depths behind the camera."""

    fit: FitConfig = dataclasses.field(default_factory=lambda: FIT)
    """How codes of unseen images are fitted."""


class SRN(SceneMethod):
    """The method. Seeds decide where the fit of an image's code starts."""

    def __init__(self, config: SRNConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hyper.code_width
        self.codes = CodeTable(config.num_objects, width, config.code_std)
        self.hyper = HyperNetwork(config.hyper)
        self.marcher = RayMarcher(config.marcher)

    def scene(
        self, codes: Float[Tensor, "batch code"], cameras: Cameras
    ) -> RayMarchedScene:
        """The scenes of codes; `cameras` (batch, view) say where the objects stand."""
        box = object_box(cameras[:, 0])
        field = self.hyper(codes)
        return RayMarchedScene(field, self.marcher, box, self.config.marching)

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The training loss, over all views of an example.

        Raises:
            UserError: the example does not say which training objects it shows.
        """
        c = self.config
        views = Views.cat([example.context, example.target], dim=1)
        codes = self.codes(example.objects)
        scene = self.scene(codes, views.cameras)
        count = c.rays or views.size[0] * views.size[1]
        pixels = choose_pixels(views, count, "scattered", generator)
        rendered = scene.render_pixels(views.cameras, views.size, pixels, generator)
        return weighted_losses(
            [
                ("color", c.color_weight, color_error(rendered, views, pixels)),
                ("code", c.code_weight, mean_square_prior(codes)),
                ("behind", c.depth_weight, _behind(rendered)),
            ]
        )

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> RayMarchedScene:
        """Fit a code to each entry's views, by the training loss; rays start fixed."""
        c = self.config
        steps = (options or SampleOptions()).num_steps or c.fit.num_steps
        fit = dataclasses.replace(c.fit, num_steps=steps)
        width, device = c.hyper.code_width, context.cameras.device
        drawn = [
            torch.randn(width, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        start = c.code_std * torch.stack(drawn).to(device)

        def error(
            scene: RayMarchedScene, generators: Sequence[torch.Generator]
        ) -> Tensor:
            pixels = draw_pixels(
                context.size, context.shape[1], fit.rays, generators, device
            )
            rendered = scene.render_pixels(context.cameras, context.size, pixels)
            color = color_error(rendered, context, pixels)
            return c.color_weight * color + c.depth_weight * _behind(rendered)

        with evaluating(self):
            scene, _ = fit_scenes(
                lambda codes: self.scene(codes["code"], context.cameras),
                error,
                {"code": start},
                fit,
                seeds,
                lambda codes: c.code_weight * mean_square_prior(codes["code"]),
                on_step,
            )
        return scene


def _behind(rendered: PixelRendering) -> Float[Tensor, "batch"]:
    """Mean square of the depths behind the camera."""
    assert rendered.depth is not None
    return rendered.depth.clamp(max=0).square().mean(dim=(1, 2))
