# length: one paper in one file, with its settings, training and sampling.
"""RenderDiffusion (Anciukevicius et al., CVPR 2023, arXiv 2211.09869).

An image diffusion model that learns objects from single posed views: its denoiser turns
a noisy image into a triplane in the world's axes and renders that at the image's own
camera. Whatever is denoised is therefore a 3D scene: pure noise becomes an object that
the model makes up, a noised image a reconstruction, an image with a hidden part one of
the objects that it could belong to.

The authors released neither code nor weights. Networks and settings are those of the
public implementation in Viewset Diffusion (Szymanowicz et al. 2023, arXiv 2306.07881).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.repaint import repaint
from unseen.diffusion.samplers import ddim
from unseen.diffusion.schedules import CosineSchedule
from unseen.diffusion.times import times_uniform
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import (
    PhotometricErrors,
    choose_pixels,
    compare,
    weighted_losses,
)
from unseen.networks.triplane_decoder import TriplaneDecoder, TriplaneDecoderConfig
from unseen.networks.triplane_unet import TriplaneUNet, TriplaneUNetConfig
from unseen.scenes.triplane import TriplaneScene
from unseen.scenes.triplane_sampling import TriplaneSampling
from unseen.training.config import TrainConfig
from unseen.training.preset import MINUTES, Preset


@dataclasses.dataclass(frozen=True)
class TriplaneSampleConfig:
    """Settings of sampling."""

    num_steps: int = 250
    """Denoising steps from pure noise; from less noise there are as many fewer."""

    noise_level: float = 0.04
    """How much noise a given image gets before it is denoised, t in [0, 1]: little
    keeps it, much replaces it by what the model knows (the paper shows 0 and 0.04)."""

    repeats: int = 4
    """How often each step is made where a part of the image is hidden (RePaint)."""


@dataclasses.dataclass(frozen=True)
class RenderDiffusionConfig:
    """Settings of RenderDiffusion; the defaults are those of the public
    implementation for ShapeNet cars, except that objects fill the unit sphere."""

    network: TriplaneUNetConfig = dataclasses.field(default_factory=TriplaneUNetConfig)
    decoder: TriplaneDecoderConfig = dataclasses.field(
        default_factory=TriplaneDecoderConfig
    )
    rays: TriplaneSampling = dataclasses.field(default_factory=TriplaneSampling)

    extent: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Half the size of the box that the planes span, around the world's origin."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""

    image_size: int = 128
    """Height and width of the images that are diffused, in pixels."""

    self_condition: bool = True
    """Whether the network also sees its estimate of the step before (Chen et al. 2022,
    "Analog Bits"); trained with every other batch."""

    pixels: int = 128 * 128
    """Supervised pixels of the noisy view; all of them, as published, at most."""

    unseen_weight: float = 0.0
    """Weight of the errors at views of the object that the network does not see: 0 is
    RenderDiffusion, which learns from single views; 0.1 is "RenderDiffusion++"."""

    unseen_pixels: int = 1024
    """Supervised pixels of each of those views."""

    opacity_weight: float = 0.0
    """Weight of the errors of opacity, where the data has masks (not published)."""

    snr_range: tuple[float, float] = (0.0, 5.0)
    """Errors are weighted by the signal-to-noise ratio, clamped to this range (min-SNR;
    Hang et al. 2023). More than 0 at the bottom lets what pure noise becomes be
    learned sooner."""

    sampling: TriplaneSampleConfig = dataclasses.field(
        default_factory=TriplaneSampleConfig
    )
    """Defaults of sampling."""


class RenderDiffusion(SceneMethod):
    """The method."""

    min_context: ClassVar[int] = 0
    max_context: ClassVar[int | None] = 1
    sample_options: ClassVar[frozenset[str]] = frozenset(
        {"num_steps", "noise_level", "hidden"}
    )
    scenes_at_once: ClassVar[int] = 4

    def __init__(self, config: RenderDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        if config.network.plane_channels != config.decoder.features:
            raise ValueError(
                f"planes of {config.network.plane_channels} features do not fit a "
                f"decoder of {config.decoder.features}"
            )
        channels = 6 if config.self_condition else 3
        self.network = TriplaneUNet(config.network, channels)
        self.decoder = TriplaneDecoder(config.decoder)
        self.schedule = CosineSchedule()
        self.box: Tensor
        self.background: Tensor
        extent = torch.tensor(config.extent)
        self.register_buffer("box", torch.stack([-extent, extent]), persistent=False)
        background = torch.tensor(config.background)
        self.register_buffer("background", background, persistent=False)

    def scene(
        self,
        x_t: Float[Tensor, "batch 3 height width"],
        t: Float[Tensor, "batch"],
        estimate: Float[Tensor, "batch 3 height width"] | None = None,
    ) -> TriplaneScene:
        """The scenes (batch,) that noisy images in [-1, 1] at noise levels t show.

        `estimate` is x_0 as it was estimated a step before, for a network that is
        conditioned on it; None stands for none.
        """
        inputs = x_t
        if self.config.self_condition:
            estimate = torch.zeros_like(x_t) if estimate is None else estimate
            inputs = torch.cat([x_t, estimate], dim=1)
        planes = self.network(inputs, self.schedule.step_of_t(t))
        return TriplaneScene(
            planes.float(),
            self.decoder,
            self.box,
            self.background,
            self.config.rays,
        )

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The error of x_0 at the camera of the first target view, which is noised.

        Nothing else of the example is looked at, unless unseen views are supervised:
        then these are all others, the context among them.
        """
        c, noisy = self.config, example.target[:, :1]
        clean = 2 * noisy.images[:, 0] - 1
        t = torch.rand(len(clean), generator=generator).to(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        x_t = self.schedule.add_noise(clean, noise, t)
        estimate = None
        if c.self_condition and torch.rand((), generator=generator) < 0.5:
            with torch.no_grad():
                first = self.scene(x_t, t)
                color = first.render_plain(noisy.cameras, noisy.size).color[:, 0]
            estimate = 2 * color - 1
        scene = self.scene(x_t, t, estimate)

        def errors(views: Views, count: int) -> PhotometricErrors:
            pixels = choose_pixels(views, count, "scattered", generator)
            rendered = scene.render_pixels(views.cameras, views.size, pixels, generator)
            linear = dataclasses.replace(rendered, color=rendered.extras["linear"])
            return compare(linear, views, pixels, "scattered")

        seen = errors(noisy, c.pixels)
        importance = self.schedule.log_snr(t).exp().clamp(*c.snr_range)
        weighted = [
            ("seen", 1.0, importance * seen.color),
            ("opacity", c.opacity_weight, importance * seen.opacity),
        ]
        if c.unseen_weight > 0:
            others = Views.cat([example.context, example.target[:, 1:]], dim=1)
            unseen = errors(others, c.unseen_pixels)
            weighted.append(("unseen", c.unseen_weight, importance * unseen.color))
        return weighted_losses(weighted)

    # ---- Sampling -------------------------------------------------------------------

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> TriplaneScene:
        """Scenes (batch,): made up at the first of `cameras`, or of one image each.

        An image is noised to the level of the options and denoised from there. What
        is hidden of it is sampled from pure noise, while the rest stays.

        Raises:
            UserError: there is neither an image nor a camera; there is no image of
                which a part could be hidden or that could be noised; or both are asked
                for.
        """
        options = options or SampleOptions()
        start = self._start(context, cameras, options)
        noise = PerSampleNoise([torch.Generator().manual_seed(s) for s in seeds])
        level = start.level.expand(len(seeds))
        x_t = self.schedule.add_noise(start.known, noise(start.known), level)
        num_steps = options.num_steps or self.config.sampling.num_steps
        steps = max(1, math.ceil(num_steps * float(start.level)))
        repeats = 1 if start.hidden is None else self.config.sampling.repeats
        total = (steps - 1) * repeats + 1
        denoise = _Denoiser(self, start.camera)

        def report(index: int, *_: Tensor) -> None:
            if on_step is not None:
                on_step(index + 1, total, denoise.scene)

        with evaluating(self):
            if start.level == 0:
                denoise(x_t, level)
                report(0)
            elif start.hidden is None:
                times = times_uniform(steps, float(start.level))
                ddim(denoise, x_t, self.schedule, times, on_step=report)
            else:
                repaint(
                    denoise,
                    x_t,
                    start.known,
                    start.hidden.expand_as(x_t),
                    self.schedule,
                    times_uniform(steps, float(start.level)),
                    noise=noise,
                    repeats=repeats,
                    on_step=report,
                )
        return denoise.scene

    def _start(
        self, context: Views, cameras: Cameras | None, options: SampleOptions
    ) -> _Start:
        """What sampling begins with."""
        device, size = self.box.device, self.config.image_size
        asked, hidden = options.noise_level, options.hidden
        if hidden is not None and asked is not None:
            raise UserError(
                "what is hidden is sampled from pure noise, and the rest stays: leave "
                "out the noise level."
            )
        if context.shape[1] > 0:
            own = self.config.sampling.noise_level if hidden is None else 1.0
            level = torch.tensor(own if asked is None else asked, device=device)
            known = 2 * context.images[:, 0] - 1
            if hidden is not None:
                hidden = hidden.to(device)
                known = known.masked_fill(hidden, 0)
            return _Start(known, context.cameras[:, :1], level, hidden)
        if hidden is not None or asked is not None:
            raise UserError(
                "there is no image of which a part could be hidden, or that could get "
                "noise: name one, or leave these options out."
            )
        if cameras is None:
            raise UserError(
                "a scene of no image has to be seen from somewhere: give cameras."
            )
        nothing = torch.zeros(len(cameras), 3, size, size, device=device)
        return _Start(nothing, cameras[:, :1], torch.ones((), device=device))


@dataclasses.dataclass(frozen=True)
class _Start:
    """What sampling begins with: the image that is known, or zeros, its camera
    (batch, 1), the noise that it gets, and the pixels that are not known."""

    known: Float[Tensor, "batch 3 height width"]
    camera: Cameras
    level: Float[Tensor, ""]
    hidden: Bool[Tensor, "height width"] | None = None


class _Denoiser:
    """Images at one camera to x_0, by way of scenes, the last of which it keeps."""

    def __init__(self, method: RenderDiffusion, camera: Cameras) -> None:
        self._method, self._camera = method, camera
        self._estimate: Tensor | None = None
        self._scene: TriplaneScene | None = None

    @property
    def scene(self) -> TriplaneScene:
        """The scenes (batch,) of the last step."""
        assert self._scene is not None
        return self._scene

    def __call__(
        self, x_t: Float[Tensor, "batch 3 height width"], t: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch 3 height width"]:
        self._scene = self._method.scene(x_t, t, self._estimate)
        size = (x_t.shape[-2], x_t.shape[-1])
        color = self._scene.render_plain(self._camera, size).color[:, 0]
        self._estimate = 2 * color - 1
        return self._estimate


# As published, for ShapeNet cars and CO3D at 128x128. Which box holds the objects
# depends on the data; here it holds the unit sphere.
_PUBLISHED_TRAINING = TrainConfig(
    steps=300_000,
    batch_size=8,
    learning_rate=2e-5,
    warmup_steps=0,
    betas=(0.9, 0.99),
    clip_norm=0.0,
    ema_decay=0.9995,
)

_SMALL = RenderDiffusionConfig(
    network=TriplaneUNetConfig(
        channels=32,
        multipliers=(1, 2, 4),
        num_blocks=1,
        attention=(False, False, True),
        plane_channels=8,
        patch=2,
    ),
    decoder=TriplaneDecoderConfig(features=8, width=16),
    rays=TriplaneSampling(num_uniform=32, num_importance=0),
    image_size=64,
    self_condition=False,
    pixels=256,
    opacity_weight=0.25,
    snr_range=(1.0, 5.0),
    sampling=TriplaneSampleConfig(num_steps=50, noise_level=0.2),
)

# No metric stands beside a preset whose training has not been run to its end here.
RENDERDIFFUSION_PRESETS: dict[str, Preset] = {
    "renderdiffusion": Preset(
        RenderDiffusionConfig(),
        _PUBLISHED_TRAINING,
        num_target=1,
        description="RenderDiffusion at 128x128, as in the public implementation.",
    ),
    "renderdiffusion-plus": Preset(
        RenderDiffusionConfig(unseen_weight=0.1),
        _PUBLISHED_TRAINING,
        num_context=2,
        num_target=1,
        description="RenderDiffusion++: the same, with two unseen views supervised.",
    ),
    "renderdiffusion-small": Preset(
        _SMALL,
        dataclasses.replace(MINUTES, steps=6_000, ema_decay=0.995),
        num_target=1,
        description="A thin RenderDiffusion at 64x64, for two processor cores.",
    ),
}
