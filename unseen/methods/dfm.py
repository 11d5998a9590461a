# length: one paper in one file, with its settings, training and sampling.
"""Diffusion with Forward Models (Tewari et al., NeurIPS 2023, arXiv 2306.11719).

An image diffusion model whose denoiser reconstructs a scene and renders it: from clean
context views and noisy target views a scene is inferred, and its rendering at the
target cameras is the estimate of the clean target images. Training sees posed images
only; the scene of the last denoising step is a sample of p(scene | context).

What a scene is, and how it becomes an image (the forward model), is an argument: a
`SceneModel` infers scenes of its own kind, which render themselves. Volumes, light
fields and Gaussians are seen from cameras; a motion is seen as a moved picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.guidance import classifier_free, dynamic_threshold
from unseen.diffusion.noise import PerSampleNoise
from unseen.diffusion.samplers import ddim
from unseen.diffusion.schedules import CosineSchedule
from unseen.diffusion.times import times_uniform
from unseen.encoders.frustum import FrustumConfig, FrustumSceneModel
from unseen.encoders.light_field import LightFieldConfig, LightFieldSceneModel
from unseen.encoders.motion import MotionConfig, MotionSceneModel
from unseen.encoders.pixel_aligned import PixelAlignedConfig, PixelAlignedSceneModel
from unseen.encoders.pixel_gaussians import (
    PixelGaussiansConfig,
    PixelGaussiansSceneModel,
)
from unseen.encoders.scene_model import SceneModel
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras, turn_cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import (
    Pattern,
    PhotometricErrors,
    choose_pixels,
    compare,
    resized_error,
    weighted_losses,
)
from unseen.scenes.scene import Scene

SceneConfig = (
    FrustumConfig
    | PixelAlignedConfig
    | LightFieldConfig
    | PixelGaussiansConfig
    | MotionConfig
)

SCENE_MODELS: dict[type, Callable[..., SceneModel]] = {
    FrustumConfig: FrustumSceneModel,
    PixelAlignedConfig: PixelAlignedSceneModel,
    LightFieldConfig: LightFieldSceneModel,
    PixelGaussiansConfig: PixelGaussiansSceneModel,
    MotionConfig: MotionSceneModel,
}


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Settings of sampling."""

    num_steps: int = 25
    """Denoising steps per target view."""

    guidance: float = 1.5
    """Classifier-free guidance scale; 1 is none, and half the work."""

    eta: float = 0.0
    """Noise added back at each DDIM step: 0 is deterministic, 1 ancestral."""

    temperature: float = 1.0
    """Factor on the initial noise."""

    threshold: float | None = None
    """Percentile of Imagen's dynamic thresholding (the authors use 0.95)."""

    azimuths: tuple[float, ...] = (120.0, 240.0)
    """Target cameras that complete an object, in degrees around the input's."""

    joint: bool = False
    """Whether all target views are denoised at once, of one scene, instead of one after
    the other, each as context of the next."""


@dataclasses.dataclass(frozen=True)
class DFMConfig:
    """Settings of DFM."""

    scene: SceneConfig = dataclasses.field(default_factory=FrustumConfig)
    """The scene representation and its encoder; with both comes the forward model."""

    image_size: int = 64
    """Height and width of the images that are diffused, in pixels."""

    context_weights: tuple[float, ...] = (0.65, 0.35)
    """How often training uses 1, 2, ... of the context views it is given."""

    noisy_weights: tuple[float, ...] = (1.0,)
    """How often training noises 1, 2, ... of the target views, which are then explained
    by one scene. Those that are left are explained without being shown."""

    drop_context: float = 0.1
    """How often an example's context images are replaced by grey, for guidance."""

    target_pixels: int = 1024
    """Supervised pixels of each noisy view."""

    other_pixels: int = 384
    """Supervised pixels of each other view."""

    color_weight: float = 1.0
    """Weight of the joint scene's colour errors."""

    snr_range: tuple[float, float] = (1.0, 1.0)
    """The noisy view's colour errors are weighted by the signal-to-noise ratio, clamped
    to this range; the paper weighs all alike. With more than 1 at the top, what little
    noise hides is learned too (cf. min-SNR, Hang et al. 2023, and truncated SNR,
    Salimans and Ho 2022, whose ranges are (0, 5) and (1, infinity))."""

    condition_weight: float = 1.0
    """Weight of the conditioning render's errors at the noisy view."""

    deterministic_weight: float = 1.0
    """Weight of the deterministic scene's errors at the other views. The paper trains
    it through the conditioning render alone; as a baseline it deserves as much
    supervision as the joint scene."""

    supervise_context: bool = True
    """Whether the scenes are also compared with the context views (not in the
    paper): they shall agree with what they were given."""

    opacity_weight: float = 0.25
    """Weight of the errors of opacity, where the data has masks (not in the paper)."""

    distortion_weight: float = 0.0
    """Weight of the distortion of the joint scene's rays."""

    smoothness_weight: float = 0.0
    """Weight of the roughness of the joint scene's inverse depth, in patches."""

    pattern: Pattern = "scattered"
    """Whether supervised pixels are scattered, or a patch as in the paper."""

    sampling: SampleConfig = dataclasses.field(default_factory=SampleConfig)
    """Defaults of sampling."""


class DFM(SceneMethod):
    """The method, for any scene model."""

    sample_options: ClassVar = frozenset({"num_steps", "guidance"})
    scenes_at_once: ClassVar = 4

    def __init__(self, config: DFMConfig, model: SceneModel | None = None) -> None:
        """By default the scene model is that of `config.scene`."""
        super().__init__()
        self.config = config
        self.model = model or SCENE_MODELS[type(config.scene)](config.scene)
        self.schedule = CosineSchedule()

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The training loss of (batch, view) contexts and targets.

        The first target view, or the first few, are noised. The joint scene must
        explain them and the views that the model was not shown: the other targets, and
        (`supervise_context`) all of the context, of which this step may leave out some.
        """
        c = self.config
        example = self.model.observe(example, generator)
        context, noisy, others = self._roles(example, generator)
        batch = context.shape[0]
        kept = torch.rand(batch, generator=generator) >= c.drop_context
        kept = kept.to(noisy.images)
        t = torch.rand(batch, generator=generator).to(noisy.images)
        noise = torch.randn(noisy.images.shape, generator=generator).to(noisy.images)

        state = self.model.encode_context(_signed(context, kept))
        condition = self.model.condition(state, noisy.cameras, noisy.size, generator)
        x_t = self.schedule.add_noise(2 * noisy.images - 1, noise, t)
        x_t = dataclasses.replace(noisy, images=x_t)
        joint = self.model.joint(state, x_t, condition, t)

        def errors(scene: Scene, views: Views, count: int) -> PhotometricErrors:
            if views.shape[1] == 0:
                return PhotometricErrors(*[torch.zeros_like(t)] * 5)
            pixels = choose_pixels(views, count, c.pattern, generator)
            rendered = scene.render_pixels(views.cameras, views.size, pixels, generator)
            return compare(rendered, views, pixels, c.pattern)

        target = errors(joint, noisy, c.target_pixels)
        novel = errors(joint, others, c.other_pixels)
        shown = resized_error(condition.color, noisy)
        importance = self.schedule.log_snr(t).exp().clamp(*c.snr_range)
        # A grey context says nothing, so its mean is not asked for.
        weighted = [
            ("target", c.color_weight, importance * target.color),
            ("novel", c.color_weight, novel.color),
            ("proposal", c.color_weight, target.proposal + novel.proposal),
            ("opacity", c.opacity_weight, target.opacity + novel.opacity),
            ("distortion", c.distortion_weight, target.distortion + novel.distortion),
            ("smoothness", c.smoothness_weight, target.smoothness + novel.smoothness),
            ("condition", c.condition_weight, shown * kept),
        ]
        if c.deterministic_weight:
            mean = errors(self.model.deterministic(state), others, c.other_pixels)
            error = mean.color + c.opacity_weight * mean.opacity
            weighted.append(("deterministic", c.deterministic_weight, error * kept))
        return weighted_losses(weighted)

    def _roles(
        self, example: Example, generator: torch.Generator
    ) -> tuple[Views, Views, Views]:
        """Context, the views to be noised, and the views to be explained besides."""

        def draw(weights: tuple[float, ...], views: Views) -> int:
            among = torch.tensor(weights[: views.shape[1]])
            # A choice without an alternative takes no random number.
            if len(weights) == 1:
                return 1
            return int(torch.multinomial(among, 1, generator=generator)) + 1

        count = draw(self.config.context_weights, example.context)
        noisy = draw(self.config.noisy_weights, example.target)
        others = example.target[:, noisy:]
        if self.config.supervise_context:
            others = Views.cat([example.context, others], dim=1)
        return example.context[:, :count], example.target[:, :noisy], others

    # ---- Sampling -------------------------------------------------------------------

    @property
    def needs_cameras(self) -> bool:
        return not self.config.sampling.azimuths

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> Scene:
        """Scenes (batch,), completed all around an object.

        Models of other scenes (`SampleConfig.azimuths` is empty) sample the last of
        `cameras`, and raise a UserError without them.
        """
        config = (options or SampleOptions()).over(self.config.sampling)
        if config.azimuths:
            targets = self.completion_cameras(context)
        elif cameras is not None:
            targets = cameras[:, -1:]
        else:
            raise UserError(
                "this model does not know where to complete the scene: name a file of "
                "cameras with --path (in Python, give `cameras`)."
            )
        return self.complete(context, targets, seeds, config, on_step)

    def reconstruct(self, context: Views) -> Scene:
        """The deterministic scenes (batch,) of the conditioning branch: no sampling.

        They minimise the squared error of their renderings, so where the context says
        nothing they show the mean of what could be there. The baseline of DFM.
        """
        with evaluating(self):
            return self.model.deterministic(self.model.encode_context(_signed(context)))

    def completion_cameras(self, context: Views) -> Cameras:
        """The target cameras (batch, target) of an object scene.

        They are the first context camera, turned about the vertical through the
        middle of its depth range by each of `SampleConfig.azimuths`.
        """
        azimuths = torch.deg2rad(torch.tensor(self.config.sampling.azimuths))
        return turn_cameras(context.cameras[:, 0], azimuths.to(context.images))

    def complete(
        self,
        context: Views,
        cameras: Cameras,
        seeds: Sequence[int],
        options: SampleConfig | None = None,
        on_step: OnStep | None = None,
    ) -> Scene:
        """Sample target views one after the other; each becomes context of the next.

        With `SampleConfig.joint`, all at once. `cameras` are (batch, target). Entry i
        draws its noise from `seeds[i]` alone, so it does not depend on the batch it is
        in. After every step, `on_step` gets the number of steps done, of steps to do,
        and the current scenes. Returns the scenes of the last denoising step, sampled
        in evaluation mode (the authors stay in training mode) and without gradients.
        """
        options = options or self.config.sampling
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = PerSampleNoise(generators)
        targets = [cameras[:, i : i + 1] for i in range(cameras.shape[1])]
        groups, steps = [cameras] if options.joint else targets, options.num_steps
        scene = None
        for number, group in enumerate(groups):

            def report(step: int, scene: Scene, done: int = number * steps) -> None:
                if on_step is not None:
                    on_step(done + step, len(groups) * steps, scene)

            with evaluating(self):
                images, scene = self._sample_views(
                    context, group, noise, options, report
                )
            context = Views.cat([context, Views(images, group)], dim=1)
        assert scene is not None
        return scene

    def _sample_views(
        self,
        context: Views,
        cameras: Cameras,
        noise: PerSampleNoise,
        options: SampleConfig,
        report: Callable[[int, Scene], None],
    ) -> tuple[Float[Tensor, "batch view 3 height width"], Scene]:
        """Denoise target views (batch, view) together, of one scene.

        Returns them in [0, 1], and the last step's scenes.
        """
        batch, guided = context.shape[0], options.guidance != 1
        given = _signed(context)
        if guided:
            grey = dataclasses.replace(given, images=torch.zeros_like(given.images))
            given = Views.cat([given, grey])
        both = Cameras.cat([cameras, cameras]) if guided else cameras
        # None of this depends on t: once per trajectory.
        state = self.model.encode_context(given)
        condition = self.model.condition(state, both, context.size)
        denoiser = self.model.denoiser(state, condition, both, context.size)
        scenes: list[Scene] = []

        def denoise(
            x_t: Float[Tensor, "batch view 3 height width"], t: Float[Tensor, "batch"]
        ) -> Float[Tensor, "batch view 3 height width"]:
            repeats = 2 if guided else 1
            x_0, scene = denoiser(x_t.repeat(repeats, 1, 1, 1, 1), t.repeat(repeats))
            scenes[:] = [scene]
            if guided:
                x_0 = classifier_free(x_0[:batch], x_0[batch:], options.guidance)
            if options.threshold is not None:
                x_0 = dynamic_threshold(x_0, options.threshold)
            return x_0.clamp(-1, 1)

        times = times_uniform(options.num_steps).to(context.images)
        shape = (*cameras.shape, *context.images.shape[2:])
        start = noise(context.images.new_empty(shape)) * options.temperature
        x_0 = ddim(
            denoise,
            start * self.schedule.sigma(times[0]),
            self.schedule,
            times,
            eta=options.eta,
            noise=noise,
            on_step=lambda step, x_t, x_0: report(step + 1, scenes[0][:batch]),
        )
        if guided:
            # Guidance acts on images. To carry it into the scene, the scene is
            # inferred once more from the guided image (the authors leave it out).
            denoise(x_0, times[-1].expand(batch))
        return 0.5 * (x_0 + 1), scenes[0][:batch]


def _signed(views: Views, kept: Float[Tensor, "batch"] | None = None) -> Views:
    """Images from [0, 1] to the diffused range [-1, 1]; those not kept become grey."""
    images = 2 * views.images - 1
    if kept is not None:
        images = images * kept[:, None, None, None, None]
    return dataclasses.replace(views, images=images)
