"""The interface of every scene representation."""

from __future__ import annotations

import abc
import dataclasses
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


class Scene(abc.ABC):
    """A 3D scene that renders itself; it may hold a batch of scenes.

    `shape` is the batch shape: () for one scene, (batch,) for several. Cameras that
    are given to `render` carry that shape and then one more axis, the views.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The batch shape."""

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

        .ply (splats), .glb (mesh), .mp4 (orbit) or .safetensors, which reloads and
        renders identically; see `unseen.export.save.export_scene`.

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
