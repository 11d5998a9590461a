"""The residual MLP of pixelNeRF with time modulation, as DFM's radiance field uses it.

Points are seen from several views; each view contributes an encoded point and an
image feature. The first blocks treat the views alone, then views are averaged.
"""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.networks.embeddings import octave_encoding, sinusoidal_embedding


@dataclasses.dataclass(frozen=True)
class ResnetFCConfig:
    """The default is that of the released DFM weights."""

    width: int = 512
    features: int = 512
    """Channels of the image features."""
    out_features: int = 64
    """Channels that are rendered beside colour."""
    view_blocks: int = 3
    """Blocks before the mean over views."""
    joint_blocks: int = 2
    """Blocks after it."""
    time_width: int = 512
    """Width of the sinusoidal embedding of the diffusion step."""
    octaves: int = 6
    octave_scale: float = 1.5

    @property
    def blocks(self) -> int:
        return self.view_blocks + self.joint_blocks


class ModulatedBlock(nn.Module):
    """x + fc_1(relu(film(fc_0(relu(x))))); the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_0 = nn.Linear(width, width)
        self.fc_1 = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.fc_0.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc_0.bias)
        nn.init.zeros_(self.fc_1.weight)
        nn.init.zeros_(self.fc_1.bias)

    def forward(
        self, x: Float[Tensor, "*batch width"], film: Float[Tensor, "*#batch film"]
    ) -> Float[Tensor, "*batch width"]:
        """`film` is the (scale, shift) of width 2 * width."""
        scale, shift = film.chunk(2, dim=-1)
        hidden = self.fc_0(functional.relu(x)) * (1 + scale) + shift
        return x + self.fc_1(functional.relu(hidden))


class TimeResnetFC(nn.Module):
    """(point in every view's frame, image feature of every view) -> field output.

    The first layer acts on (encoded point, image feature). It is held as two linear
    maps so that the second, which commutes with bilinear interpolation, can be
    applied once to a feature map (`project_features`) instead of at every sample.
    The steps of `forward` are public so that a caller may keep what does not change:
    `film` depends on the step only, and `embed` on clean views does not depend on
    the noise level of the others.
    """

    def __init__(self, config: ResnetFCConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.point_in = nn.Linear(3 * (1 + 2 * config.octaves), width)
        self.feature_in = nn.Linear(config.features, width, bias=False)
        self.time = nn.Sequential(
            nn.Linear(config.time_width, 4 * config.time_width),
            nn.GELU(),
            nn.Linear(4 * config.time_width, 4 * config.time_width),
        )
        self.films = nn.ModuleList(
            nn.Linear(4 * config.time_width, 2 * width) for _ in range(config.blocks)
        )
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(config.blocks))
        self.out = nn.Linear(width, 4 + config.out_features)
        for layer in (self.point_in, self.feature_in, self.out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def film(
        self, step: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch film"], ...]:
        """Scale and shift of every block at diffusion steps (0 to 999)."""
        embedding = self.time(sinusoidal_embedding(step, self.config.time_width))
        embedding = functional.silu(embedding)
        return tuple(film(embedding) for film in self.films)

    def project_features(
        self, maps: Float[Tensor, "*batch feature height width"]
    ) -> Float[Tensor, "*batch hidden height width"]:
        """The first layer's feature part, applied to whole maps."""
        # Channel-last in memory: a look-up then reads whole rows.
        return self.feature_in(maps.movedim(-3, -1)).movedim(-1, -3)

    def embed(
        self,
        local: Float[Tensor, "batch view point 3"],
        projected: Float[Tensor, "batch view point width"],
        film: tuple[Float[Tensor, "batch view film"], ...],
    ) -> Float[Tensor, "batch view point width"]:
        """The blocks before the mean over views.

        `local` are points in the views' camera frames, `projected` features that have
        been through `project_features`, `film` the modulation of each view's step.
        """
        encoded = octave_encoding(local, self.config.octaves, self.config.octave_scale)
        x = self.point_in(encoded) + projected
        for block, scale_shift in zip(
            self.blocks[: self.config.view_blocks], film, strict=False
        ):
            x = block(x, scale_shift[..., None, :])
        return x

    def decode(
        self,
        x: Float[Tensor, "batch point width"],
        film: tuple[Float[Tensor, "batch film"], ...],
    ) -> Float[Tensor, "batch point channel"]:
        """The blocks after the mean; (colour logits 3, density logit 1, features)."""
        start = self.config.view_blocks
        for block, scale_shift in zip(self.blocks[start:], film[start:], strict=True):
            x = block(x, scale_shift[:, None])
        return self.out(functional.relu(x))

    def forward(
        self,
        local: Float[Tensor, "batch view point 3"],
        features: Float[Tensor, "batch view point feature"],
        view_step: Float[Tensor, "batch view"],
        joint_step: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch point channel"]:
        """The plain evaluation, from unprojected features."""
        x = self.embed(local, self.feature_in(features), self.film(view_step))
        return self.decode(x.mean(dim=1), self.film(joint_step))
