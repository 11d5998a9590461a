# length: one paper in one file, with its settings, training and sampling.
"""SparseFusion (Zhou & Tulsiani 2023, arXiv 2212.00792): views of a scene by diffusion.

Two networks share the work. The epipolar transformer says what a few posed images show
along the rays of a target view; a latent diffusion model, conditioned on these
features, draws a view that agrees with them. What the paper distils into one scene are
these views: `denoiser` is what distillation asks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.diffusion.guidance import Denoise, classifier_free
from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.samplers import ancestral
from unseen.diffusion.schedules import LogSNRSchedule, unsqueeze_like
from unseen.diffusion.times import times_uniform
from unseen.encoders.epipolar import (
    EpipolarConfig,
    EpipolarFeatures,
    EpipolarTransformer,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_centers
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    SampleOptions,
    ViewMethod,
    check_given,
    check_size,
    evaluating,
)
from unseen.methods.photometric import weighted_losses
from unseen.methods.sparsefusion_prior import SparseFusionPrior
from unseen.networks.feature_unet import FeatureUNet, FeatureUNetConfig
from unseen.networks.image_latents import (
    LatentsConfig,
    SmallLatents,
    SmallLatentsConfig,
    make_latents,
    reconstruction_error,
)
from unseen.networks.latent import AutoencoderConfig
from unseen.networks.resnet34 import ResNetConfig
from unseen.training.config import TrainConfig
from unseen.training.preset import MINUTES, Preset


@dataclasses.dataclass(frozen=True)
class LatentSamplingConfig:
    """Settings of sampling."""

    num_steps: int = 500
    """Denoising steps per view."""

    guidance: float = 1.0
    """Classifier-free guidance scale; 1 is none, and half the work."""

    max_known: int = 5
    """A view is conditioned on at most so many: those given, then those sampled."""


@dataclasses.dataclass(frozen=True)
class SparseFusionConfig:
    """Settings of SparseFusion; the defaults are the authors'."""

    epipolar: EpipolarConfig = dataclasses.field(default_factory=EpipolarConfig)
    """The epipolar feature transformer."""

    network: FeatureUNetConfig = dataclasses.field(default_factory=FeatureUNetConfig)
    """The diffusion model."""

    latents: LatentsConfig = dataclasses.field(default_factory=AutoencoderConfig)
    """The space in which views are diffused."""

    image_size: int = 256
    """Height and width of the images, in pixels."""

    rays: Literal["centers", "edges"] = "edges"
    """Where the features of a latent lie: at the centre of its cell, or (the authors)
    evenly from the centre of the image's first pixel to that of its last."""

    latent_limit: float = 10.0
    """Estimates of clean latents are cut at plus and minus this."""

    drop_condition: float = 0.1
    """How often training hides the features from the diffusion model, for guidance."""

    noise_gamma: float = 0.5
    """The loss of noise is weighted by (1 + SNR) ** -noise_gamma (P2, Choi et al. 2022,
    whose gamma is this, and k = 1)."""

    color_weight: float = 1.0
    """Weight of the epipolar transformer's colour errors (Huber's, below)."""

    color_delta: float = 0.1
    """Where Huber's loss turns from square to linear."""

    sampling: LatentSamplingConfig = dataclasses.field(
        default_factory=LatentSamplingConfig
    )
    """Defaults of sampling."""


class SparseFusion(ViewMethod):
    """The method."""

    sample_options: ClassVar[frozenset[str]] = frozenset({"num_steps", "guidance"})
    scenes_at_once: ClassVar[int] = 4

    def __init__(self, config: SparseFusionConfig) -> None:
        super().__init__()
        self.config = config
        self.latents = make_latents(config.latents)
        self.epipolar = EpipolarTransformer(config.epipolar)
        width = config.epipolar.width
        self.network = FeatureUNet(config.network, self.latents.channels, width)
        self.schedule = LogSNRSchedule.cosine()
        self.side = config.image_size // self.latents.factor
        self.points = ray_points(self.side, config.image_size, config.rays)

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The errors of the noise and of the epipolar colours in every target view.

        The context is the first of the example's context views, as many as the step
        draws (all numbers alike).
        """
        c = self.config
        count = int(torch.randint(example.context.shape[1], (), generator=generator))
        context = example.context[:, : count + 1]
        images = example.target.images.flatten(0, 1)
        found = self._look(context, example.target.cameras)
        truth = functional.grid_sample(
            images,
            (2 * self.points.to(images) - 1).expand(len(images), 1, -1, -1),
            align_corners=False,
            padding_mode="border",
        )[:, :, 0].transpose(1, 2)
        color = functional.huber_loss(
            found.color, truth, reduction="none", delta=c.color_delta
        ).mean(dim=(1, 2))

        encoded = self.latents.encode(2 * images - 1)
        clean = encoded.detach()
        kept = torch.rand(len(images), generator=generator) >= c.drop_condition
        t = torch.rand(len(images), generator=generator).to(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        features = self._map(found) * kept.to(clean)[:, None, None, None]
        log_snr = self.schedule.log_snr(t)
        eps = self.network(self.schedule.add_noise(clean, noise, t), log_snr, features)
        importance = (1 + log_snr.exp()) ** -c.noise_gamma
        weighted = [
            ("noise", 1.0, importance * (eps - noise).square().mean(dim=(1, 2, 3))),
            ("color", c.color_weight, color / c.color_delta),
        ]
        if isinstance(self.latents, SmallLatents):
            error = reconstruction_error(
                self.latents, 2 * images - 1, encoded, generator
            )
            weighted.append(("reconstruction", 1.0, error))
        return weighted_losses(weighted)

    # ---- Conditioning ---------------------------------------------------------------

    def look(self, context: Views, camera: Cameras) -> EpipolarFeatures:
        """What posed images (batch, view) say of the rays of cameras (batch,)."""
        return self._look(context, camera.reshape(-1, 1))

    def _look(self, context: Views, cameras: Cameras) -> EpipolarFeatures:
        """`look` at cameras (batch, target), as entries of one batch."""
        targets = cameras.shape[1]
        maps = self.epipolar.encode(context.images)
        return self.epipolar(
            Views(
                context.images.repeat_interleave(targets, dim=0),
                context.cameras[_repeats(len(context.images), targets)],
            ),
            maps.repeat_interleave(targets, dim=0),
            cameras.reshape(-1),
            self.points.to(maps),
        )

    def feature_map(
        self, context: Views, camera: Cameras
    ) -> Float[Tensor, "batch feature latent_height latent_width"]:
        """What `look` finds, as the network of the noise reads it."""
        return self._map(self.look(context, camera))

    def _map(
        self, found: EpipolarFeatures
    ) -> Float[Tensor, "batch feature latent_height latent_width"]:
        return found.features.transpose(1, 2).unflatten(-1, (self.side, self.side))

    def predict_noise(
        self,
        x_t: Float[Tensor, "batch latent height width"],
        t: Float[Tensor, "batch"],
        features: Float[Tensor, "batch feature height width"],
    ) -> Float[Tensor, "batch latent height width"]:
        """The noise in latents of views, given their `feature_map`, or zeros."""
        return self.network(x_t, self.schedule.log_snr(t).to(x_t), features)

    # ---- Sampling -------------------------------------------------------------------

    def denoiser(
        self, context: Views, camera: Cameras, guidance: float = 1.0
    ) -> Denoise:
        """A function of noisy latents and t (batch,) to clean latents, of one view.

        What posed images (batch, view) say of cameras (batch,) is found once. Latents
        are those of `latents.encode`, of images in [-1, 1].
        """
        features = self.feature_map(context, camera)
        if guidance != 1:
            features = torch.cat([features, torch.zeros_like(features)])

        def denoise(
            x_t: Float[Tensor, "batch latent height width"], t: Float[Tensor, "batch"]
        ) -> Float[Tensor, "batch latent height width"]:
            repeats = 1 if guidance == 1 else 2
            eps = self.predict_noise(
                x_t.repeat(repeats, 1, 1, 1), t.repeat(repeats), features
            )
            if guidance != 1:
                shown, hidden = eps.chunk(2)
                eps = classifier_free(shown, hidden, guidance)
            alpha, sigma = (
                unsqueeze_like(scale, x_t).to(x_t)
                for scale in self.schedule.alpha_sigma(t)
            )
            limit = self.config.latent_limit
            return x0_from_eps(x_t, eps, alpha, sigma).clamp(-limit, limit)

        return denoise

    def denoise(
        self,
        x_t: Float[Tensor, "batch latent height width"],
        t: Float[Tensor, "batch"],
        camera: Cameras,
        context: Views,
        guidance: float = 1.0,
    ) -> Float[Tensor, "batch latent height width"]:
        """Clean latents of the view of cameras (batch,), once; see `denoiser`."""
        return self.denoiser(context, camera, guidance)(x_t, t)

    def sample_view(
        self,
        known: Views,
        camera: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """One more view by ancestral sampling, given the first `max_known` views.

        Raises:
            UserError: the images have another size than the method's.
        """
        check_size("SparseFusion", known, self.config.image_size)
        sampling = (options or SampleOptions()).over(self.config.sampling)
        draw = PerSampleNoise([torch.Generator().manual_seed(seed) for seed in seeds])

        estimates: list[Tensor] = []

        def report(index: int, x_t: Tensor, x_0: Tensor) -> None:
            estimates[:] = [x_0]
            if on_step is not None:
                on_step(index + 1, sampling.num_steps)

        with evaluating(self):
            given = known[:, : sampling.max_known]
            shape = (len(seeds), self.latents.channels, self.side, self.side)
            ancestral(
                self.denoiser(given, camera, sampling.guidance),
                # At t = 1 alpha is 4e-8: the state is noise.
                draw(known.images.new_empty(shape)),
                self.schedule,
                times_uniform(sampling.num_steps),
                noise=draw,
                on_step=report,
            )
            # At t = 0 this schedule still has noise of 0.0125: keep the last estimate.
            images = self.latents.decode(estimates[0])
        return 0.5 * (images.clamp(-1, 1) + 1)

    # ---- Distillation ---------------------------------------------------------------

    def view_prior(self, context: Views) -> SparseFusionPrior:
        size, most = self.config.image_size, self.config.sampling.max_known
        check_given("SparseFusion", context, size)
        given = Views(context.images, context.cameras)[None, :most]

        def look(cameras: Cameras) -> Float[Tensor, "view feature height width"]:
            return self._map(self._look(given, cameras.reshape(1, -1)))

        parts = (self.latents, self.predict_noise, look, self.schedule)
        return SparseFusionPrior(*parts, self.side, size, given.images.device)


def ray_points(
    side: int, image_size: int, rays: Literal["centers", "edges"]
) -> Float[Tensor, "ray 2"]:
    """Normalised image points of side x side features (`SparseFusionConfig.rays`)."""
    xy = pixel_centers((side, side)).reshape(-1, 2)
    if rays == "centers":
        return xy
    share = (xy * side - 0.5) / max(side - 1, 1)
    return (0.5 + share * (image_size - 1)) / image_size


def _repeats(count: int, times: int) -> Tensor:  # shape: indices (count * times,)
    return torch.arange(count).repeat_interleave(times)


# Adam at 5e-5, halved every 50 k steps (here: a cosine), several targets per scene.
_PAPER_TRAINING = TrainConfig(
    steps=200_000,
    batch_size=1,
    learning_rate=5e-5,
    warmup_steps=0,
    decay="cosine",
    betas=(0.9, 0.999),
    clip_norm=0.0,
    ema_decay=0.0,
)

# No metric stands beside a preset whose training has not been run to its end here.
SPARSEFUSION_PRESETS: dict[str, Preset] = {
    "sparsefusion": Preset(
        SparseFusionConfig(),
        _PAPER_TRAINING,
        num_context=5,
        num_target=12,
        description="SparseFusion as published, CO3D at 256x256 (400 M); needs --init.",
    ),
    "sparsefusion-small": Preset(
        SparseFusionConfig(
            EpipolarConfig(
                ResNetConfig(width=16, blocks=(1, 1, 1)),
                width=32,
                num_layers=1,
                dropout=0.0,
                octaves=4,
                num_depths=10,
                half_range=1.0,
            ),
            FeatureUNetConfig(
                channels=48,
                multipliers=(1, 2, 2),
                num_blocks=1,
                attention=(False, False, True),
                heads=4,
                head_size=16,
            ),
            SmallLatentsConfig(width=16),
            image_size=64,
            rays="centers",
            sampling=LatentSamplingConfig(num_steps=50, guidance=1.5),
        ),
        dataclasses.replace(MINUTES, steps=4_000),
        num_context=3,
        num_target=1,
        description="A thin SparseFusion at 64x64, for two processor cores.",
    ),
}
