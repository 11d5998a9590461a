"""The interface of every scene representation."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.rendering.rendering import Rendering


@dataclasses.dataclass(frozen=True)
class PixelRendering:
    """A rendering of chosen pixels; the entries mean what those of `Rendering` do."""

    color: Float[Tensor, "*batch ray 3"]
    depth: Float[Tensor, "*batch ray"] | None = None
    opacity: Float[Tensor, "*batch ray"] | None = None
    features: Float[Tensor, "*batch ray feature"] | None = None
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def _map(self, function: Callable[[Tensor], Tensor]) -> PixelRendering:
        def optional(x: Tensor | None) -> Tensor | None:
            return None if x is None else function(x)

        return PixelRendering(
            function(self.color),
            optional(self.depth),
            optional(self.opacity),
            optional(self.features),
            {name: function(x) for name, x in self.extras.items()},
        )

    def __getitem__(self, index: int) -> PixelRendering:
        """One entry of the first batch axis."""
        return self._map(lambda x: x[index])

    def unflatten(self, shape: Sequence[int]) -> PixelRendering:
        """(batch, ray) to (batch, *shape), such as views and their rays."""
        return self._map(lambda x: x.unflatten(1, tuple(shape)))

    def image(self, size: tuple[int, int]) -> Rendering:
        """All pixels of images of (height, width) `size`, row by row, as images."""

        def plane(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.unflatten(-1, size)

        def channels(x: Tensor) -> Tensor:
            return x.transpose(-1, -2).unflatten(-1, size)

        return Rendering(
            channels(self.color),
            plane(self.depth),
            plane(self.opacity),
            None if self.features is None else channels(self.features),
        )


def cat_pixels(pieces: Sequence[PixelRendering]) -> PixelRendering:
    """Pieces of the rays of the same views, one after the other; without extras."""

    def optional(name: str, dim: int) -> Tensor | None:
        found = [getattr(piece, name) for piece in pieces]
        return None if found[0] is None else torch.cat(found, dim=dim)

    return PixelRendering(
        torch.cat([piece.color for piece in pieces], dim=-2),
        optional("depth", -1),
        optional("opacity", -1),
        optional("features", -2),
    )


class Scene(abc.ABC):
    """A 3D scene that renders itself; it may hold a batch of scenes.

    `shape` is the batch shape: () for one scene, (batch,) for several. Cameras that
    are given to `render` carry that shape and then one more axis, the views.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The batch shape."""

    @property
    def evaluations_per_ray(self) -> int | None:
        """How often a network or a grid is asked about a ray, at most.

        What is skipped where nothing is counts too. None for a representation that
        does not render ray by ray.
        """
        return None

    @abc.abstractmethod
    def __getitem__(self, index: int | slice) -> Scene:
        """One scene, or some scenes, of a batch."""

    @abc.abstractmethod
    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """Render at `cameras` (*batch view) into images of (height, width) `size`.

        Deterministic: the same call gives the same pixels.
        """

    @abc.abstractmethod
    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """Render some pixels, differentiably, as training does.

        `pixels` are flat indices (row * width + column) into images of `size`, with
        the cameras' batch shape. With a generator, samples along rays are jittered.
        `extras` of the result holds, by name, what a representation's own
        regularisers need (its documentation says what).
        """

    @abc.abstractmethod
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Lower and upper corner of a world box that holds all matter."""

    def save(self, path: str | Path) -> None:
        """Write one scene to a file; its suffix says what.

        .ply or .splat (Gaussians), .glb or .obj (mesh), .mp4, .gif or .webp (orbit) or
        .safetensors, which reloads and renders identically; see
        `unseen.export.save.export_scene`.

        Raises:
            UserError: the suffix is another one, or the file cannot be written.
        """
        # Users look for `scene.save`; only here does a scene know its exporters.
        from unseen.export.save import export_scene  # arrow: for users' convenience

        export_scene(self, path)

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All tensors that define the scene, by name (for saving)."""

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """The JSON-serialisable rest: with `tensors`, what `from_state` needs."""

    @classmethod
    @abc.abstractmethod
    def from_state(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> Scene:
        """Rebuild a scene that renders identically."""


class FieldScene(Scene):
    """A scene that can be asked for density and colour at any world point."""

    @abc.abstractmethod
    def evaluate(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point"], Float[Tensor, "*batch point 3"]]:
        """Density (>= 0, per world unit of length) and colour in [0, 1] at points."""
