"""Volume rendering: radiance fields to pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import get_rays, pixel_centers
from unseen.rendering.compositing import composite, composite_weights, over_background
from unseen.rendering.rendering import Rendering
from unseen.rendering.sampling import edges_between, sample_importance, sample_uniform

Field = Callable[
    [Float[Tensor, "*batch point 3"]],
    tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point channel"]],
]
"""World points to density (>= 0, per world unit of length) and values.

The first three channels of the values are a colour in [0, 1]; any further ones are
features.
"""


@dataclasses.dataclass(frozen=True)
class RayRendering:
    """What rays see, and the samples that it was computed from.

    `color`, `depth`, `opacity` and `features` mean what they do in `Rendering`.
    `positions` are the samples' depths, `edges` the depths that separate them and
    `weights` their shares in the ray. `coarse` is the rendering that chose the fine
    samples, where there was one.
    """

    color: Float[Tensor, "*batch ray 3"]
    depth: Float[Tensor, "*batch ray"]
    opacity: Float[Tensor, "*batch ray"]
    features: Float[Tensor, "*batch ray feature"] | None
    weights: Float[Tensor, "*batch ray sample"]
    positions: Float[Tensor, "*batch ray sample"]
    edges: Float[Tensor, "*batch ray sample+1"]
    coarse: RayRendering | None = None


def render_rays(
    field: Field,
    origins: Float[Tensor, "*batch ray 3"],
    directions: Float[Tensor, "*batch ray 3"],
    near: Float[Tensor, "*batch"] | Float[Tensor, "*batch ray"],
    far: Float[Tensor, "*batch"] | Float[Tensor, "*batch ray"],
    num_samples: int,
    num_fine: int = 0,
    background: float | Float[Tensor, "*#batch 3"] = 1.0,
    generator: torch.Generator | None = None,
    fine_field: Field | None = None,
    lindisp: bool = False,
) -> RayRendering:
    """Volume render rays (NeRF; Mildenhall et al., 2020).

    Args:
        field: Density and values at points; it is called with all samples of all
            rays as its points.
        origins: Where rays start.
        directions: Scaled to z = 1 in the rays' camera, as `image_rays` returns them.
        near: Depth (z, not distance) from which to sample, per camera or per ray.
        far: Depth up to which to sample.
        num_samples: Stratified samples, uniform in depth.
        num_fine: Further samples, drawn where the first ones found something.
        background: 1 for white, 0 for black, or a (learned) colour.
        generator: Jitters the samples; without one they are deterministic.
        fine_field: Evaluated, at all samples, for the final rendering when `num_fine`
            is positive; by default `field` at the samples it has not seen yet.
        lindisp: Stratify in 1 / depth instead of in depth; `near` must be positive.
    """
    if near.ndim == origins.ndim - 2:
        near, far = near[..., None], far[..., None]
    near, far = near.expand(origins.shape[:-1]), far.expand(origins.shape[:-1])

    if lindisp:
        positions, _ = sample_uniform(1 / near, 1 / far, num_samples, generator)
        positions = 1 / positions
    else:
        positions, _ = sample_uniform(near, far, num_samples, generator)
    edges = edges_between(positions, near, far)
    density, values = _evaluate(field, origins, directions, positions)
    coarse = integrate(density, values, directions, positions, edges, background)
    if num_fine == 0:
        return coarse

    fine = sample_importance(edges, coarse.weights, num_fine, generator)
    positions, order = torch.cat([positions, fine], dim=-1).sort(dim=-1)
    edges = edges_between(positions, near, far)
    if fine_field is None:
        # Evaluate the new samples only, and sort them in.
        new_density, new_values = _evaluate(field, origins, directions, fine)
        density = torch.cat([density, new_density], dim=-1).gather(-1, order)
        values = torch.cat([values, new_values], dim=-2)
        values = values.gather(-2, order[..., None].expand_as(values))
    else:
        density, values = _evaluate(fine_field, origins, directions, positions)
    rendering = integrate(density, values, directions, positions, edges, background)
    return dataclasses.replace(rendering, coarse=coarse)


def _evaluate(
    field: Field,
    origins: Float[Tensor, "*batch ray 3"],
    directions: Float[Tensor, "*batch ray 3"],
    positions: Float[Tensor, "*batch ray sample"],
) -> tuple[
    Float[Tensor, "*batch ray sample"], Float[Tensor, "*batch ray sample channel"]
]:
    """The field at depths along rays."""
    points = torch.addcmul(
        origins[..., None, :], positions[..., None], directions[..., None, :]
    )
    density, values = field(points.flatten(-3, -2))
    size = positions.shape[-2:]
    return density.unflatten(-1, size), values.unflatten(-2, size)


def integrate(
    density: Float[Tensor, "*batch ray sample"],
    values: Float[Tensor, "*batch ray sample channel"],
    directions: Float[Tensor, "*batch ray 3"],
    positions: Float[Tensor, "*batch ray sample"],
    edges: Float[Tensor, "*batch ray sample+1"],
    background: float | Float[Tensor, "*#batch 3"] = 1.0,
) -> RayRendering:
    """Composite a field that was evaluated at depths `positions` of rays.

    `edges` are the depths between which each sample's density is taken to hold. The
    rest is as in `render_rays`.
    """
    # Optical length is Euclidean: depths times the length of the z = 1 direction.
    intervals = edges.diff(dim=-1) * directions.norm(dim=-1, keepdim=True)
    weights = composite_weights(density, intervals)
    opacity = weights.sum(dim=-1)
    composited = composite(weights, values)
    background = torch.as_tensor(background).to(composited)
    if background.ndim > 1:
        # One colour per batch entry holds for all of its rays.
        background = background[..., None, :]
    return RayRendering(
        color=over_background(
            composited[..., :3], opacity, background.expand_as(composited[..., :3])
        ),
        depth=(weights * positions).sum(dim=-1) + (1 - opacity) * edges[..., -1],
        opacity=opacity,
        features=composited[..., 3:] if composited.shape[-1] > 3 else None,
        weights=weights,
        positions=positions,
        edges=edges,
    )


def render_image(
    field: Field,
    cameras: Cameras,
    size: tuple[int, int],
    num_samples: int,
    num_fine: int = 0,
    background: float | Float[Tensor, "*#batch 3"] = 1.0,
    fine_field: Field | None = None,
    lindisp: bool = False,
    chunk: int = 4096,
) -> Rendering:
    """Volume render whole images of (height, width) `size`, deterministically.

    The field is called with points of shape (*batch, point, 3), where batch is the
    cameras' batch; see `share_scenes` for several cameras per scene. At most `chunk`
    rays per camera are rendered at a time, which bounds the memory (when no gradient
    is recorded) and does not change the result.
    """
    pixels = pixel_centers(size, cameras.device).reshape(-1, 2)
    color, depth, opacity, features = [], [], [], []
    for xy in pixels.to(cameras.extrinsics.dtype).split(chunk):
        rays = render_rays(
            field,
            *get_rays(cameras, xy.expand(*cameras.shape, -1, -1)),
            cameras.near,
            cameras.far,
            num_samples,
            num_fine=num_fine,
            background=background,
            fine_field=fine_field,
            lindisp=lindisp,
        )
        color.append(rays.color)
        depth.append(rays.depth)
        opacity.append(rays.opacity)
        if rays.features is not None:
            features.append(rays.features)

    def to_image(values: list[Tensor]) -> Tensor:
        return torch.cat(values, dim=-2).transpose(-1, -2).unflatten(-1, size)

    return Rendering(
        to_image(color),
        torch.cat(depth, dim=-1).unflatten(-1, size),
        torch.cat(opacity, dim=-1).unflatten(-1, size),
        to_image(features) if features else None,
    )


def share_scenes(field: Field) -> Field:
    """A field over (*batch, view, point) of one over (*batch, point).

    It lets all views of a scene be rendered with that scene's one field.
    """

    def shared(
        points: Float[Tensor, "*batch view point 3"],
    ) -> tuple[
        Float[Tensor, "*batch view point"], Float[Tensor, "*batch view point channel"]
    ]:
        density, values = field(points.flatten(-3, -2))
        size = points.shape[-3:-1]
        return density.unflatten(-1, size), values.unflatten(-2, size)

    return shared


def distortion_loss(
    weights: Float[Tensor, "*batch sample"],
    edges: Float[Tensor, "*batch sample+1"],
) -> Float[Tensor, "*batch"]:
    """Distortion of each ray's weights (Mip-NeRF 360, equation 15), in linear time.

    Sum over pairs of w_i w_j |m_i - m_j| plus a third of the sum of w_i^2 delta_i,
    with the intervals' midpoints m and lengths delta. `edges` ascend; pass normalised
    ones, in [0, 1], for a loss that does not depend on the scene's size.
    """
    middle, length = 0.5 * (edges[..., 1:] + edges[..., :-1]), edges.diff(dim=-1)
    moment = weights * middle
    # Sums over j < i; every unordered pair is met once.
    weights_before = weights.cumsum(dim=-1) - weights
    moment_before = moment.cumsum(dim=-1) - moment
    between = 2 * (moment * weights_before - weights * moment_before).sum(dim=-1)
    return between + (weights.square() * length).sum(dim=-1) / 3
