"""3DiM (Watson et al. 2022, "Novel View Synthesis with Diffusion Models", 2210.04628).

A diffusion model of one view given another view and both cameras. There is no scene:
several views of one object are made one after the other, and agree because every
denoising step of a new view is conditioned on a view that is drawn anew from all that
are known (stochastic conditioning, section 2.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.diffusion.guidance import classifier_free
from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.samplers import ancestral
from unseen.diffusion.schedules import LogSNRSchedule, unsqueeze_like
from unseen.diffusion.times import times_uniform
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Example, Views, pick_views
from unseen.methods.method import (
    Losses,
    SampleOptions,
    ViewMethod,
    check_size,
    evaluating,
)
from unseen.methods.photometric import weighted_losses
from unseen.methods.threedim_prior import ThreeDiMPrior
from unseen.networks.xunet import XUNet, XUNetConfig
from unseen.training.config import TrainConfig
from unseen.training.preset import MINUTES, Preset


@dataclasses.dataclass(frozen=True)
class ViewSamplingConfig:
    """Settings of sampling."""

    num_steps: int = 256
    """Denoising steps per view."""

    guidance: float = 4.0
    """Classifier-free guidance scale 1 + w; 1 is none, and half the work."""


@dataclasses.dataclass(frozen=True)
class ThreeDiMConfig:
    """Settings of 3DiM; the defaults are those of the paper's listing."""

    network: XUNetConfig = dataclasses.field(default_factory=XUNetConfig)
    """The X-UNet."""

    image_size: int = 128
    """Height and width of the images, in pixels."""

    poses: Literal["absolute", "relative"] = "absolute"
    """Whether the network sees rays in the world (as for ShapeNet-SRN, whose objects
    stand upright at the origin), or in the frame of the conditioning camera, where
    moving the world changes nothing."""

    drop_condition: float = 0.1
    """How often training replaces the conditioning frame by noise and drops the poses,
    for guidance."""

    sampling: ViewSamplingConfig = dataclasses.field(default_factory=ViewSamplingConfig)
    """Defaults of sampling."""


class ThreeDiM(ViewMethod, title="3DiM"):
    """The method."""

    sample_options: ClassVar[frozenset[str]] = frozenset({"num_steps", "guidance"})
    scenes_at_once: ClassVar[int] = 4

    def __init__(self, config: ThreeDiMConfig) -> None:
        super().__init__()
        self.config = config
        self.network = XUNet(config.network, config.image_size)
        self.schedule = LogSNRSchedule()

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The mean squared error of the noise in every target view.

        Each target is paired with a context view of its scene, drawn at random.
        """
        batch, count = example.target.shape
        chosen = torch.randint(
            example.context.shape[1], (batch, count), generator=generator
        )
        clean = pick_views(example.context, chosen)
        target = example.target.flatten()
        device = target.images.device
        kept = torch.rand(batch * count, generator=generator)
        kept = (kept >= self.config.drop_condition).to(device)
        t = torch.rand(batch * count, generator=generator).to(device)
        noise, blank = torch.randn(2, *target.images.shape, generator=generator).to(
            device
        )
        x_t = self.schedule.add_noise(2 * target.images - 1, noise, t)
        eps = self.predict_noise(clean.flatten(), x_t, target.cameras, t, kept, blank)
        error = (eps - noise).square().mean(dim=(1, 2, 3))
        return weighted_losses([("noise", 1.0, error)])

    def predict_noise(
        self,
        clean: Views,
        x_t: Float[Tensor, "batch 3 height width"],
        camera: Cameras,
        t: Float[Tensor, "batch"],
        kept: Bool[Tensor, "batch"],
        blank: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """The noise in x_t at `camera` (batch,), given one clean view (batch,) each.

        Entries that are not `kept` are unconditional: they see `blank`, which is
        standard normal, in place of the clean view, and no poses.
        """
        given = torch.where(kept[:, None, None, None], 2 * clean.images - 1, blank)
        times = torch.stack([torch.zeros_like(t), t], dim=1)
        log_snr = self.schedule.log_snr(times).to(x_t)
        rays = pair_rays(clean.cameras, camera, clean.size, self.config.poses)
        return self.network(torch.stack([given, x_t], dim=1), log_snr, rays, kept)

    # ---- Sampling -------------------------------------------------------------------

    def sample_view(
        self,
        known: Views,
        camera: Cameras,
        seeds: Sequence[int],
        options: SampleOptions | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """One more view by ancestral sampling with stochastic conditioning.

        Raises:
            UserError: the images have another size than the method's.
        """
        check_size("3DiM", known, self.config.image_size)
        sampling = (options or SampleOptions()).over(self.config.sampling)
        device = known.images.device
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        draw = PerSampleNoise(generators)

        def report(index: int, x_t: Tensor, x_0: Tensor) -> None:
            if on_step is not None:
                on_step(index + 1, sampling.num_steps)

        def denoise(
            x_t: Float[Tensor, "batch 3 height width"], t: Float[Tensor, "batch"]
        ) -> Float[Tensor, "batch 3 height width"]:
            views = [
                torch.randint(known.shape[1], (1,), generator=g) for g in generators
            ]
            clean = pick_views(known, torch.stack(views).to(device))[:, 0]
            return self.denoise(clean, x_t, camera, t, sampling.guidance, draw)

        with evaluating(self):
            x_0 = ancestral(
                denoise,
                # At t = 1 alpha is 5e-5: the state is noise.
                draw(known.images[:, 0]),
                self.schedule,
                times_uniform(sampling.num_steps),
                noise=draw,
                on_step=report,
            )
        return 0.5 * (x_0.clamp(-1, 1) + 1)

    def view_prior(self, context: Views) -> ThreeDiMPrior:
        size = self.config.image_size
        return ThreeDiMPrior(self.predict_noise, context, self.schedule, size)

    def denoise(
        self,
        clean: Views,
        x_t: Float[Tensor, "batch 3 height width"],
        camera: Cameras,
        t: Float[Tensor, "batch"],
        guidance: float,
        draw: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch 3 height width"]:
        """The guided estimate of x_0, clipped to [-1, 1].

        `draw` makes the noise that stands for the clean view where it is dropped.
        """
        kept = torch.ones(len(x_t), dtype=torch.bool, device=x_t.device)
        if guidance == 1:
            eps = self.predict_noise(clean, x_t, camera, t, kept, x_t)
        else:
            both = self.predict_noise(
                Views.cat([clean, clean]),
                torch.cat([x_t, x_t]),
                Cameras.cat([camera, camera]),
                torch.cat([t, t]),
                torch.cat([kept, ~kept]),
                torch.cat([x_t, draw(x_t)]),
            )
            conditional, unconditional = both.chunk(2)
            eps = classifier_free(conditional, unconditional, guidance)
        scales = self.schedule.alpha_sigma(t)
        alpha, sigma = (unsqueeze_like(scale, x_t).to(x_t) for scale in scales)
        return x0_from_eps(x_t, eps, alpha, sigma).clamp(-1, 1)


def pair_rays(
    clean: Cameras,
    noisy: Cameras,
    size: tuple[int, int],
    poses: Literal["absolute", "relative"] = "absolute",
) -> Float[Tensor, "batch frame=2 6 height width"]:
    """Ray origins and unit directions of the pixels of two cameras (batch,) each.

    In the world, or ("relative") in the frame of the clean view's camera.
    """
    cameras = Cameras.stack([clean, noisy], dim=1)
    if poses == "relative":
        cameras = cameras.transform(torch.linalg.inv(clean.extrinsics)[:, None])
    origins, directions = image_rays(cameras, size)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    rays = torch.cat([origins, directions], dim=-1)
    return rays.transpose(-1, -2).unflatten(-1, size)


# Batch 128, Adam at 1e-4, warm-up over 10 M examples, an average whose half-life is
# 500 k examples. How long the models of ShapeNet-SRN were trained, and their guidance,
# we do not know: steps and guidance are our choice.
_PAPER_TRAINING = TrainConfig(
    steps=1_000_000,
    batch_size=128,
    learning_rate=1e-4,
    warmup_steps=78_125,
    betas=(0.9, 0.99),
    clip_norm=0.0,
    ema_decay=0.99982,
)

# No metric stands beside a preset whose training has not been run to its end here.
THREEDIM_PRESETS: dict[str, Preset] = {
    "threedim-srn": Preset(
        ThreeDiMConfig(),
        _PAPER_TRAINING,
        num_target=1,
        description="3DiM as published, ShapeNet cars or chairs at 128x128 (462 M).",
    ),
    "threedim-small": Preset(
        ThreeDiMConfig(
            XUNetConfig(
                channels=32,
                multipliers=(1, 2, 2, 4),
                num_blocks=1,
                embedding=64,
                num_groups=8,
                dropout=0.0,
                position_octaves=5,
                direction_octaves=4,
            ),
            image_size=64,
            sampling=ViewSamplingConfig(num_steps=64, guidance=2.0),
        ),
        dataclasses.replace(MINUTES, steps=20_000, learning_rate=5e-4, ema_decay=0.999),
        num_target=1,
        description="A thin 3DiM at 64x64, for two processor cores.",
    ),
}
