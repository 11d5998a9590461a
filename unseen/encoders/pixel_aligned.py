"""DFM's own scene model: views to pixel-aligned conditional radiance fields.

Tewari et al., "Diffusion with Forward Models", NeurIPS 2023, section 4: a transformer
encodes clean context views, and a noisy target view together with a deterministic
rendering of the context at its camera; a field aligned with all their pixels is the
scene.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.encoders.scene_model import (
    Condition,
    ContextState,
    Denoiser,
    SceneModel,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.networks.dit import DiTEncoder, DiTEncoderConfig
from unseen.networks.resnet_fc import ResnetFCConfig, TimeResnetFC
from unseen.scenes.aligned_field import AlignedField
from unseen.scenes.conditional_field import ConditionalFieldScene, KnownViews
from unseen.scenes.ray_sampling import Rays, RaySampling
from unseen.scenes.scene import Scene

RAYS_AT_A_TIME = 4096
"""Rays that a denoiser renders, and keeps or does not keep, together."""


@dataclasses.dataclass(frozen=True)
class PixelAlignedConfig:
    """Sizes and conventions; sizes are the paper's, conventions those we train with.

    The settings of the released weights are in `unseen.checkpoints.dfm_authors`.
    """

    encoder: DiTEncoderConfig = dataclasses.field(default_factory=DiTEncoderConfig)
    field: ResnetFCConfig = dataclasses.field(default_factory=ResnetFCConfig)
    sampling: RaySampling = dataclasses.field(default_factory=RaySampling)

    num_condition_samples: int = 32
    """Uniform samples along a ray of the conditioning render."""

    condition_position: Literal["normalized", "raw"] = "normalized"
    """Unit of the conditioning render's expected sample position: 0 at near and 1 at
    far, or world units, as the released weights were trained."""

    num_steps: int = 1000
    """Diffusion steps that the noise levels (0, 1] are counted in by the networks."""

    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What is seen where nothing is; colours in [0, 1]."""

    def __post_init__(self) -> None:
        expected = 7 + self.field.out_features
        if self.encoder.noisy_channels != expected:
            raise ValueError(
                f"the encoder's noisy_channels must be {expected} (noisy image 3, "
                f"conditioning colour 3, position 1, features "
                f"{self.field.out_features}), it is {self.encoder.noisy_channels}"
            )
        if self.encoder.dit.out_channels != self.field.features:
            raise ValueError(
                f"the encoder writes {self.encoder.dit.out_channels} channels, the "
                f"field reads {self.field.features}: make them equal"
            )


@dataclasses.dataclass(frozen=True)
class PixelAlignedContext:
    """Features of the context views, through the first layer of every field."""

    cameras: Cameras
    field_maps: Float[Tensor, "batch view width height_map width_map"]
    proposal_maps: Float[Tensor, "batch view width height_map width_map"]
    deterministic_maps: Float[Tensor, "batch view width height_map width_map"]


class PixelAlignedSceneModel(SceneModel):
    """Views to `ConditionalFieldScene`s."""

    def __init__(self, config: PixelAlignedConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DiTEncoder(config.encoder)
        self.field = TimeResnetFC(config.field)
        self.proposal = TimeResnetFC(config.field)
        self.deterministic_field = TimeResnetFC(config.field)
        self.background: Tensor
        self.register_buffer(
            "background", torch.tensor(config.background), persistent=False
        )

    def step(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Noise level in [0, 1] to diffusion step: level (i + 1) / n is step i.

        Rounded to 1/1024 of a step, which is about the precision of a float `t`, so
        that the levels of a discrete schedule give its steps exactly.
        """
        step = (t * self.config.num_steps - 1).clamp(min=0)
        return (step * 1024).round() / 1024

    def encode(
        self,
        images: Float[Tensor, "batch view channel height width"],
        cameras: Cameras,
        step: Float[Tensor, "batch"],
        *,
        noisy: bool,
    ) -> Float[Tensor, "batch view feature height width"]:
        batch, view = cameras.shape
        features = self.encoder(
            images.flatten(0, 1),
            step.repeat_interleave(view),
            noisy=noisy,
            extrinsics=cameras.extrinsics.flatten(0, 1),
        )
        return features.unflatten(0, (batch, view))

    def encode_context(self, images: Views) -> PixelAlignedContext:
        step = images.images.new_zeros(images.shape[0])
        features = self.encode(images.images, images.cameras, step, noisy=False)
        return PixelAlignedContext(
            images.cameras,
            self.field.project_features(features),
            self.proposal.project_features(features),
            self.deterministic_field.project_features(features),
        )

    def _field(
        self,
        network: TimeResnetFC,
        maps: Float[Tensor, "batch view width height_map width_map"],
        cameras: Cameras,
        steps: Float[Tensor, "batch view"],
    ) -> AlignedField:
        sampling = self.config.sampling
        # The average of the views is treated at the step of the last, noisy one.
        return AlignedField(
            network,
            maps,
            cameras,
            steps,
            steps[:, -1],
            sampling.pixel_grid,
            sampling.max_points,
        )

    def deterministic(self, context: ContextState) -> ConditionalFieldScene:
        assert isinstance(context, PixelAlignedContext)
        field = self._field(
            self.deterministic_field,
            context.deterministic_maps,
            context.cameras,
            torch.zeros_like(context.cameras.near),
        )
        return ConditionalFieldScene(field, None, self.background, self.config.sampling)

    def condition(
        self,
        context: ContextState,
        cameras: Cameras,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Condition:
        sampling = dataclasses.replace(
            self.config.sampling,
            num_uniform=self.config.num_condition_samples,
            num_importance=0,
        )
        scene = dataclasses.replace(self.deterministic(context), sampling=sampling)
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        rays = sampling.camera_rays(cameras, size, pixels.expand(*cameras.shape, -1))
        r = scene.render_rays(rays, generator)
        if self.config.condition_position == "normalized":
            position = (r.depth - rays.near) / (rays.far - rays.near)
        else:
            position = (r.weights * r.positions).sum(dim=-1)
        maps = [2 * r.color - 1, position[..., None]]
        if r.features is not None:
            maps.append(r.features)

        def image(values: Float[Tensor, "batch ray channel"]) -> Tensor:
            return values.unflatten(1, (cameras.shape[1], *size)).movedim(-1, 2)

        opacity = image(r.opacity[..., None])[:, :, 0]
        return Condition(image(torch.cat(maps, dim=-1)), image(r.color), opacity)

    def joint(
        self,
        context: ContextState,
        noisy: Views,
        condition: Condition,
        t: Float[Tensor, "batch"],
    ) -> ConditionalFieldScene:
        assert isinstance(context, PixelAlignedContext)
        step = self.step(t)
        images = torch.cat([noisy.images, condition.maps], dim=2)
        features = self.encode(images, noisy.cameras, step, noisy=True)
        cameras = Cameras.cat([context.cameras, noisy.cameras], dim=1)
        clean = torch.zeros_like(context.cameras.near)
        steps = torch.cat([clean, step[:, None].expand(noisy.shape)], dim=1)

        def join(
            network: TimeResnetFC,
            maps: Float[Tensor, "batch view width height_map width_map"],
        ) -> AlignedField:
            maps = torch.cat([maps, network.project_features(features)], dim=1)
            return self._field(network, maps, cameras, steps)

        return ConditionalFieldScene(
            join(self.field, context.field_maps),
            join(self.proposal, context.proposal_maps),
            self.background,
            self.config.sampling,
        )

    def denoiser(
        self,
        context: ContextState,
        condition: Condition,
        cameras: Cameras,
        size: tuple[int, int],
    ) -> Denoiser:
        """`plain_denoiser`, with what clean views say of uniform samples kept.

        Their part of the field does not depend on t, nor do the uniform samples. As
        many rays as `max_cache_gib` allows are kept, the others computed anew.
        """
        assert isinstance(context, PixelAlignedContext)
        sampling, count = self.config.sampling, context.cameras.shape[1]
        pixels = torch.arange(size[0] * size[1], device=cameras.device)
        rays = sampling.camera_rays(cameras, size, pixels.expand(*cameras.shape, -1))
        pieces = rays.split(max(1, RAYS_AT_A_TIME // cameras.shape[0]))
        clean = self._clean_scene(context)
        budget = sampling.max_cache_gib * 2**30
        known: list[KnownViews | None] = []
        for piece in pieces:
            budget -= self._cache_bytes(piece)
            known.append(clean.ask_views(piece, count) if budget >= 0 else None)

        def denoise(
            x_t: Float[Tensor, "batch view 3 height width"], t: Float[Tensor, "batch"]
        ) -> tuple[Float[Tensor, "batch view 3 height width"], Scene]:
            scene = self.joint(context, Views(x_t, cameras), condition, t)
            colors = [
                scene.render_rays(piece, known=views).color
                for piece, views in zip(pieces, known, strict=True)
            ]
            color = torch.cat(colors, dim=1).unflatten(1, (cameras.shape[1], *size))
            return 2 * color.movedim(-1, 2) - 1, scene

        return denoise

    def _clean_scene(self, context: PixelAlignedContext) -> ConditionalFieldScene:
        """The joint scene's fields before a noisy view has joined."""
        steps = torch.zeros_like(context.cameras.near)
        field = self._field(self.field, context.field_maps, context.cameras, steps)
        proposal = dataclasses.replace(
            field, network=self.proposal, maps=context.proposal_maps
        )
        return ConditionalFieldScene(
            field, proposal, self.background, self.config.sampling
        )

    def _cache_bytes(self, rays: Rays) -> int:
        """Memory of the `KnownViews` of rays."""
        sampling = self.config.sampling
        fields = 2 if sampling.num_importance else 1
        samples = rays.near.numel() * sampling.num_uniform
        return fields * samples * self.config.field.width * rays.near.element_size()
