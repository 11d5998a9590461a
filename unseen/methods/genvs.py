"""GeNVS (Chan et al. 2023, "Generative Novel View Synthesis with 3D-Aware Diffusion").

A diffusion model of one view that is told what is known of the scene by an image of
features: every known view becomes a volume of features in its own frustum, the volumes
are averaged in space and rendered from the new camera (section 3.1), and EDM's denoiser
reads the rendering beside the noisy image (section 3.2). Views are made one after the
other, each from those before it (section 3.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.guidance import classifier_free
from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.prediction import edm_scales, edm_weight
from unseen.diffusion.samplers import heun, initial_state, times_karras
from unseen.diffusion.schedules import EDMSchedule, unsqueeze_like
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views, pick_views
from unseen.methods.genvs_prior import GeNVSPrior
from unseen.methods.method import (
    Losses,
    SampleOptions,
    ViewMethod,
    check_given,
    check_size,
    evaluating,
)
from unseen.methods.photometric import weighted_losses
from unseen.networks.ddpm_plus_plus import DDPMPlusPlus, DDPMPlusPlusConfig
from unseen.networks.feature_mlp import FeatureMLP, FeatureMLPConfig
from unseen.networks.frustum_encoder import FrustumEncoder, FrustumEncoderConfig
from unseen.scenes.frustum_features import FeatureRendering, FrustumFeatures
from unseen.training.config import TrainConfig
from unseen.training.preset import MINUTES, Preset


@dataclasses.dataclass(frozen=True)
class GeNVSSampling:
    """Settings of sampling."""

    num_steps: int = 25
    """Heun steps per view, of two evaluations each."""
    guidance: float = 1.0
    """Classifier-free guidance scale; 1 is none, and half the work."""
    nearest: int | None = 8
    """How many of the known views a new one is conditioned on: those whose cameras are
    closest to its own. None is all of them."""


@dataclasses.dataclass(frozen=True)
class GeNVSConfig:
    """Settings of GeNVS; the defaults are the paper's, as far as we know them."""

    encoder: FrustumEncoderConfig = dataclasses.field(
        default_factory=FrustumEncoderConfig
    )
    """Images to volumes of features."""
    field: FeatureMLPConfig = dataclasses.field(default_factory=FeatureMLPConfig)
    """Features to what is rendered."""
    rendering: FeatureRendering = dataclasses.field(default_factory=FeatureRendering)
    """How images of features are rendered."""
    denoiser: DDPMPlusPlusConfig = dataclasses.field(default_factory=DDPMPlusPlusConfig)
    """The network of the diffusion model."""
    image_size: int = 128
    """Height and width of the images, in pixels."""
    context_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    """How often training uses 1, 2, ... of the context views it is given."""
    noisy_inputs: float = 0.5
    """How often training adds noise to a known view, of a deviation that is uniform in
    [0, 1], so that the mistakes of views that were sampled do no harm."""
    drop_features: float = 0.1
    """How often training replaces the image of features by noise, for guidance."""
    log_sigma: tuple[float, float] = (-1.0, 1.4)
    """Mean and deviation of the logarithm of the noise levels of training."""
    sigma_data: float = 0.5
    """Deviation of the images, in [-1, 1]."""
    sampling: GeNVSSampling = dataclasses.field(default_factory=GeNVSSampling)
    """Defaults of sampling."""


class GeNVS(ViewMethod):
    """The method."""

    sample_options: ClassVar[frozenset[str]] = frozenset({"num_steps", "guidance"})
    scenes_at_once: ClassVar[int] = 4

    def __init__(self, config: GeNVSConfig) -> None:
        super().__init__()
        self.config = config
        features = config.encoder.features
        self.encoder = FrustumEncoder(config.encoder)
        self.field = FeatureMLP(config.field, features)
        self.denoiser = DDPMPlusPlus(config.denoiser, 3 + features, 3)
        self.schedule = EDMSchedule()

    def frustums(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        cameras: Cameras,
    ) -> FrustumFeatures:
        """What images in [-1, 1] at cameras (batch, view) say of space."""
        volumes = self.encoder(images.flatten(0, 1)).unflatten(0, cameras.shape)
        return FrustumFeatures(volumes, cameras, self.field, self.config.rendering)

    def denoise(
        self,
        x_t: Float[Tensor, "batch 3 height width"],
        sigma: Float[Tensor, "batch"],
        features: Float[Tensor, "batch feature height width"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """D(x_t; sigma), the image in [-1, 1] (section 3.2)."""
        skip, out, inner, level = edm_scales(sigma.float(), self.config.sigma_data)
        skip, out, inner = (unsqueeze_like(c, x_t) for c in (skip, out, inner))
        seen = inner * torch.cat([x_t, features], dim=1)
        return skip * x_t + out * self.denoiser(seen, level)

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The squared error of the denoised targets, weighted by lambda(sigma)."""
        c, target = self.config, example.target
        weights = torch.tensor(c.context_weights[: example.context.shape[1]])
        count = int(torch.multinomial(weights, 1, generator=generator)) + 1
        context = example.context[:, :count]
        frustums = self.frustums(self.spoil(context, generator), context.cameras)
        features = frustums.render(target.cameras, target.size, generator)
        features, images = features.flatten(0, 1), 2 * target.images.flatten(0, 1) - 1

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(images)

        dropped = torch.rand(len(images), generator=generator) < c.drop_features
        dropped = dropped.to(images.device)[:, None, None, None]
        features = torch.where(dropped, normal(*features.shape), features)
        mean, deviation = c.log_sigma
        log_sigma = mean + deviation * normal(len(images))
        sigma = log_sigma.exp()
        x_t = images + sigma[:, None, None, None] * normal(*images.shape)
        error = (self.denoise(x_t, sigma, features) - images).square()
        weight = edm_weight(-2 * log_sigma, c.sigma_data)
        error = weight * error.mean(dim=(1, 2, 3))
        return weighted_losses([("denoised", 1.0, error)])

    def spoil(
        self, context: Views, generator: torch.Generator
    ) -> Float[Tensor, "batch view 3 height width"]:
        """The known images in [-1, 1], some of them with noise."""
        images = 2 * context.images - 1
        chosen = torch.rand(context.shape, generator=generator)
        deviation = torch.rand(context.shape, generator=generator)
        deviation = deviation * (chosen < self.config.noisy_inputs)
        noise = torch.randn(images.shape, generator=generator)
        return images + (deviation[..., None, None, None] * noise).to(images)

    # ---- Sampling -------------------------------------------------------------------

    def sample_view(
        self,
        known: Views,
        camera: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """One more view by EDM's deterministic second-order sampler.

        Raises:
            UserError: the images have another size than the method's.
        """
        check_size("GeNVS", known, self.config.image_size)
        sampling = (options or SampleOptions()).over(self.config.sampling)
        draw = PerSampleNoise([torch.Generator().manual_seed(s) for s in seeds])
        # Scaled by the largest sigma, 80: what is left of an image in it is nothing.
        start = initial_state(draw(known.images[:, 0]), self.schedule)

        def report(index: int, x_t: Tensor, x_0: Tensor) -> None:
            if on_step is not None:
                on_step(index + 1, sampling.num_steps)

        with evaluating(self):
            near = nearest_views(known, camera, sampling.nearest)
            frustums = self.frustums(2 * near.images - 1, near.cameras)
            features = frustums.render(camera.reshape(-1, 1), known.size)[:, 0]

            def denoise(
                x_t: Float[Tensor, "batch 3 height width"], t: Float[Tensor, "batch"]
            ) -> Float[Tensor, "batch 3 height width"]:
                sigma = self.schedule.sigma(t)
                conditional = self.denoise(x_t, sigma, features)
                if sampling.guidance == 1:
                    return conditional
                other = self.denoise(x_t, sigma, draw(features))
                return classifier_free(conditional, other, sampling.guidance)

            x_0 = heun(
                denoise,
                start,
                self.schedule,
                times_karras(sampling.num_steps, self.schedule),
                on_step=report,
            )
        return 0.5 * (x_0.clamp(-1, 1) + 1)

    # ---- Distillation ---------------------------------------------------------------

    def view_prior(self, context: Views) -> GeNVSPrior:
        size = self.config.image_size
        check_given("GeNVS", context, size)
        with torch.no_grad():
            images = 2 * context.images[None] - 1
            frustums = self.frustums(images, context.cameras.reshape(1, -1))

        def render(cameras: Cameras) -> Float[Tensor, "view feature height width"]:
            return frustums.render(cameras.reshape(1, -1), (size, size))[0]

        device = context.images.device
        return GeNVSPrior(self.denoise, render, self.schedule, size, device)


def nearest_views(known: Views, camera: Cameras, count: int | None) -> Views:
    """The `count` views of (batch, view) whose cameras stand closest to one (batch,).

    In the order in which they are known; all of them where `count` is None.
    """
    if count is None or count >= known.shape[1]:
        return known
    distance = (known.cameras.centers - camera.centers[:, None]).norm(dim=-1)
    index = distance.argsort(dim=1, stable=True)[:, :count]
    return pick_views(known, index.sort(dim=1).values)


# Learning rate, batch size and noise levels are the paper's; how long it was trained,
# and its average, we do not know: these are our choice.
_PAPER_TRAINING = TrainConfig(
    steps=300_000,
    batch_size=96,
    learning_rate=2e-5,
    warmup_steps=0,
    betas=(0.9, 0.999),
    clip_norm=0.0,
    ema_decay=0.9999,
)

# No metric stands beside a preset whose training has not been run to its end here.
GENVS_PRESETS: dict[str, Preset] = {
    "genvs": Preset(
        GeNVSConfig(),
        _PAPER_TRAINING,
        num_context=3,
        num_target=1,
        description="GeNVS as published, ShapeNet cars at 128x128.",
    ),
    "genvs-small": Preset(
        GeNVSConfig(
            FrustumEncoderConfig(
                width=16,
                blocks=(1, 1, 1, 1),
                decoder=32,
                fine=8,
                rates=(1, 2),
                convolutions=1,
                features=8,
                slices=16,
            ),
            FeatureMLPConfig(width=32, hidden=1),
            FeatureRendering(num_samples=24),
            DDPMPlusPlusConfig(
                channels=24,
                multipliers=(1, 2, 2, 2),
                num_blocks=1,
                attention=(False, False, False, True),
                embedding=96,
            ),
            image_size=64,
            context_weights=(1.0, 1.0),
            sampling=GeNVSSampling(num_steps=12, nearest=4),
        ),
        dataclasses.replace(MINUTES, steps=4_000, ema_decay=0.998),
        num_context=2,
        num_target=1,
        description="A thin GeNVS at 64x64, for minutes on a processor core.",
    ),
}
