"""DiffRF (Mueller et al., CVPR 2023, arXiv 2212.01206).

A diffusion model of explicit radiance fields on voxel grids. A first stage (`prepare`)
fits a grid to every training object; then a 3D U-Net learns to denoise grids, and what
it makes of them is also rendered and compared with the object's images. Samples need no
image; a part of a grid, or images, can be given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.configuration import to_json
from unseen.diffusion.from_noise import sample_from_noise
from unseen.diffusion.guidance import Denoise, guided_noise, keep_known
from unseen.diffusion.noise import random_levels
from unseen.diffusion.prediction import eps_from_x0, min_snr_weight, x0_from_eps
from unseen.diffusion.schedules import LinearSchedule, unsqueeze_like
from unseen.encoders.grid_fitting import (
    GridFitConfig,
    GridStore,
    fit_missing,
    image_errors,
)
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import without_background
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    TrainingScenes,
    evaluating,
)
from unseen.methods.photometric import weighted_losses
from unseen.networks.unet3d import UNet3d, UNet3dConfig
from unseen.scenes.grid_space import GridSpace
from unseen.scenes.voxel_radiance import VoxelRadianceScene


@dataclasses.dataclass(frozen=True)
class DiffRFConfig:
    """Settings of DiffRF; see docs/methods/diffrf.md for which are the paper's.

    Raises:
        ValueError: the grid cannot be halved as often as the network does.
    """

    network: UNet3dConfig = dataclasses.field(
        default_factory=lambda: UNet3dConfig(
            channels=128,
            multipliers=(1, 2, 3, 4),
            attention=(False, False, True, True),
            heads=4,
            zero_start=True,
        )
    )
    """The denoiser."""

    prediction: Literal["noise", "grid"] = "noise"
    """What it predicts: the noise (the paper), with its squared error as the loss; or
    the clean grid, whose error counts min(SNR, 5). A network with patches, or of few
    channels, cannot hand the noise of every voxel through, and needs the latter."""

    grid: GridSpace = dataclasses.field(default_factory=GridSpace)
    """Size of the grids, and what their numbers mean."""

    image_size: int = 128
    """Height and width of the images, in pixels."""

    fit: GridFitConfig = dataclasses.field(default_factory=GridFitConfig)
    """How grids are fitted before training."""

    rendering_weight: float = 1.0
    """Weight of the rendering loss; 0 is none."""

    rays: int = 1024
    """Rays of each scene for the rendering loss, pooled over its views."""

    num_steps: int = 1000
    """Denoising steps of sampling."""

    image_deviation: float = 0.05
    """Standard deviation, in colours of [0, 1] and when no noise is left, of the
    likelihood of given images, whose gradient guides sampling."""

    guiding_rays: int = 1024
    """Pixels of the given images, pooled, that each guided step looks at."""

    def __post_init__(self) -> None:
        self.network.check(self.grid.resolution)
        if not self.image_deviation > 0:
            raise ValueError("`image_deviation` must be positive")


class DiffRF(SceneMethod):
    """The method."""

    min_context: ClassVar[int] = 0
    scenes_at_once: ClassVar[int] = 4

    def __init__(self, config: DiffRFConfig) -> None:
        super().__init__()
        self.config = config
        self.network = UNet3d(config.network, 4)
        self.schedule = LinearSchedule()
        self.grids: GridStore | None = None
        self.background: Tensor
        background = torch.tensor(config.grid.background)
        self.register_buffer("background", background, persistent=False)

    # ---- Training -------------------------------------------------------------------

    def prepare(
        self,
        scenes: TrainingScenes,
        folder: Path,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Fit a grid to every object that has none in `folder` yet.

        Raises:
            UserError: there is one object, or the folder holds grids of others.
        """
        if len(scenes.names) < 2:
            raise UserError(
                "DiffRF learns what objects have in common, and the data has "
                f"{len(scenes.names)} for training: give at least two."
            )
        c = self.config
        settings = {"grid": to_json(c.grid), "fit": to_json(c.fit)}
        store = GridStore(folder, scenes.names, settings)

        def load(number: int) -> Views:
            views = scenes.load(number).to(self.background.device)
            return without_background(views, self.background)

        fit_missing(store, load, c.grid, c.fit, on_progress)
        self.grids = store

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The error of the noise, or of the grid, and that of renderings of the latter.

        The rendering counts alpha^4: at high noise there is nothing to be seen.
        """
        if self.grids is None:
            raise UserError(
                "DiffRF learns from fitted grids: let `prepare` make them first."
            )
        c = self.config
        x_0 = self.grids.read(example.objects).to(self.background.device)
        x_t, t, noise = random_levels(x_0, self.schedule, generator)
        eps = self.predict_noise(x_t, t)
        error = (eps - noise).square().mean(dim=(1, 2, 3, 4))
        if c.prediction == "grid":
            # An error of the noise is SNR times one of the grid.
            log_snr = self.schedule.log_snr(t).to(error)
            error = error * min_snr_weight(log_snr) * torch.exp(-log_snr)
        terms = [(c.prediction, 1.0, error)]
        if c.rendering_weight:
            shown = self._objects(Views.cat([example.context, example.target], dim=1))
            scenes = c.grid.scene(self._clean(x_t, eps, t))
            error = image_errors(scenes, shown, c.rays, [generator] * len(shown))
            weight = self.schedule.alpha(t).to(error) ** 4
            terms += [("rendering", c.rendering_weight, weight * error)]
        return weighted_losses(terms)

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, to be multiplied by grids."""
        scales = self.schedule.alpha_sigma(t)
        alpha, sigma = (unsqueeze_like(scale, like).to(like) for scale in scales)
        return alpha, sigma

    def predict_noise(
        self,
        x_t: Float[Tensor, "batch 4 depth height width"],
        t: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch 4 depth height width"]:
        """The noise in x_t."""
        found = self.network(x_t, self.schedule.step_of_t(t).round().to(x_t))
        if self.config.prediction == "noise":
            return found
        return eps_from_x0(x_t, found, *self._scales(t, x_t))

    def _clean(self, x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The estimate of x_0, clipped to [-1, 1]."""
        return x0_from_eps(x_t, eps, *self._scales(t, x_t)).clamp(-1, 1)

    def denoise(
        self,
        x_t: Float[Tensor, "batch 4 depth height width"],
        t: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch 4 depth height width"]:
        """The estimate of the clean grids, clipped to [-1, 1]."""
        return self._clean(x_t, self.predict_noise(x_t, t), t)

    def _objects(self, views: Views) -> list[Views]:
        """Views (batch, view) of one object after the other, without background."""
        views = without_background(views, self.background)
        return [views[index] for index in range(views.shape[0])]

    # ---- Sampling -------------------------------------------------------------------

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> VoxelRadianceScene:
        """Scenes of noise; given views, sampling is guided to what they show."""
        if not context.shape[1]:
            return self._sample(self.denoise, seeds, options, on_step)
        # Other numbers than those of the sampler's noise.
        draws = [torch.Generator().manual_seed(seed ^ 1) for seed in seeds]
        return self._sample(
            lambda x_t, t: self.denoise_guided(x_t, t, context, draws),
            seeds,
            options,
            on_step,
        )

    def complete_scene(
        self,
        known: VoxelRadianceScene,
        kept: Bool[Tensor, "depth height width"],
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> VoxelRadianceScene:
        """Scenes (seed,) that have the voxels of one scene where `kept` says so.

        Raises:
            UserError: the grid or the mask has another size than the method's.
        """
        grid = self.config.grid.grids(known)
        if len(grid) != 1 or kept.shape != grid.shape[2:]:
            raise UserError(
                f"one scene of {tuple(grid.shape[2:])} voxels is completed by a mask "
                f"of that size, not {len(grid)} by one of {tuple(kept.shape)}."
            )
        denoise = keep_known(self.denoise, grid, kept.to(grid.device))
        return self._sample(denoise, seeds, options, on_step)

    def denoise_guided(
        self,
        x_t: Float[Tensor, "batch 4 depth height width"],
        t: Float[Tensor, "batch"],
        views: Views,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "batch 4 depth height width"]:
        """The estimate of x_0, guided by the likelihood of views.

        A normal one of all pixels of the views, about the rendering of the unguided
        estimate. Its variance has sigma(t)^2 in it, as the estimate is not sure of
        itself (Song et al. 2023, "Pseudoinverse-guided diffusion models").
        """
        c, shown = self.config, self._objects(views)
        pixels = views.images[0].numel()

        def energy(state: Tensor, eps: Tensor) -> Tensor:
            scenes = c.grid.scene(self._clean(state, eps, t))
            error = image_errors(scenes, shown, c.guiding_rays, generators)
            return 0.5 * pixels * error / (c.image_deviation**2 + sigma.flatten() ** 2)

        _, sigma = self._scales(t, x_t)
        eps = guided_noise(lambda x: self.predict_noise(x, t), energy, x_t, sigma)
        return self._clean(x_t, eps, t)

    def _sample(
        self,
        denoise: Denoise,
        seeds: Sequence[int],
        options: SampleOptions | None,
        on_step: OnStep | None,
    ) -> VoxelRadianceScene:
        """Ancestral sampling."""
        c = self.config

        def report(done: int, total: int, grids: Tensor) -> None:
            if on_step is not None:
                on_step(done, total, c.grid.scene(grids))

        steps = (None if options is None else options.num_steps) or c.num_steps
        device = self.background.device
        with evaluating(self):
            grids = sample_from_noise(
                denoise, c.grid.shape, seeds, self.schedule, steps, device, report
            )
        return c.grid.scene(grids)
