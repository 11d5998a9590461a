# length: one paper in one file: settings, training, sampling, distilling.
"""Zero-1-to-3 (Liu et al. 2023, "Zero-shot One Image to 3D Object", 2303.11328).

Stable Diffusion, fine-tuned to draw an object as another camera sees it. The given view
enters twice: its latent is concatenated with the noisy one, and its CLIP embedding,
together with where the other camera stands, is the one token that cross-attention
reads. Views are drawn one by one from the given view alone; there is no scene.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.diffusion.guidance import classifier_free
from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.samplers import ddim
from unseen.diffusion.schedules import ScaledLinearSchedule, unsqueeze_like
from unseen.diffusion.times import times_leading
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views, pick_views
from unseen.methods.method import (
    Losses,
    SampleOptions,
    ViewMethod,
    check_given,
    check_size,
    evaluating,
)
from unseen.methods.photometric import draw_latents, weighted_losses
from unseen.methods.zero123_prior import Zero123Prior
from unseen.networks.clip import ClipImageConfig, ClipImageEncoder
from unseen.networks.conv_encoder import ConvEncoder, ConvEncoderConfig
from unseen.networks.latent import (
    Autoencoder,
    AutoencoderConfig,
    LatentUNet,
    LatentUNetConfig,
)


@dataclasses.dataclass(frozen=True)
class Zero123Sampling:
    """Settings of sampling."""

    num_steps: int = 50
    """Entries of the sampler's table; the noisiest is left out, as by the authors."""

    guidance: float = 3.0
    """Classifier-free guidance scale; 1 is none, and half the work."""

    eta: float = 1.0
    """Of DDIM: 0 adds no noise, 1 as much as ancestral sampling."""


@dataclasses.dataclass(frozen=True)
class Zero123Config:
    """Settings of Zero-1-to-3; the defaults are those of the released models."""

    unet: LatentUNetConfig = dataclasses.field(
        default_factory=lambda: LatentUNetConfig(in_channels=8)
    )
    """The U-Net; its inputs are the noisy latent and the given view's."""

    autoencoder: AutoencoderConfig = dataclasses.field(
        default_factory=AutoencoderConfig
    )
    """The autoencoder."""

    image_encoder: ClipImageConfig | ConvEncoderConfig = dataclasses.field(
        default_factory=ClipImageConfig
    )
    """What makes an embedding of the given view."""

    image_size: int = 256
    """Height and width of the images, in pixels."""

    pose: Literal["relative", "stable"] = "relative"
    """The fourth number of a pose: how much farther the camera stands; or, for
    Stable-Zero123, the polar angle of the given view."""

    from_scratch: bool = False
    """Whether autoencoder and image encoder are trained with the rest. Otherwise they
    come with the weights and stay as they are, as published."""

    kl_weight: float = 1e-3
    """Of the divergence of latents from a standard normal, where the autoencoder is
    trained; the squared error of its images (in [-1, 1]) has weight 1."""

    drop: float = 0.05
    """How often training drops the token alone, the latent alone, and both."""

    sampling: Zero123Sampling = dataclasses.field(default_factory=Zero123Sampling)
    """Defaults of sampling."""


class Zero123(ViewMethod, title="Zero-1-to-3"):
    """The method."""

    max_context: ClassVar[int | None] = 1
    sample_options: ClassVar[frozenset[str]] = frozenset({"num_steps", "guidance"})
    scenes_at_once: ClassVar[int] = 4
    made_empty: ClassVar[bool] = True

    def __init__(self, config: Zero123Config) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        encoder = config.image_encoder
        if isinstance(encoder, ConvEncoderConfig):
            self.image_encoder = ConvEncoder(encoder)
        else:
            self.image_encoder = ClipImageEncoder(encoder)
        self.unet = LatentUNet(config.unet)
        self.projection = nn.Linear(encoder.embedding + 4, config.unet.context)
        # At first it hands the embedding on and ignores the pose.
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.schedule = ScaledLinearSchedule()
        for part in (self.autoencoder, self.image_encoder):
            part.requires_grad_(config.from_scratch)

    def large_networks(self) -> list[nn.Module]:
        networks = [self.unet.model, *self.autoencoder.large_networks()]
        if isinstance(self.image_encoder, ClipImageEncoder):
            networks.append(self.image_encoder.blocks)
        return networks

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The mean squared error of the noise in every target view's latent.

        Each target is paired with a context view of its scene, drawn at random.
        """
        batch, count = example.target.shape
        chosen = torch.randint(
            example.context.shape[1], (batch, count), generator=generator
        )
        given = pick_views(example.context, chosen).flatten()
        target = example.target.flatten()
        device = target.images.device
        # One number decides on both conditions, so that they overlap by `drop`.
        place = torch.rand(batch * count, generator=generator).to(device)
        drop = self.config.drop
        with_token = place >= 2 * drop
        with_latent = (place < drop) | (place >= 3 * drop)

        weight = self.config.kl_weight if self.config.from_scratch else None
        x_0, terms = draw_latents(self.autoencoder, target.images, generator, weight)
        steps = torch.randint(self.schedule.num_steps, (len(x_0),), generator=generator)
        t = self.schedule.t_of_step(steps).to(device)
        noise = torch.randn(x_0.shape, generator=generator).to(device)
        x_t = self.schedule.add_noise(x_0, noise, t)
        # Unlike in sampling, a dropped token is an empty embedding with its pose.
        embedding = self._embed(given) * with_token[:, None]
        token = self.make_token(embedding, given.cameras, target.cameras)
        latent = self.given_latent(given) * with_latent[:, None, None, None]
        eps = self.predict_noise(x_t, t, token, latent)
        error = (eps - noise).square().mean(dim=(1, 2, 3))
        return weighted_losses([("noise", 1.0, error), *terms])

    # ---- What the network sees ------------------------------------------------------

    def _embed(self, given: Views) -> Float[Tensor, "batch embedding"]:
        trained = torch.is_grad_enabled() and self.config.from_scratch
        with torch.set_grad_enabled(trained):
            return self.image_encoder(2 * given.images - 1)

    def make_token(
        self,
        embedding: Float[Tensor, "batch embedding"],
        given: Cameras,
        camera: Cameras,
    ) -> Float[Tensor, "batch 1 context"]:
        """The one token, of the given view's embedding and both cameras (batch,)."""
        pose = pose_vectors(given, camera, self.config.pose).to(embedding)
        return self.projection(torch.cat([embedding, pose], dim=1))[:, None]

    def given_latent(
        self, given: Views
    ) -> Float[Tensor, "batch channel latent_height latent_width"]:
        """The mean latent of the given view (batch,), without the scale."""
        with torch.no_grad():
            return self.autoencoder.encode(2 * given.images - 1)[0]

    def predict_noise(
        self,
        x_t: Float[Tensor, "batch channel height width"],
        t: Float[Tensor, "batch"],
        token: Float[Tensor, "batch 1 context"],
        latent: Float[Tensor, "batch channel height width"],
    ) -> Float[Tensor, "batch channel height width"]:
        """The noise in the scaled latent x_t."""
        step = self.schedule.step_of_t(t).round()
        return self.unet(torch.cat([x_t, latent], dim=1), step, token)

    # ---- Sampling -------------------------------------------------------------------

    def sample_view(
        self,
        known: Views,
        camera: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """One more view, of the first known one, which is the given view, alone.

        Raises:
            UserError: the images have another size than the method's, or the sampler
                does not know so many steps.
        """
        check_size("Zero-1-to-3", known, self.config.image_size)
        sampling = (options or SampleOptions()).over(self.config.sampling)
        times = times_leading(
            sampling.num_steps, self.schedule.num_steps, drop_noisiest=True
        )
        draw = PerSampleNoise([torch.Generator().manual_seed(s) for s in seeds])

        def report(index: int, x_t: Tensor, x_0: Tensor) -> None:
            if on_step is not None:
                on_step(index + 1, len(times) - 1)

        given = known[:, 0]
        with evaluating(self):
            token = self.make_token(self._embed(given), given.cameras, camera)
            latent = self.given_latent(given)
            x_0 = ddim(
                lambda x_t, t: self.denoise(x_t, t, token, latent, sampling.guidance),
                draw(latent),
                self.schedule,
                times,
                eta=sampling.eta,
                noise=draw,
                on_step=report,
            )
            images = self.autoencoder.decode(x_0 / self.autoencoder.config.scale)
        return 0.5 * (images.clamp(-1, 1) + 1)

    def denoise(
        self,
        x_t: Float[Tensor, "batch channel height width"],
        t: Float[Tensor, "batch"],
        token: Float[Tensor, "batch 1 context"],
        latent: Float[Tensor, "batch channel height width"],
        guidance: float,
    ) -> Float[Tensor, "batch channel height width"]:
        """The guided estimate of the scaled latent.

        The unconditional branch sees zeros in place of the token (after the projection,
        the pose included) and of the latent.
        """
        if guidance == 1:
            eps = self.predict_noise(x_t, t, token, latent)
        else:
            both = self.predict_noise(
                torch.cat([x_t, x_t]),
                torch.cat([t, t]),
                torch.cat([token, torch.zeros_like(token)]),
                torch.cat([latent, torch.zeros_like(latent)]),
            )
            conditional, unconditional = both.chunk(2)
            eps = classifier_free(conditional, unconditional, guidance)
        scales = self.schedule.alpha_sigma(t)
        alpha, sigma = (unsqueeze_like(scale, x_t).to(x_t) for scale in scales)
        return x0_from_eps(x_t, eps, alpha, sigma)

    # ---- Distillation ---------------------------------------------------------------

    def view_prior(self, context: Views) -> Zero123Prior:
        size = self.config.image_size
        check_given("Zero-1-to-3", context, size)
        # As in sampling, of the first view alone.
        given = Views(context.images, context.cameras)[:1]
        with torch.no_grad():
            embedding, latent = self._embed(given), self.given_latent(given)

        def tokens(cameras: Cameras) -> Float[Tensor, "view 1 context"]:
            count = len(cameras)
            told = embedding.expand(count, -1)
            return self.make_token(told, given.cameras.expand(count), cameras)

        return Zero123Prior(
            self.autoencoder, self.predict_noise, tokens, latent, self.schedule, size
        )


def pose_vectors(
    given: Cameras, camera: Cameras, pose: Literal["relative", "stable"] = "relative"
) -> Float[Tensor, "*batch 4"]:
    """Where `camera` stands, seen from `given` (both *batch), about the world's origin.

    (polar angle, sine of azimuth, cosine of azimuth, distance), each the difference
    camera - given, angles in radians, the polar angle measured from the world's z axis.
    With "stable" the fourth is the given camera's polar angle itself. How the cameras
    are turned is not told: they look at the origin.
    """
    polar, azimuth, radius = (
        torch.stack(pair)
        for pair in zip(_spherical(given), _spherical(camera), strict=True)
    )
    turn = azimuth[1] - azimuth[0]
    last = polar[0] if pose == "stable" else radius[1] - radius[0]
    return torch.stack([polar[1] - polar[0], turn.sin(), turn.cos(), last], dim=-1)


def _spherical(cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Polar angle, azimuth and radius of camera centres, in double precision."""
    x, y, z = cameras.centers.double().unbind(dim=-1)
    return (
        torch.atan2(torch.hypot(x, y), z),
        torch.atan2(y, x),
        (x * x + y * y + z * z).sqrt(),
    )
