"""A scene made of 3D Gaussians (Kerbl et al., "3D Gaussian Splatting", 2023)."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unseen.geometry.boxes import box_around
from unseen.geometry.cameras import Cameras
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.spherical_harmonics import SH_C0, degree_of, num_coefficients
from unseen.rendering.splatting import (
    FAINTEST,
    Filter,
    Gaussians,
    render_gaussians,
    rotation_matrices,
)
from unseen.scenes.scene import PixelRendering, Scene

REACH = 3.0
"""Deviations that count as matter in `bounds`."""


@dataclasses.dataclass(frozen=True)
class GaussianScene(Scene):
    """Gaussians as they are stored and optimised, in front of one colour.

    `log_scales` are natural logarithms of standard deviations in world units along a
    Gaussian's own axes, `rotations` quaternions (w, x, y, z) of any length but 0 from
    these axes to the world's, `opacity_logits` logits. `harmonics` hold 1, 4, 9 or 16
    coefficients (degree 0 to 3) per colour channel (see `colors_from_harmonics`).
    `low_pass` names the filter against aliasing (see `rendering.splatting.Filter`).
    """

    means: Float[Tensor, "*batch gaussian 3"]
    log_scales: Float[Tensor, "*batch gaussian 3"]
    rotations: Float[Tensor, "*batch gaussian 4"]
    opacity_logits: Float[Tensor, "*batch gaussian"]
    harmonics: Float[Tensor, "*batch gaussian coefficient 3"]
    background: Float[Tensor, "3"]
    low_pass: Filter = "antialiased"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[:-2])

    @property
    def count(self) -> int:
        """The number of Gaussians."""
        return self.means.shape[-2]

    @property
    def degree(self) -> int:
        """The degree of the spherical harmonics: 0 if colours depend on no view."""
        return degree_of(self.harmonics.shape[-2])

    def __getitem__(self, index: int | slice) -> GaussianScene:
        if not self.shape:
            raise IndexError("this is one scene, not a batch")
        return self._map(lambda x: x[index])

    def select(
        self, index: Int[Tensor, "chosen"] | Bool[Tensor, "gaussian"]
    ) -> GaussianScene:
        """Some Gaussians of one scene: those at `index`, or where it is true."""
        return self._map(lambda x: x[index])

    def _map(self, function: Any) -> GaussianScene:
        found = {n: function(x) for n, x in self.tensors().items() if n != "background"}
        return dataclasses.replace(self, **found)

    @property
    def base_colors(self) -> Float[Tensor, "*batch gaussian 3"]:
        """Colours without what depends on the view; they may lie outside of [0, 1]."""
        return 0.5 + SH_C0 * self.harmonics[..., 0, :]

    def axes(self) -> Float[Tensor, "*batch gaussian 3 3"]:
        """The Gaussians' own axes in the world, as columns."""
        return rotation_matrices(self.rotations)

    def gaussians(self) -> Gaussians:
        """The Gaussians of one scene as the renderer takes them, differentiably."""
        return Gaussians(
            self.means,
            self.log_scales.exp(),
            self.rotations,
            self.opacity_logits.sigmoid(),
            self.harmonics,
        )

    def render(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """See `Scene.render`; differentiable, but not where colours are above 1."""
        if self.shape:
            return stack_renderings(
                [self[i].render(cameras[i], size) for i in range(self.shape[0])]
            )
        found = self.render_unlimited(cameras, size)
        return dataclasses.replace(found, color=found.color.clamp(max=1))

    def render_unlimited(self, cameras: Cameras, size: tuple[int, int]) -> Rendering:
        """Views (view) of one scene, whose colours may be above 1, for fitting it."""
        return render_gaussians(
            self.gaussians(), cameras, size, self.background, self.low_pass
        )

    def render_pixels(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        pixels: Int[Tensor, "*batch ray"],
        generator: torch.Generator | None = None,
    ) -> PixelRendering:
        """See `Scene.render_pixels`; whole images are rendered, without jitter."""
        found = self.render(cameras, size)
        assert found.depth is not None and found.opacity is not None
        index = pixels[..., None].expand(*pixels.shape, 3)
        return PixelRendering(
            found.color.flatten(-2).transpose(-1, -2).gather(-2, index),
            found.depth.flatten(-2).gather(-1, pixels),
            found.opacity.flatten(-2).gather(-1, pixels),
        )

    def bounds(self) -> Float[Tensor, "2 3"]:
        """A box around three deviations of all Gaussians that can be seen."""
        axes = self.axes() * self.log_scales.exp()[..., None, :]
        reach = REACH * axes.norm(dim=-1)
        seen = self.opacity_logits.sigmoid() >= FAINTEST
        corners = torch.stack([self.means - reach, self.means + reach], dim=-2)[seen]
        if len(corners) == 0:
            return self.means.new_zeros(2, 3)
        return box_around(corners)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "means": self.means,
            "log_scales": self.log_scales,
            "rotations": self.rotations,
            "opacity_logits": self.opacity_logits,
            "harmonics": self.harmonics,
            "background": self.background,
        }

    def config(self) -> dict[str, Any]:
        return {"low_pass": self.low_pass, "rotation_order": "wxyz"}

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], config: dict[str, Any]
    ) -> GaussianScene:
        if config["low_pass"] not in get_args(Filter):
            raise ValueError(f"there is no filter {config['low_pass']!r}")
        if config["rotation_order"] != "wxyz":
            raise ValueError(f"rotations are {config['rotation_order']!r}, not wxyz")
        _check_shapes(tensors)
        return cls(
            tensors["means"],
            tensors["log_scales"],
            tensors["rotations"],
            tensors["opacity_logits"],
            tensors["harmonics"],
            tensors["background"],
            config["low_pass"],
        )


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    """Raise ValueError if tensors do not belong together."""
    size = tuple(tensors["opacity_logits"].shape)
    coefficients = tensors["harmonics"].shape[-2]
    degree_of(coefficients)
    expected = {
        "means": (*size, 3),
        "log_scales": (*size, 3),
        "rotations": (*size, 4),
        "harmonics": (*size, coefficients, 3),
        "background": (3,),
    }
    for name, shape in expected.items():
        found = tuple(tensors[name].shape)
        if found != shape:
            raise ValueError(f"{name} has shape {found}, not {shape}")


def harmonics_of_colors(
    colors: Float[Tensor, "gaussian 3"], degree: int
) -> Float[Tensor, "gaussian coefficient 3"]:
    """Coefficients up to a degree of colours that depend on no view."""
    found = colors.new_zeros(len(colors), num_coefficients(degree), 3)
    found[:, 0] = (colors - 0.5) / SH_C0
    return found
