"""The kinds of scenes that are optimised, with their settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.distillation.ramp import Number, value_at
from unseen.distillation.representation import Representation
from unseen.geometry.cameras import Cameras
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.hash_grid import DEGREE, HashGridConfig, HashGridScene
from unseen.scenes.look import Lighting, Look
from unseen.scenes.scene import Scene
from unseen.scenes.value_grid import ValueGridScene


@final
@dataclasses.dataclass(frozen=True)
class HashGrid(Representation):
    """A hash grid with two small networks."""

    settings: HashGridConfig = dataclasses.field(default_factory=HashGridConfig)
    """What the grid's numbers mean."""

    width: int = 64
    """Hidden channels of the networks."""

    hidden: int = 1
    """Hidden layers of the networks."""

    sky: bool = True
    """Whether the background is a network of the direction, or one colour."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """The colour of a background without a network."""

    levels: Number | None = None
    """Levels that are switched on; None for all of them at all steps."""

    rate: float = 0.01
    """Of the grid."""

    network_rate: float = 0.01
    """Of the networks of density and colour."""

    sky_rate: float = 0.001
    """Of the background's network."""

    occupancy: int = 32
    """Cells along an axis of the grid that says where matter is."""

    least_opacity: float = 0.01
    """Cells through which less light is lost are skipped."""

    look_every: int = 16
    """Steps between looks at what is empty."""

    @property
    def has_normals(self) -> bool:
        return True

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        layout = self.settings.layout
        table = torch.rand(layout.total_rows, layout.features, generator=generator)
        inner = [self.width] * self.hidden
        harmonics = (DEGREE + 1) ** 2
        sizes = {
            "density": [layout.channels, *inner, 1],
            "color": [layout.channels, *inner, 3],
            "sky": [harmonics, 16, 16, 3] if self.sky else [],
        }
        layers = {
            f"{name}.{i}": _layer(size[i + 1], size[i], generator)
            for name, size in sizes.items()
            for i in range(len(size) - 1)
        }
        return {
            "table": 2e-4 * table - 1e-4,
            **layers,
            "background": torch.tensor(self.background),
            "occupied": torch.ones([self.occupancy] * 3),
        }

    def rates(self) -> Mapping[str, float]:
        network = self.network_rate
        own = {"table": self.rate, "density": network, "color": network}
        return {**own, "sky": self.sky_rate}

    def scene(self, tensors: dict[str, Tensor], step: int) -> HashGridScene:
        settings = self.settings
        if self.levels is not None:
            active = min(int(value_at(self.levels, step)), settings.layout.levels)
            settings = dataclasses.replace(settings, active_levels=active)
        return HashGridScene.from_tensors(tensors, settings)

    def see(
        self,
        scene: Scene,
        cameras: Cameras,
        size: tuple[int, int],
        lighting: Lighting | None,
        with_normals: bool,
        generator: torch.Generator | None,
    ) -> Look:
        assert isinstance(scene, HashGridScene)
        return scene.see(cameras, size, lighting, with_normals, generator)

    def maintain(self, tensors: dict[str, Tensor], step: int) -> None:
        if step % self.look_every == 0:
            scene = self.scene({n: x.detach() for n, x in tensors.items()}, step)
            found = scene.find_occupied(self.occupancy, self.least_opacity)
            tensors["occupied"] = found.occupied


@final
@dataclasses.dataclass(frozen=True)
class ValueGrid(Representation):
    """Voxels of density and of values, as in Score Jacobian Chaining."""

    resolution: int = 100
    """Voxels along an axis."""

    channels: int = 4
    """Values per voxel: 3 are colours, any other number a prior's latents."""

    sky: int = 4
    """Side of the background's picture."""

    num_samples: int = 200
    """Samples along a ray: two per voxel in SJC."""

    rate: float = 0.05
    """Of the grids."""

    sky_rate: float = 1e-4
    """Of the background."""

    @property
    def latents(self) -> bool:
        return self.channels != 3

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        side = [self.resolution] * 3
        to_color = torch.zeros(3, self.channels + 1)
        to_color[:, :3] = torch.eye(3)
        return {
            "density": torch.zeros(side),
            "values": torch.randn(self.channels, *side, generator=generator),
            "sky": torch.randn(self.channels, self.sky, self.sky, generator=generator),
            "log_gain": torch.zeros(()),
            "to_color": to_color,
            "box": torch.tensor([[-1.0] * 3, [1.0] * 3]),
        }

    def rates(self) -> Mapping[str, float]:
        own = {"density": self.rate, "values": self.rate, "log_gain": self.rate}
        return {**own, "sky": self.sky_rate}

    def maintain(self, tensors: dict[str, Tensor], step: int) -> None:
        """Everything is optimised."""

    def scene(self, tensors: dict[str, Tensor], step: int) -> ValueGridScene:
        return ValueGridScene(**tensors, num_samples=self.num_samples)

    def see(
        self,
        scene: Scene,
        cameras: Cameras,
        size: tuple[int, int],
        lighting: Lighting | None,
        with_normals: bool,
        generator: torch.Generator | None,
    ) -> Look:
        assert isinstance(scene, ValueGridScene)
        return scene.see(cameras, size, generator)


@final
@dataclasses.dataclass(frozen=True)
class GaussianCloud(Representation):
    """A fixed number of 3D Gaussians, at first balls at random in a ball."""

    count: int = 4000
    """Gaussians."""

    radius: float = 0.5
    """Of the ball that they start in."""

    opacity: float = 0.1
    """At the start."""

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """The colour behind them."""

    rate: float = 1e-3
    """Of the means, in world units; those of the rest are in proportion."""

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        direction = torch.randn(self.count, 3, generator=generator)
        direction = torch.nn.functional.normalize(direction, dim=-1)
        reach = torch.rand(self.count, 1, generator=generator) ** (1 / 3)
        # Balls whose volumes together are that of the ball that they fill.
        size = self.radius * self.count ** (-1 / 3)
        harmonics = 0.1 * torch.randn(self.count, 1, 3, generator=generator)
        logit = math.log(self.opacity / (1 - self.opacity))
        return {
            "means": self.radius * reach * direction,
            "log_scales": torch.full((self.count, 3), math.log(size)),
            "rotations": torch.tensor([1.0, 0, 0, 0]).repeat(self.count, 1),
            "opacity_logits": torch.full((self.count,), logit),
            "harmonics": harmonics,
            "background": torch.tensor(self.background),
        }

    def rates(self) -> Mapping[str, float]:
        # The proportions of 3D Gaussian Splatting's own rates.
        shares = {
            "means": 1.0,
            "log_scales": 5.0,
            "rotations": 5.0,
            "opacity_logits": 50.0,
            "harmonics": 10.0,
        }
        return {name: share * self.rate for name, share in shares.items()}

    def maintain(self, tensors: dict[str, Tensor], step: int) -> None:
        """Their number stays."""

    def scene(self, tensors: dict[str, Tensor], step: int) -> GaussianScene:
        settings = {"low_pass": "antialiased", "rotation_order": "wxyz"}
        return GaussianScene.from_state(tensors, settings)

    def see(
        self,
        scene: Scene,
        cameras: Cameras,
        size: tuple[int, int],
        lighting: Lighting | None,
        with_normals: bool,
        generator: torch.Generator | None,
    ) -> Look:
        assert isinstance(scene, GaussianScene)
        dark = dataclasses.replace(scene, background=torch.zeros_like(scene.background))
        found = dark.render_unlimited(cameras, size)
        assert found.opacity is not None and found.depth is not None
        behind = scene.background[:, None, None].expand(found.color.shape)
        return Look(found.color, found.opacity, found.depth, behind)


def _layer(
    outputs: int, inputs: int, generator: torch.Generator
) -> Float[Tensor, "out in"]:
    """He's uniform numbers."""
    reach = math.sqrt(6 / inputs)
    return reach * (2 * torch.rand(outputs, inputs, generator=generator) - 1)
