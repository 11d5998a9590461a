"""The conditional radiance field of DFM: a scene that is a function of images.

A field that is aligned with the pixels of the context views and of a noisy view is
evaluated anew at every sample of a ray; a second one, the proposal, tells where.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.boxes import frustum_box
from unseen.geometry.cameras import Cameras
from unseen.networks.resnet_fc import ResnetFCConfig, TimeResnetFC
from unseen.rendering.rendering import Rendering
from unseen.rendering.volume import RayRendering
from unseen.scenes.aligned_field import AlignedField
from unseen.scenes.ray_sampling import Rays, RaySampling
from unseen.scenes.scene import FieldScene, PixelRendering, cat_pixels
from unseen.scenes.state import (
    camera_tensors,
    cameras_of,
    module_state,
    module_tensors,
)


@dataclasses.dataclass(frozen=True)
class KnownViews:
    """What the first `count` views say of rays' uniform samples (see `AlignedField`).

    `field` and `proposal` are sums over those views; without a proposal, or without
    importance sampling, the latter is None.
    """

    count: int
    field: Float[Tensor, "batch point width"]
    proposal: Float[Tensor, "batch point width"] | None


@dataclasses.dataclass(frozen=True)
class ConditionalFieldScene(FieldScene):
    """Radiance fields that are conditioned on views; shape is () or (batch,).

    `proposal` finds out where along a ray the matter is, `field` is what is rendered
    there. Without a proposal the field proposes for itself.

    `render_pixels` reports in `extras`: "proposal_color" (..., ray, 3), what the
    proposal alone renders, to be supervised as the colour is, or else the proposal
    never learns where the matter is (missing without importance sampling or
    `proposal_loss`); "weights" (..., ray, sample) and "edges" (..., ray, sample + 1),
    scaled to [0, 1] between near and far, for losses on the distribution along rays.
    """

    field: AlignedField
    proposal: AlignedField | None
    background: Float[Tensor, "3"]
    sampling: RaySampling

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.field.step.shape)

    @property
    def evaluations_per_ray(self) -> int:
        uniform, importance = self.sampling.num_uniform, self.sampling.num_importance
        if importance == 0:
            return uniform
        return (1 if self.proposal is None else 2) * uniform + importance

    def _index(self, index: Any) -> ConditionalFieldScene:
        proposal = None if self.proposal is None else self.proposal[index]
        return dataclasses.replace(self, field=self.field[index], proposal=proposal)

    def __getitem__(self, index: int | slice) -> ConditionalFieldScene:
        return self._index(index)

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        if not self.shape:
            density, color = self._index(None).evaluate(points[None])
            return density[0], color[0]
        values = self.field.query(points)
        return values[..., 0], values[..., 1:4]

    # ---- Rays -----------------------------------------------------------------------

    def _integrate(
        self,
        rays: Rays,
        positions: Float[Tensor, "batch ray sample"],
        values: Float[Tensor, "batch ray sample channel"],
    ) -> RayRendering:
        return self.sampling.integrate(rays, positions, values, self.background)

    def ask_views(self, rays: Rays, count: int) -> KnownViews:
        """What the first `count` views say of rays, for `render_rays`."""
        points, views = rays.points(self.sampling.uniform(rays)), slice(count)
        proposal = self.proposal if self.sampling.num_importance else None
        return KnownViews(
            count,
            self.field.sum_views_in_pieces(points, views),
            None if proposal is None else proposal.sum_views_in_pieces(points, views),
        )

    def render_rays(
        self,
        rays: Rays,
        generator: torch.Generator | None = None,
        known: KnownViews | None = None,
    ) -> RayRendering:
        """Render rays; positions take the place of depths in the result.

        With a generator samples are placed at random. `known` holds for the uniform
        samples of these very rays, without a generator.
        """
        uniform = self.sampling.uniform(rays, generator)
        points = rays.points(uniform)
        count = 0 if known is None else known.count

        def query(
            field: AlignedField, sums: Float[Tensor, "batch point width"] | None
        ) -> Float[Tensor, "batch ray sample channel"]:
            values = field.query(points, sums, count)
            return values.unflatten(1, uniform.shape[1:])

        field_sums = None if known is None else known.field
        if self.sampling.num_importance == 0:
            return self._integrate(rays, uniform, query(self.field, field_sums))
        trained = torch.is_grad_enabled() and self.sampling.proposal_loss
        if self.proposal is None:
            values = query(self.field, field_sums)
            coarse = self._integrate(rays, uniform, values)
        else:
            with torch.set_grad_enabled(trained):
                sums = None if known is None else known.proposal
                proposed = query(self.proposal, sums)
                coarse = self._integrate(rays, uniform, proposed)
            values = query(self.field, field_sums)
        fine = self.sampling.importance(coarse, generator)
        added = self.field.query(rays.points(fine)).unflatten(1, fine.shape[1:])
        positions, order = torch.cat([uniform, fine], dim=-1).sort(dim=-1)
        values = torch.cat([values, added], dim=-2)
        values = values.gather(-2, order[..., None].expand_as(values))
        rendering = self._integrate(rays, positions, values)
        return dataclasses.replace(rendering, coarse=coarse)

    # ---- Images ---------------------------------------------------------------------

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        if not self.shape:
            r = self._index(None).render_pixels(
                cameras[None], size, pixels[None], generator
            )
            return r[0]
        rays = self.sampling.camera_rays(cameras, size, pixels)
        r = self.render_rays(rays, generator)
        near, span = rays.near[..., None], (rays.far - rays.near)[..., None]
        extras = {"weights": r.weights, "edges": (r.edges - near) / span}
        if r.coarse is not None and self.sampling.proposal_loss:
            extras["proposal_color"] = r.coarse.color

        depth = r.depth * rays.depth_per_position
        found = PixelRendering(r.color, depth, r.opacity, r.features, extras)
        return found.unflatten(pixels.shape[1:])

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        # All samples of all rays at once would not fit into memory.
        rows = max(1, 4096 // max(1, cameras.near.numel()))
        indices = torch.arange(size[0] * size[1], device=cameras.device).split(rows)
        pieces = [
            self.render_pixels(cameras, size, index.expand(*cameras.shape, -1))
            for index in indices
        ]
        return cat_pixels(pieces).image(size)

    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box of all views' frustums: matter is only where a view looks."""
        return frustum_box(self.field.cameras, self.sampling.measure)

    # ---- Files ----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        tensors = {
            "background": self.background,
            "steps": self.field.steps,
            "step": self.field.step,
            **camera_tensors(self.field.cameras),
        }
        fields = {"field": self.field, "proposal": self.proposal}
        for name, field in fields.items():
            if field is not None:
                tensors[f"{name}_maps"] = field.maps
                tensors |= module_tensors(name, field.network)
        return tensors

    def config(self) -> dict[str, Any]:
        return {
            "field": dataclasses.asdict(self.field.network.config),
            "sampling": dataclasses.asdict(self.sampling),
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> ConditionalFieldScene:
        cameras = cameras_of(tensors)
        sampling = RaySampling(**config["sampling"])

        def restore(name: str) -> AlignedField:
            network = TimeResnetFC(ResnetFCConfig(**config["field"]))
            network.load_state_dict(module_state(name, tensors))
            return AlignedField(
                network.to(cameras.device).eval(),
                tensors[f"{name}_maps"],
                cameras,
                tensors["steps"],
                tensors["step"],
                sampling.pixel_grid,
                sampling.max_points,
            )

        proposal = restore("proposal") if "proposal_maps" in tensors else None
        return cls(restore("field"), proposal, tensors["background"], sampling)
