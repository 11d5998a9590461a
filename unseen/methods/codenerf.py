"""CodeNeRF (Jang and Agapito, ICCV 2021, arXiv 2109.01750).

One radiance field for a whole category of objects, steered by a code of shape and a
code of texture for each of them. The codes of the training objects are learned with the
network; those of an unseen object are found by fitting them to an image, together with
the camera's pose where that is not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.encoders.auto_decoder import CodeTable, FitConfig, norm_prior
from unseen.encoders.scene_fitting import fit_scenes
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import draw_pixels
from unseen.geometry.rays import random_pixels
from unseen.geometry.views import Example, Views
from unseen.methods.codenerf_pose import PoseConfig, placed, pose_start
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import pixel_colors, weighted_losses
from unseen.networks.coded_mlp import CodedMLP, CodedMLPConfig
from unseen.scenes.coded_field import CodedFieldScene
from unseen.scenes.coded_sampling import CodedSampling
from unseen.scenes.scene import PixelRendering


@dataclasses.dataclass(frozen=True)
class CodeNeRFConfig:
    """Settings of CodeNeRF."""

    num_objects: int = 0
    """Training objects, each of which has two codes; 0 is to be filled in."""

    image_size: int = 128
    """Height and width of the images, in pixels."""

    network: CodedMLPConfig = dataclasses.field(default_factory=CodedMLPConfig)
    """Layers of the field."""

    sampling: CodedSampling = dataclasses.field(default_factory=CodedSampling)
    """How rays are sampled."""

    extent: float = 1.0
    """Half-width of the cube around the world's origin that objects fit into."""

    rays: int = 1024
    """Supervised pixels of each view, drawn anew at each step; 0 is all of them."""

    crop: int = 0
    """Side of the square in the middle of the image that is supervised; 0 is the whole
    image. The authors begin with 64 of 128 pixels."""

    chunk_rays: int = 0
    """Squared errors are averaged over so many rays and these means added up over the
    supervised region, as the authors do with 2048; 0 averages over the region. It
    matters for the weight of the codes' norms."""

    norm_weight: float = 1e-4
    """Weight of the (Euclidean, not squared) norms of both codes."""

    code_std: float = 0.0884
    """Standard deviation of fresh codes' entries; the authors' is sqrt(2 / 256)."""

    code_rate: float = 10.0
    """How many times faster codes are learned than the network."""

    fit: FitConfig = dataclasses.field(
        default_factory=lambda: FitConfig(
            num_steps=200,
            learning_rate=1e-2,
            optimizer="adamw",
            weight_decay=1e-2,
            halve_every=50,
            rays=2048,
        )
    )
    """How codes are fitted to images. The authors look at all pixels in each step."""

    pose: PoseConfig = dataclasses.field(default_factory=PoseConfig)
    """Whether the camera is fitted as well."""


class CodeNeRF(SceneMethod):
    """The method."""

    def __init__(self, config: CodeNeRFConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CodedMLP(config.network)
        # Adam takes steps of the learning rate whatever the gradient's size: a table
        # that is multiplied by `code_rate` makes codes so many times faster.
        width, std = config.network.code_width, config.code_std / config.code_rate
        self.shapes = CodeTable(config.num_objects, width, std)
        self.textures = CodeTable(config.num_objects, width, std)

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """Squared errors of random pixels of all views, and the norms of the codes.

        Raises:
            UserError: the example does not say which training objects it shows.
        """
        c = self.config
        views = Views.cat([example.context, example.target], dim=1)
        scene = self.object_scene(example.objects)
        pixels = self._draw_pixels(views, generator)
        rendered = scene.render_pixels(views.cameras, views.size, pixels, generator)
        errors = _squared_errors(rendered, views, pixels)
        color = errors * self._chunks(*self._region(views.size))
        norms = norm_prior(scene.shapes) + norm_prior(scene.textures)
        return weighted_losses([("color", 1.0, color), ("norms", c.norm_weight, norms)])

    def object_scene(self, objects: Int[Tensor, "batch"] | None) -> CodedFieldScene:
        """The scenes (batch,) of training objects, as they were learned.

        Raises:
            UserError: there are no such objects.
        """
        rate = self.config.code_rate
        return self._scene(rate * self.shapes(objects), rate * self.textures(objects))

    def _scene(
        self,
        shapes: Float[Tensor, "batch code"],
        textures: Float[Tensor, "batch code"],
        frames: Float[Tensor, "batch 4 4"] | None = None,
    ) -> CodedFieldScene:
        if frames is None:
            frames = torch.eye(4).to(shapes).expand(len(shapes), 4, 4)
        c = self.config
        return CodedFieldScene(
            self.network, shapes, textures, frames, c.sampling, c.extent
        )

    def _draw_pixels(
        self, views: Views, generator: torch.Generator
    ) -> Int[Tensor, "batch view ray"]:
        """Pixels to supervise, as flat indices; distinct in each view."""
        (batch, view), (height, width) = views.shape, views.size
        rows, columns = self._region(views.size)
        count = self.config.rays or rows * columns
        inner = random_pixels((rows, columns), batch * view, count, generator)
        row = inner.div(columns, rounding_mode="floor") + (height - rows) // 2
        column = inner % columns + (width - columns) // 2
        pixels = (row * width + column).unflatten(0, (batch, view))
        return pixels.to(views.images.device)

    def _region(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the supervised part of images."""
        side = self.config.crop or max(size)
        return min(side, size[0]), min(side, size[1])

    def _chunks(self, rows: int, columns: int) -> float:
        """What the mean squared error over so many pixels is multiplied by."""
        rays = self.config.chunk_rays
        return rows * columns / rays if rays else 1.0

    # ---- Fitting --------------------------------------------------------------------

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> CodedFieldScene:
        """Scenes (batch,) whose codes, and maybe cameras, fit the context views.

        Codes start at the mean of the training objects' codes. `options.num_steps`
        are steps of the fit. Pixels and jitter of entry i come from `seeds[i]`.
        `cameras` change nothing. If the pose is fitted (`PoseConfig`), the scene is
        placed so that the context cameras see it as the images show it.

        Raises:
            UserError: the pose cannot be fitted to such views.
        """
        c = self.config
        steps = (options and options.num_steps) or c.fit.num_steps
        starts = pose_start(c.pose, context)
        # Several starts of the pose are several entries, of which one is kept.
        repeats = 1 if starts is None else starts.shape[1]
        index = torch.arange(len(seeds), device=context.images.device)
        index = index.repeat_interleave(repeats)
        base = None if starts is None else starts.flatten(0, 1)

        def report(done: int, total: int, scene: CodedFieldScene) -> None:
            if on_step is not None:
                on_step(done, total, scene[::repeats])

        fit = dataclasses.replace(c.fit, num_steps=steps)
        several = [seeds[int(i)] for i in index]
        with evaluating(self):
            scene, losses = self._fit(context[index], base, several, fit, report)
        # Single losses are noisy: they are of random pixels.
        final = losses[-10:].mean(dim=0).reshape(len(seeds), repeats)
        best = final.argmin(dim=1) + repeats * torch.arange(len(seeds)).to(final.device)
        return dataclasses.replace(
            scene,
            shapes=scene.shapes[best],
            textures=scene.textures[best],
            frames=scene.frames[best],
        )

    def _fit(
        self,
        views: Views,
        base: Float[Tensor, "batch parameter"] | None,
        seeds: Sequence[int],
        config: FitConfig,
        report: Callable[[int, int, CodedFieldScene], None],
    ) -> tuple[CodedFieldScene, Float[Tensor, "step batch"]]:
        """The scenes that fit views best, and their losses on the way.

        `base` is where the pose's parameters start, where they are fitted.
        """

        def scenes_of(codes: dict[str, Tensor]) -> CodedFieldScene:
            frames = placed(self.config.pose, views, base, codes.get("pose"))
            return self._scene(codes["shape"], codes["texture"], frames)

        start = self._start(len(seeds), views)
        if base is not None:
            start["pose"] = torch.zeros_like(base)
        scene, fitted = fit_scenes(
            scenes_of,
            lambda scene, generators: self._fit_error(scene, views, generators),
            start,
            config,
            seeds,
            self._prior,
            report,
            {"pose": self.config.pose.rate},
        )
        return scene, fitted.losses

    def _start(self, batch: int, views: Views) -> dict[str, Tensor]:
        """The mean codes of the training objects."""
        rate, width = self.config.code_rate, self.config.network.code_width
        tables = {"shape": self.shapes, "texture": self.textures}
        return {
            name: (rate * table.mean()).to(views.images).expand(batch, width)
            for name, table in tables.items()
        }

    def _prior(self, codes: dict[str, Tensor]) -> Float[Tensor, "batch"]:
        norms = norm_prior(codes["shape"]) + norm_prior(codes["texture"])
        return self.config.norm_weight * norms

    def _fit_error(
        self,
        scene: CodedFieldScene,
        views: Views,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "batch"]:
        """Squared errors of each entry, at pixels and positions of its generator."""
        device = views.images.device
        size, count = views.size, self.config.fit.rays
        pixels = draw_pixels(size, views.shape[1], count, generators, device)
        near, far = views.cameras.near, views.cameras.far
        positions = torch.stack(
            [
                scene.sampling.positions(near[i], far[i], generator)
                for i, generator in enumerate(generators)
            ]
        )
        rendered = scene.render_samples(views.cameras, size, pixels, positions)
        return _squared_errors(rendered, views, pixels) * self._chunks(*size)


def _squared_errors(
    rendered: PixelRendering, views: Views, pixels: Int[Tensor, "batch view ray"]
) -> Float[Tensor, "batch"]:
    """Mean over pixels and channels, of colours that were not clamped."""
    error = rendered.extras["linear"] - pixel_colors(views, pixels)
    return error.square().mean(dim=(1, 2, 3))
