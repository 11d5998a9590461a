# length: one paper in one file: settings, training, sampling, distilling.
"""MVDream (Shi et al. 2023, "Multi-view Diffusion for 3D Generation", 2308.16512).

Stable Diffusion, of four views of one object at once. Self-attention reaches over all
pixels of all views, and what each camera is enters beside the step; there is not a
weight more than that of the cameras. So a text becomes views that agree. One view alone
is a picture as Stable Diffusion draws it: then no camera is told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

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
from unseen.geometry.views import Example, Views
from unseen.methods.method import JointViewMethod, Losses, SampleOptions, evaluating
from unseen.methods.mvdream_prior import MVDreamPrior
from unseen.methods.photometric import draw_latents, weighted_losses
from unseen.networks.clip import ClipTextConfig
from unseen.networks.latent import (
    Autoencoder,
    AutoencoderConfig,
    LatentUNet,
    LatentUNetConfig,
)
from unseen.networks.text import ClipText, WordConfig, build_text_encoder


def _unet_of_stable_diffusion_2() -> LatentUNetConfig:
    return LatentUNetConfig(context=1024, heads=(5, 10, 20, 20), linear_projection=True)


@dataclasses.dataclass(frozen=True)
class MVDreamSampling:
    """Settings of sampling."""

    num_steps: int = 50
    """Denoising steps, of all views together."""

    guidance: float = 10.0
    """Classifier-free guidance scale; 1 is none, and half the work."""

    eta: float = 0.0
    """Of DDIM: 0 adds no noise, 1 as much as ancestral sampling."""


@dataclasses.dataclass(frozen=True)
class MVDreamConfig:
    """Settings of MVDream; the defaults are those of the released model."""

    unet: LatentUNetConfig = dataclasses.field(
        default_factory=_unet_of_stable_diffusion_2
    )
    """The U-Net."""

    autoencoder: AutoencoderConfig = dataclasses.field(
        default_factory=AutoencoderConfig
    )
    """The autoencoder."""

    text_encoder: ClipTextConfig | WordConfig = dataclasses.field(
        default_factory=ClipTextConfig
    )
    """What makes tokens of a text."""

    image_size: int = 256
    """Height and width of the images, in pixels."""

    suffix: str = ", 3d asset"
    """What a caption of an object ends with, in training and in sampling of several
    views."""

    from_scratch: bool = False
    """Whether autoencoder and text encoder are trained with the rest. Otherwise they
    come with the weights and stay as they are, as published."""

    kl_weight: float = 1e-3
    """Of the divergence of latents from a standard normal, where the autoencoder is
    trained; the squared error of its images (in [-1, 1]) has weight 1."""

    drop_text: float = 0.1
    """How often training replaces a text by the empty one, for guidance."""

    single_view: float = 0.3
    """How often training takes the views of a batch for single pictures: no camera, and
    no attention between views."""

    sampling: MVDreamSampling = dataclasses.field(default_factory=MVDreamSampling)
    """Defaults of sampling."""


class MVDream(JointViewMethod):
    """The method."""

    min_context: ClassVar[int] = 0
    max_context: ClassVar[int | None] = 0
    sample_options: ClassVar[frozenset[str]] = frozenset(
        {"num_steps", "guidance", "prompt"}
    )
    made_empty: ClassVar[bool] = True

    def __init__(self, config: MVDreamConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        self.text_encoder = build_text_encoder(config.text_encoder)
        self.unet = LatentUNet(config.unet)
        width = config.unet.embedding
        self.camera = nn.Sequential(
            nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.schedule = ScaledLinearSchedule()
        for part in (self.autoencoder, self.text_encoder):
            part.requires_grad_(config.from_scratch)

    def large_networks(self) -> list[nn.Module]:
        networks = [self.unet.model, *self.autoencoder.large_networks()]
        if isinstance(self.text_encoder, ClipText):
            networks.append(self.text_encoder.encoder.blocks)
        return networks

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The mean squared error of the noise in the latents of all views of a scene.

        Context and target are views alike, at one step of the schedule. The text is the
        scene's caption.
        """
        views = Views.cat([_plain(example.context), _plain(example.target)], dim=1)
        batch, count = views.shape
        device = views.images.device
        single = float(torch.rand((), generator=generator)) < self.config.single_view
        kept = torch.rand(batch, generator=generator) >= self.config.drop_text
        texts = [
            self.complete_text(caption, 1 if single else count) if keep else ""
            for caption, keep in zip(
                example.captions or ("",) * batch, kept.tolist(), strict=True
            )
        ]
        weight = self.config.kl_weight if self.config.from_scratch else None
        images = views.images.flatten(0, 1)
        latents, terms = draw_latents(self.autoencoder, images, generator, weight)
        x_0 = latents.unflatten(0, views.shape)
        steps = torch.randint(self.schedule.num_steps, (batch,), generator=generator)
        t = self.schedule.t_of_step(steps).to(device)
        noise = torch.randn(x_0.shape, generator=generator).to(device)
        x_t = self.schedule.add_noise(x_0, noise, t)
        cameras = None if single else views.cameras
        eps = self.predict_noise(x_t, t, self.encode_text(texts), cameras)
        error = (eps - noise).square().mean(dim=(1, 2, 3, 4))
        own = [
            (name, w, x.unflatten(0, views.shape).mean(dim=1)) for name, w, x in terms
        ]
        return weighted_losses([("noise", 1.0, error), *own])

    # ---- What the network sees ------------------------------------------------------

    def complete_text(self, text: str, num_views: int) -> str:
        """What several views of an object are called; the empty text stays empty."""
        return text + self.config.suffix if text and num_views > 1 else text

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "batch token context"]:
        """The tokens of texts."""
        trained = torch.is_grad_enabled() and self.config.from_scratch
        with torch.set_grad_enabled(trained):
            return self.text_encoder(texts)

    def predict_noise(
        self,
        x_t: Float[Tensor, "batch view channel height width"],
        t: Float[Tensor, "batch"],
        tokens: Float[Tensor, "batch token context"],
        cameras: Cameras | None,
    ) -> Float[Tensor, "batch view channel height width"]:
        """The noise in scaled latents of the views of each scene.

        Without cameras (batch, view) every view is a picture of its own.
        """
        batch, count = x_t.shape[:2]
        added = None
        if cameras is not None:
            vectors = camera_vectors(cameras).to(x_t)
            added = self.camera(vectors).flatten(0, 1)
        step = self.schedule.step_of_t(t).round()
        eps = self.unet(
            x_t.flatten(0, 1),
            step.repeat_interleave(count),
            tokens.repeat_interleave(count, dim=0),
            added,
            1 if cameras is None else count,
        )
        return eps.unflatten(0, (batch, count))

    # ---- Sampling -------------------------------------------------------------------

    def sample_views(
        self,
        context: Views,
        cameras: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Views:
        """Views of what the prompt says, or of anything without one.

        `context` means nothing. A single camera is not told, because single pictures
        were trained without.

        Raises:
            UserError: the sampler does not know so many steps.
        """
        asked = options or SampleOptions()
        text = self.complete_text(asked.prompt or "", cameras.shape[1])
        sampling = dataclasses.replace(asked, prompt=None).over(self.config.sampling)
        times = times_leading(sampling.num_steps, self.schedule.num_steps)
        draw = PerSampleNoise([torch.Generator().manual_seed(s) for s in seeds])
        told = cameras if cameras.shape[1] > 1 else None

        def report(index: int, x_t: Tensor, x_0: Tensor) -> None:
            if on_step is not None:
                on_step(index + 1, len(times) - 1)

        with evaluating(self):
            tokens = self.encode_text([text] * len(seeds))
            empty = self.encode_text([""] * len(seeds))
            x_0 = ddim(
                lambda x_t, t: self.denoise(
                    x_t, t, tokens, empty, told, sampling.guidance
                ),
                draw(self._blank(cameras)),
                self.schedule,
                times,
                eta=sampling.eta,
                noise=draw,
                on_step=report,
            )
            latents = x_0.flatten(0, 1) / self.autoencoder.config.scale
            images = self.autoencoder.decode(latents).unflatten(0, cameras.shape)
        return Views(0.5 * (images.clamp(-1, 1) + 1), cameras)

    def _blank(
        self, cameras: Cameras
    ) -> Float[Tensor, "batch view channel height width"]:
        """Something of the shape of the latents."""
        config = self.config.autoencoder
        side = self.config.image_size // config.factor
        shape = (*cameras.shape, config.latent_channels, side, side)
        return self.camera[0].weight.new_zeros(shape)  # type: ignore[union-attr]

    def denoise(
        self,
        x_t: Float[Tensor, "batch view channel height width"],
        t: Float[Tensor, "batch"],
        tokens: Float[Tensor, "batch token context"],
        empty: Float[Tensor, "batch token context"],
        cameras: Cameras | None,
        guidance: float,
    ) -> Float[Tensor, "batch view channel height width"]:
        """The guided estimate of the scaled latents.

        The unconditional branch sees the `empty` text and the same cameras.
        """
        if guidance == 1:
            eps = self.predict_noise(x_t, t, tokens, cameras)
        else:
            both = self.predict_noise(
                torch.cat([x_t, x_t]),
                torch.cat([t, t]),
                torch.cat([tokens, empty]),
                None if cameras is None else Cameras.cat([cameras, cameras]),
            )
            conditional, unconditional = both.chunk(2)
            eps = classifier_free(conditional, unconditional, guidance)
        scales = self.schedule.alpha_sigma(t)
        alpha, sigma = (unsqueeze_like(scale, x_t).to(x_t) for scale in scales)
        return x0_from_eps(x_t, eps, alpha, sigma)

    # ---- Distillation ---------------------------------------------------------------

    def view_prior(self, context: Views) -> MVDreamPrior:
        """What it expects to see of a text; `context` means nothing."""
        return MVDreamPrior(
            self.autoencoder,
            self.predict_noise,
            self.encode_text,
            self.schedule,
            self.config.image_size,
            self.config.suffix,
        )


def camera_vectors(cameras: Cameras) -> Float[Tensor, "*batch 16"]:
    """Camera to world, with Blender's camera axes, as the 16 numbers of its rows.

    The camera stands at distance 1 from the origin: only its direction is told, and
    nothing of its field of view.
    """
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0]).to(cameras.extrinsics)
    poses = cameras.extrinsics * flip
    centers = cameras.centers
    poses[..., :3, 3] = centers / (centers.norm(dim=-1, keepdim=True) + 1e-8)
    return poses.flatten(-2)


def _plain(views: Views) -> Views:
    """Images and cameras only."""
    return Views(views.images, views.cameras)
