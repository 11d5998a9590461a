"""Priors over views that differ in what they are told, and in nothing else.

One network is trained for three tasks in turn: views whose camera it is not told, views
whose camera it is told, and four views at once that see each other and whose cameras it
is told, as in MVDream (Shi et al., 2023). So the three have the same weights, the same
data, and have seen equally many images; MVDream, too, is trained with and without
attention across views in turn. A fourth prior is the second one that takes every camera
for one that sees the front: so is a prior that is not told the camera, and whose images
show fronts above all, as photographs do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.janus.world import GROUP, SIZE, directions
from unseen.diffusion.prediction import eps_from_v
from unseen.diffusion.schedules import CosineSchedule, unsqueeze_like
from unseen.distillation.prior import Abilities, Branch, PixelPrior
from unseen.geometry.cameras import Cameras
from unseen.networks.unet2d import UNet2d, UNet2dConfig, sinusoidal_embedding

Task = Literal["pose-free", "camera", "multi-view"]
TASKS: tuple[Task, ...] = ("pose-free", "camera", "multi-view")
"""What the network is trained for."""
Kind = Task | Literal["front-biased"]
KINDS: tuple[Kind, ...] = (*TASKS, "front-biased")

SCHEDULE = CosineSchedule()


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network."""

    unet: UNet2dConfig = dataclasses.field(
        default_factory=lambda: UNet2dConfig((64, 96), 1, (False, True), 128)
    )
    """The trunk, which works on squares of `patch` pixels."""

    patch: int = 2
    """Pixels along the side of a square that is one place of the trunk."""


@final
class ViewNetwork(nn.Module):
    """Predicts v in views, for every task."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.unet.embedding, 3 * config.patch**2
        self.time = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.camera = nn.Sequential(
            nn.Linear(6, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.unet = UNet2d(config.unet, channels)
        self.head = nn.Conv2d(config.unet.channels[0], channels, 3, padding=1)

    def forward(
        self,
        x_t: Float[Tensor, "view 3 height width"],
        t: Float[Tensor, "view"],
        azimuth: Float[Tensor, "view"],
        elevation: Float[Tensor, "view"],
        task: Task,
    ) -> Float[Tensor, "view 3 height width"]:
        """v of noisy views in [-1, 1]; directions in radians."""
        where = _encode_direction(azimuth, elevation)
        if task == "pose-free":
            # No direction is encoded as zeros, for sines and cosines cannot all be 0.
            where = torch.zeros_like(where)
        level = sinusoidal_embedding(t, self.config.unet.embedding)
        embedding = functional.silu(self.time(level) + self.camera(where))
        patches = functional.pixel_unshuffle(x_t, self.config.patch)
        features, _ = self.unet(patches, embedding, group_of(task))
        return functional.pixel_shuffle(self.head(features), self.config.patch)


def group_of(task: Task) -> int:
    """Views that see each other."""
    return GROUP if task == "multi-view" else 1


def _encode_direction(
    azimuth: Float[Tensor, "view"], elevation: Float[Tensor, "view"]
) -> Float[Tensor, "view 6"]:
    """Two harmonics of the azimuth and one of the elevation."""
    angles = (azimuth, 2 * azimuth, elevation)
    return torch.stack([f(x) for x in angles for f in (torch.cos, torch.sin)], dim=-1)


@final
class TruckPrior(PixelPrior):
    """A trained network as a frozen prior over views, of one kind."""

    def __init__(self, network: ViewNetwork, kind: Kind) -> None:
        self._network, self._kind = network.eval().requires_grad_(False), kind
        self._task: Task = "camera" if kind == "front-biased" else kind
        self.schedule = SCHEDULE
        self.device = next(network.parameters()).device
        self.abilities = Abilities(
            name=f"the {kind} prior of trucks",
            shape=(3, SIZE, SIZE),
            image_size=SIZE,
            poses=kind in ("camera", "multi-view"),
            group=group_of(self._task),
        )

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        # Nothing but trucks is known here: all branches are the same condition.
        azimuth, elevation = directions(cameras)
        if self._kind == "front-biased":
            azimuth = torch.zeros_like(azimuth)
        v = self._network(x_t, t, azimuth, elevation, self._task)
        alpha, sigma = (unsqueeze_like(s, x_t) for s in SCHEDULE.alpha_sigma(t))
        eps = eps_from_v(x_t, v, alpha, sigma)
        return eps.expand(len(branches), *eps.shape)
