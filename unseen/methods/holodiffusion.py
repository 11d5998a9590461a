"""HoloDiffusion (Karnewar et al., CVPR 2023, arXiv 2303.16509).

A diffusion model of feature volumes that is trained with images alone. The clean
volumes are not known: views are unprojected and pooled into a volume, noise is added to
that, and what the denoiser makes of it is rendered and compared with other views.
Sampling starts at noise and needs no image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.diffusion.from_noise import sample_from_noise
from unseen.diffusion.noise import random_levels
from unseen.diffusion.schedules import LinearSchedule
from unseen.encoders.unprojection import UnprojectionConfig, UnprojectionEncoder
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import choose_rays, without_background
from unseen.geometry.views import Example, Views
from unseen.methods.method import (
    Losses,
    OnStep,
    SampleOptions,
    SceneMethod,
    evaluating,
)
from unseen.methods.photometric import coarse_and_fine
from unseen.networks.render_mlp import RenderMLP, RenderMLPConfig
from unseen.networks.unet3d import UNet3d, UNet3dConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.voxel_features import VOXEL_SAMPLING, VoxelFeatureScene


@dataclasses.dataclass(frozen=True)
class HoloDiffusionConfig:
    """Settings of HoloDiffusion; the default sizes are those of the authors' settings.

    Weights of the authors' code need `last_pass`, `swapped_axes` and, of the decoder,
    the `activation` "last": what that code does, and the paper does not describe.

    Raises:
        ValueError: the grid cannot be halved as often as the network does.
    """

    encoder: UnprojectionConfig = dataclasses.field(default_factory=UnprojectionConfig)
    """Views to volumes, in training."""

    network: UNet3dConfig = dataclasses.field(default_factory=UNet3dConfig)
    """The denoiser."""

    decoder: RenderMLPConfig = dataclasses.field(default_factory=RenderMLPConfig)
    """Features to density and colour."""

    resolution: int = 16
    """Voxels along a side."""

    extent: float = 8.0
    """Side of the cube about the world's origin, in world units; the ball inside of it
    should hold the object."""

    image_size: int = 512
    """Height and width of the images, in pixels."""

    sampling: CoarseFineSampling = VOXEL_SAMPLING
    """Samples along a ray."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What is seen where nothing is; colours in [0, 1]."""

    bootstrap: float = 0.5
    """How often a denoised volume is noised and denoised once more before it is
    rendered (section 3.4); 0 is never."""

    density_noise: float = 1.0
    """Standard deviation of what is added to densities in training."""

    rays: int = 3072
    """Supervised rays of each scene, pooled over its target views."""

    num_steps: int = 1000
    """Denoising steps of sampling."""

    last_pass: bool = False
    """Whether, outside of training, every volume passes the denoiser once more before
    it is rendered: at t = 0, and with tanh in place of clipping."""

    swapped_axes: bool = False
    """Whether volumes are rendered with x and z swapped against their unprojection."""

    def __post_init__(self) -> None:
        self.network.check(self.resolution)
        if self.decoder.features < 1 or not self.extent > 0:
            raise ValueError("the features and the cube's side must be positive")
        if not 0 <= self.bootstrap <= 1:
            raise ValueError(f"`bootstrap` is a share, not {self.bootstrap}")


class HoloDiffusion(SceneMethod):
    """The method."""

    min_context: ClassVar[int] = 0
    scenes_at_once: ClassVar[int] = 4

    def __init__(self, config: HoloDiffusionConfig) -> None:
        super().__init__()
        self.config, c = config, config
        features = c.decoder.features
        self.encoder = UnprojectionEncoder(
            c.encoder, features, c.resolution, c.extent, c.background
        )
        self.network = UNet3d(c.network, features)
        self.decoder = RenderMLP(c.decoder)
        self.schedule = LinearSchedule()
        self.background: Tensor
        background = torch.tensor(c.background)
        self.register_buffer("background", background, persistent=False)

    def varies(self, num_context: int) -> bool:
        return num_context == 0

    def denoise(
        self,
        x_t: Float[Tensor, "batch feature depth height width"],
        t: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch feature depth height width"]:
        """The estimate of the clean volumes, clipped to [-1, 1]."""
        steps = self.schedule.step_of_t(t).round().to(x_t)
        return self.network(x_t, steps).clamp(-1, 1)

    def finish(
        self, volumes: Float[Tensor, "batch feature depth height width"]
    ) -> Float[Tensor, "batch feature depth height width"]:
        """What is rendered of clean volumes outside of training (`last_pass`)."""
        if not self.config.last_pass:
            return volumes
        return self.network(volumes, volumes.new_zeros(len(volumes))).tanh()

    def scene(
        self, volumes: Float[Tensor, "batch feature depth height width"]
    ) -> VoxelFeatureScene:
        """The scenes (batch,) of volumes, differentiable."""
        c = self.config
        return VoxelFeatureScene(
            volumes.transpose(2, 4) if c.swapped_axes else volumes,
            self.decoder,
            c.extent,
            self.background,
            c.sampling,
            c.density_noise,
        )

    # ---- Training -------------------------------------------------------------------

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """Mean squared colour errors of renderings of denoised volumes.

        The volumes come from the context views, the rays from the target views.
        """
        batch, device = example.context.shape[0], example.context.images.device
        x_0 = self.encoder(example.context)
        x_t, t, _ = random_levels(x_0, self.schedule, generator)
        x_0 = self.denoise(x_t, t)
        again = torch.rand(batch, generator=generator) < self.config.bootstrap
        if again.any():
            chosen = again.nonzero()[:, 0].to(device)
            x_t, t, _ = random_levels(x_0[chosen], self.schedule, generator)
            x_0 = x_0.index_copy(0, chosen, self.denoise(x_t, t))
        target = without_background(example.target, self.background)
        rays = choose_rays(target, self.config.rays, 0.0, self.background, generator)
        return coarse_and_fine(self.scene(x_0), rays, target.size, generator)

    # ---- Sampling -------------------------------------------------------------------

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> VoxelFeatureScene:
        """Scenes of noise where `context` is (batch, 0); else those that it shows.

        Given views, nothing is drawn: they are unprojected as in training, and the
        volume is rendered as the authors' code evaluates (see `last_pass`). Raises
        UserError if steps are asked for then.
        """
        c = self.config

        def report(done: int, total: int, volumes: Tensor) -> None:
            if on_step is not None:
                on_step(done, total, self._finished(volumes))

        if context.shape[1] and options is not None and options.num_steps is not None:
            raise UserError(
                "HoloDiffusion denoises what images show once, in no steps: leave out "
                "--steps."
            )
        with evaluating(self):
            if context.shape[1]:
                volumes = self.denoise_views(context)
                report(1, 1, volumes)
            else:
                volumes = sample_from_noise(
                    self.denoise,
                    (c.decoder.features, *[c.resolution] * 3),
                    seeds,
                    self.schedule,
                    (None if options is None else options.num_steps) or c.num_steps,
                    self.background.device,
                    report,
                )
            return self._finished(volumes)

    def denoise_views(
        self, context: Views
    ) -> Float[Tensor, "batch feature depth height width"]:
        """The volumes of views, before `finish`.

        Without a last pass, the denoiser's estimate of them as they are, at t = 0.
        """
        volumes = self.encoder(context)
        if self.config.last_pass:
            return volumes
        return self.denoise(volumes, volumes.new_zeros(len(volumes)))

    def _finished(
        self, volumes: Float[Tensor, "batch feature depth height width"]
    ) -> VoxelFeatureScene:
        return self.scene(self.finish(volumes)).detach()
