"""How scenes are seen while they are optimised: more than a picture, with gradients.

Priors over images judge pictures; regularisers need what pictures were composited from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.rendering.compositing import composite, composite_weights
from unseen.rendering.sampling import edges_between, sample_uniform

Points = Float[Tensor, "point 3"]

LEAST_WEIGHT = 1e-4
"""The share in its ray from which a sample's colour is asked for (as in SJC)."""


@dataclasses.dataclass(frozen=True)
class Lighting:
    """A point light per view, and light from everywhere (DreamFusion, section 3.2).

    `positions` are in the world. A surface of the colour a with the unit normal n is
    seen as a (ambient + (1 - ambient) max(0, n . l)), l being the direction to the
    light; `textureless` takes white for a.
    """

    positions: Float[Tensor, "view 3"]
    ambient: float = 0.1
    textureless: bool = False


@dataclasses.dataclass(frozen=True)
class Look:
    """What views see, as it enters losses; all of it carries gradients.

    `values` are colours in [0, 1] or a prior's latents, composited on zero, and
    `background` what shines through (1 - opacity) of it. `depth` is the expected z in
    the camera frame, far where nothing is. `weights` are the samples' shares in their
    rays, where there are rays. `orientation` is DreamFusion's penalty of surfaces that
    face away, where normals were asked for: the weights times max(0, n . v)^2, per
    pixel that sees anything.
    """

    values: Float[Tensor, "view channel height width"]
    opacity: Float[Tensor, "view height width"]
    depth: Float[Tensor, "view height width"]
    background: Float[Tensor, "view channel height width"]
    weights: Float[Tensor, "view ray sample"] | None = None
    orientation: Float[Tensor, ""] | None = None

    @property
    def image(self) -> Float[Tensor, "view channel height width"]:
        """The values over the background."""
        return self.over(self.background)

    def over(
        self, background: Float[Tensor, "#view channel #height #width"]
    ) -> Float[Tensor, "view channel height width"]:
        """The values over another background."""
        return self.values + (1 - self.opacity[:, None]) * background


@dataclasses.dataclass(frozen=True)
class LitField:
    """What `see_field` asks about points (point, 3) of one scene.

    `density` gives densities (per world unit) and what `values` makes the values of;
    `normals` outward unit normals; `occupied` where matter may be, None for everywhere
    in `box`.
    """

    density: Callable[[Points], tuple[Tensor, Tensor]]
    values: Callable[[Tensor], Tensor]
    normals: Callable[[Points], Tensor] | None
    box: Float[Tensor, "2 3"]
    occupied: Callable[[Points], Tensor] | None = None


def see_field(
    field: LitField,
    background: Callable[[Points], Tensor],
    cameras: Cameras,
    size: tuple[int, int],
    num_samples: int,
    lighting: Lighting | None = None,
    with_normals: bool = False,
    generator: torch.Generator | None = None,
) -> Look:
    """Volume render views (view) of one field into images of (height, width) `size`.

    `background` gives the values that unit directions (ray, 3) see behind everything.
    Samples are spread over what a ray crosses of the field's box; the field is asked
    only where it may be occupied, and for values only where they can be seen. With a
    generator the samples are jittered.
    """
    origins, directions = image_rays(cameras, size)
    near, far = _crossing(origins, directions, cameras, field.box)
    positions, _ = sample_uniform(near, far, num_samples, generator)
    edges = edges_between(positions, near, far)
    points = torch.addcmul(
        origins[..., None, :], positions[..., None], directions[..., None, :]
    )
    kept = (far > near)[..., None].expand(positions.shape)
    if field.occupied is not None:
        kept = kept & field.occupied(points)
    density, hidden = field.density(points[kept])
    # Optical length is Euclidean: depths times the length of the z = 1 direction.
    intervals = edges.diff(dim=-1) * directions.norm(dim=-1, keepdim=True)
    weights = composite_weights(_scatter(density, kept), intervals)
    # Whatever has next to no share in its ray has neither colour nor normal.
    counts = weights.detach()[kept] > LEAST_WEIGHT
    kept = kept.index_put((kept,), counts)
    unit = functional.normalize(directions, dim=-1)
    values, facing = _surface(
        field, points[kept], hidden[counts], _per_ray(unit, kept), kept, lighting,
        with_normals,
    )  # fmt: skip
    opacity = weights.sum(dim=-1)
    depth = (weights * positions).sum(dim=-1)
    depth = depth + (1 - opacity) * cameras.far[:, None]
    behind = background(unit.flatten(0, 1)).unflatten(0, unit.shape[:2])
    orientation = None
    if facing is not None:
        seen = (opacity > 0).sum().clamp(min=1)
        orientation = (weights[kept].detach() * facing).sum() / seen
    return Look(
        values=_image(composite(weights, _scatter(values, kept)), size),
        opacity=opacity.unflatten(-1, size),
        depth=depth.unflatten(-1, size),
        background=_image(behind, size),
        weights=weights,
        orientation=orientation,
    )


def _surface(
    field: LitField,
    points: Float[Tensor, "point 3"],
    hidden: Float[Tensor, "point feature"],
    directions: Float[Tensor, "point 3"],
    kept: Bool[Tensor, "view ray sample"],
    lighting: Lighting | None,
    with_normals: bool,
) -> tuple[Float[Tensor, "point channel"], Float[Tensor, "point"] | None]:
    """The samples' values, lit, and how much they face away: max(0, n . v)^2."""
    values = field.values(hidden)
    if field.normals is None or not (with_normals or lighting is not None):
        return values, None
    normals = field.normals(points)
    if lighting is not None:
        lights = _per_sample(lighting.positions, kept)
        values = _shade(values, normals, points, lights, lighting)
    return values, (normals * directions).sum(dim=-1).clamp(min=0).square()


def _crossing(
    origins: Float[Tensor, "view ray 3"],
    directions: Float[Tensor, "view ray 3"],
    cameras: Cameras,
    box: Float[Tensor, "2 3"],
) -> tuple[Float[Tensor, "view ray"], Float[Tensor, "view ray"]]:
    """Depths at which rays enter and leave a box, within near and far."""
    safe = torch.where(directions.abs() < 1e-9, 1e-9, directions)
    ends = (box[:, None, None] - origins) / safe
    enter = ends.amin(dim=0).amax(dim=-1).maximum(cameras.near[:, None])
    leave = ends.amax(dim=0).amin(dim=-1).minimum(cameras.far[:, None])
    return enter, leave.maximum(enter)


def _scatter(
    values: Float[Tensor, "point *rest"], kept: Bool[Tensor, "view ray sample"]
) -> Float[Tensor, "view ray sample *rest"]:
    """Values of the samples that were asked for, zero elsewhere."""
    found = values.new_zeros(*kept.shape, *values.shape[1:])
    return found.index_put((kept,), values)


def _per_sample(
    values: Float[Tensor, "view 3"], kept: Bool[Tensor, "view ray sample"]
) -> Float[Tensor, "point 3"]:
    return values[:, None, None].expand(*kept.shape, 3)[kept]


def _per_ray(
    values: Float[Tensor, "view ray 3"], kept: Bool[Tensor, "view ray sample"]
) -> Float[Tensor, "point 3"]:
    return values[:, :, None].expand(*kept.shape, 3)[kept]


def _shade(
    albedo: Float[Tensor, "point 3"],
    normals: Float[Tensor, "point 3"],
    points: Float[Tensor, "point 3"],
    lights: Float[Tensor, "point 3"],
    lighting: Lighting,
) -> Float[Tensor, "point 3"]:
    """Lambert's law, see `Lighting`."""
    to_light = functional.normalize(lights - points, dim=-1)
    lit = (normals * to_light).sum(dim=-1, keepdim=True).clamp(min=0)
    shading = lighting.ambient + (1 - lighting.ambient) * lit
    return shading.expand_as(albedo) if lighting.textureless else albedo * shading


def _image(
    values: Float[Tensor, "view ray channel"], size: tuple[int, int]
) -> Float[Tensor, "view channel height width"]:
    return values.transpose(-1, -2).unflatten(-1, size)
