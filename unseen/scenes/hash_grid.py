"""A radiance field in a hash grid with two small networks: DreamFusion's scene in the
form that its public re-implementations gave it (Poole et al., 2023; hash grid: Mueller
et al., 2022)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unseen.configuration import from_json, to_json
from unseen.geometry.cameras import Cameras
from unseen.rendering.hash_encoding import HashLayout, encode
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.spherical_harmonics import spherical_harmonics
from unseen.scenes.look import Lighting, LitField, Look, see_field
from unseen.scenes.occupancy import Occupancy
from unseen.scenes.scene import FieldScene, PixelRendering

DEGREE = 2
"""Of the spherical harmonics that the background's network sees."""
HIGHEST = 15.0
"""The largest logarithm of a density: above it there is no gradient."""


@dataclasses.dataclass(frozen=True)
class HashGridConfig:
    """What a hash grid's numbers mean."""

    layout: HashLayout = dataclasses.field(default_factory=HashLayout)
    """Sizes of the grid."""

    radius: float = 1.0
    """Half the side of the box that holds all matter, in world units."""

    activation: Literal["softplus", "exp"] = "softplus"
    """From the network's output plus the blob to density."""

    blob: Literal["cone", "gaussian", "none"] = "cone"
    """Density at the start: blob_scale (1 - r / blob_width), or blob_scale
    exp(-r^2 / (2 blob_width^2)), with the distance r from the origin."""

    blob_scale: float = 10.0
    """Height of the blob."""

    blob_width: float = 0.5
    """Where the cone is 0, or the Gaussian's standard deviation."""

    normals: Literal["analytic", "finite"] = "finite"
    """From the derivative of the density, or from its values around a point."""

    step: float = 0.01
    """How far from a point finite differences look, in world units."""

    num_samples: int = 128
    """Samples along a ray."""

    active_levels: int | None = None
    """Finer levels are switched off; None has all."""


@dataclasses.dataclass(frozen=True)
class HashGridScene(FieldScene):
    """One scene: a table of features and the weights of its networks.

    `density` are the layers (out, in) of a network without biases from features to
    density, `color` those to colour's logits; `sky` those from the direction of view to
    the background's logits, or, if it is empty, `background` is one colour. The grid
    spans a cube of side 2 radius around the origin; nothing is outside of it.
    `occupied` says in which of its cells there is matter: the rest is skipped.
    """

    table: Float[Tensor, "row feature"]
    density: tuple[Tensor, ...]
    color: tuple[Tensor, ...]
    sky: tuple[Tensor, ...]
    background: Float[Tensor, "3"]
    occupied: Float[Tensor, "x y z"]
    settings: HashGridConfig = dataclasses.field(default_factory=HashGridConfig)

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def evaluations_per_ray(self) -> int:
        return self.settings.num_samples

    def __getitem__(self, index: int | slice) -> HashGridScene:
        raise IndexError("this is one scene, not a batch")

    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        radius = self.settings.radius
        density, features = self._density(points.reshape(-1, 3))
        color = self._colors(features)
        inside = (points.reshape(-1, 3).abs() <= radius).all(dim=-1)
        density = torch.where(inside, density, 0.0)
        return density.reshape(points.shape[:-1]), color.reshape(points.shape)

    def _density(
        self, points: Float[Tensor, "point 3"]
    ) -> tuple[Float[Tensor, "point"], Float[Tensor, "point channel"]]:
        """Densities, and the features that colours are made of."""
        features = self._features(points)
        raw = _network(self.density, features)[:, 0]
        return self._activate(raw, points), features

    def _colors(
        self, features: Float[Tensor, "point channel"]
    ) -> Float[Tensor, "point 3"]:
        return _network(self.color, features).sigmoid()

    def _features(
        self, points: Float[Tensor, "point 3"]
    ) -> Float[Tensor, "point channel"]:
        settings = self.settings
        place = (points / settings.radius + 1) / 2
        return encode(self.table, place, settings.layout, settings.active_levels)

    def _activate(
        self, raw: Float[Tensor, "point"], points: Float[Tensor, "point 3"]
    ) -> Float[Tensor, "point"]:
        settings = self.settings
        squared = points.square().sum(dim=-1)
        width = settings.blob_width
        if settings.blob == "cone":
            # The root has no derivative at 0.
            distance = squared.clamp(min=1e-12).sqrt()
            raw = raw + settings.blob_scale * (1 - distance / width)
        elif settings.blob == "gaussian":
            raw = raw + settings.blob_scale * torch.exp(-squared / (2 * width**2))
        if settings.activation == "exp":
            return raw.clamp(max=HIGHEST).exp()
        return functional.softplus(raw)

    def normals(self, points: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
        """Outward unit normals, differentiable: against the gradient of density."""
        if self.settings.normals == "analytic":
            gradient = self._analytic_gradient(points)
        else:
            gradient = self._finite_gradient(points)
        return -functional.normalize(gradient, dim=-1, eps=1e-6)

    def _analytic_gradient(
        self, points: Float[Tensor, "point 3"]
    ) -> Float[Tensor, "point 3"]:
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            # Points that need a gradient take the encoding's differentiable path.
            points = points.detach().requires_grad_()
            density, _ = self._density(points)
            (gradient,) = torch.autograd.grad(
                density.sum(), points, create_graph=wanted
            )
        return gradient

    def _finite_gradient(
        self, points: Float[Tensor, "point 3"]
    ) -> Float[Tensor, "point 3"]:
        # Four corners of a tetrahedron: their outer products sum to 4 identities.
        corners = points.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        step = self.settings.step
        around = (points[:, None] + step * corners).flatten(0, 1)
        density = self._density(around)[0].unflatten(0, (-1, 4))
        return (density[..., None] * corners).sum(dim=1) / (4 * step)

    def see(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        lighting: Lighting | None = None,
        with_normals: bool = False,
        generator: torch.Generator | None = None,
    ) -> Look:
        """Views (view) with all that losses need; see `see_field`."""
        box = self._box()
        occupancy = Occupancy(self.occupied > 0, box)
        field = LitField(
            self._density, self._colors, self.normals, box, occupancy.holds
        )
        return see_field(
            field,
            self._behind,
            cameras,
            size,
            self.settings.num_samples,
            lighting,
            with_normals,
            generator,
        )

    def _behind(self, directions: Float[Tensor, "ray 3"]) -> Float[Tensor, "ray 3"]:
        if not self.sky:
            return self.background.expand(len(directions), 3)
        harmonics = spherical_harmonics(directions, DEGREE)
        return _network(self.sky, harmonics).sigmoid()

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        pieces = [self.see(cameras[i : i + 1], size) for i in range(len(cameras))]
        return stack_renderings(
            [
                Rendering(look.image[0], look.depth[0], look.opacity[0])
                for look in pieces
            ]
        )

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Any,
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; whole images are rendered."""
        look = self.see(cameras, size, generator=generator)
        index = pixels[..., None].expand(*pixels.shape, 3)
        return PixelRendering(
            look.image.flatten(-2).transpose(-1, -2).gather(-2, index),
            look.depth.flatten(-2).gather(-1, pixels),
            look.opacity.flatten(-2).gather(-1, pixels),
        )

    def _box(self) -> Float[Tensor, "2 3"]:
        radius = self.settings.radius
        return self.table.new_tensor([[-radius] * 3, [radius] * 3])

    def bounds(self) -> Float[Tensor, "2 3"]:
        return Occupancy(self.occupied > 0, self._box()).bounds()

    @torch.no_grad()
    def find_occupied(self, resolution: int, least_opacity: float) -> HashGridScene:
        """The same scene that skips what is empty now; see `Occupancy.find`."""
        found = Occupancy.find(self, self._box(), resolution, least_opacity)
        return dataclasses.replace(self, occupied=found.cells.to(self.table.dtype))

    def tensors(self) -> dict[str, Tensor]:
        networks = {"density": self.density, "color": self.color, "sky": self.sky}
        layers = {
            f"{name}.{i}": layer
            for name, network in networks.items()
            for i, layer in enumerate(network)
        }
        return {
            "table": self.table,
            **layers,
            "background": self.background,
            "occupied": self.occupied,
        }

    def config(self) -> dict[str, Any]:
        return to_json(self.settings)

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> HashGridScene:
        return cls.from_tensors(tensors, from_json(HashGridConfig, config, "the scene"))

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], settings: HashGridConfig
    ) -> HashGridScene:
        """A scene of what `tensors` names; ValueError if they do not fit."""
        layout = settings.layout
        wanted = (layout.total_rows, layout.features)
        if tuple(tensors["table"].shape) != wanted:
            raise ValueError(
                f"table has shape {tuple(tensors['table'].shape)}, not {wanted}"
            )
        return cls(
            tensors["table"],
            _layers("density", tensors),
            _layers("color", tensors),
            _layers("sky", tensors),
            tensors["background"],
            tensors["occupied"],
            settings,
        )


def _layers(name: str, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    count = sum(key.startswith(f"{name}.") for key in tensors)
    return tuple(tensors[f"{name}.{i}"] for i in range(count))


def _network(
    layers: tuple[Tensor, ...], values: Float[Tensor, "point channel"]
) -> Float[Tensor, "point out"]:
    """Linear layers without biases, ReLU between them."""
    for layer in layers[:-1]:
        values = functional.relu(functional.linear(values, layer))
    return functional.linear(values, layers[-1])
