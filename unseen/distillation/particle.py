"""The model of a scene's own renderings that variational score distillation trains."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.geometry.cameras import Cameras


class ParticleDenoiser(nn.Module):
    """A correction of the prior's own estimate of the noise, zero at the start.

    ProlificDreamer trains low-rank changes of the prior's weights; this is a small
    convolutional network beside it instead, which sees the noisy views, the prior's
    estimate, the noise level and the camera: like low-rank changes it starts as the
    prior and learns what the scene's renderings are, and it costs next to nothing.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * channels, width, 3, padding=1)
        self.condition = nn.Sequential(
            nn.Linear(1 + 12, width), nn.SiLU(), nn.Linear(width, 4 * width)
        )
        self.hidden = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, dilation=1) for _ in range(2)
        )
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x_t: Float[Tensor, "view channel height width"],
        prior: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
    ) -> Float[Tensor, "view channel height width"]:
        """eps_phi, given the prior's estimate of eps without guidance."""
        pose = cameras.extrinsics[:, :3].flatten(1)
        condition = self.condition(torch.cat([t[:, None], pose], dim=-1).to(x_t))
        hidden = self.first(torch.cat([x_t, prior], dim=1))
        films = condition[:, :, None, None].chunk(4, dim=1)
        for layer, scale, shift in zip(self.hidden, films[:2], films[2:], strict=True):
            change = layer(functional.silu(hidden * (1 + scale) + shift))
            hidden = hidden + change
        return prior + self.last(functional.silu(hidden))
