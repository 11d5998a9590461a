"""What a renderer returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Rendering:
    """Images of a scene.

    `color` is in [0, 1] and composited on the background; `depth` is the expected
    z in the camera frame of what was hit, in world units (`far` where nothing was);
    `opacity` is in [0, 1]; `features` are composited on zero, with no set range.
    """

    color: Float[Tensor, "*batch 3 height width"]
    depth: Float[Tensor, "*batch height width"]
    opacity: Float[Tensor, "*batch height width"]
    features: Float[Tensor, "*batch feature height width"] | None = None

    def __getitem__(self, index) -> Rendering:
        """Index the batch axes."""
        features = None if self.features is None else self.features[index]
        return Rendering(
            self.color[index], self.depth[index], self.opacity[index], features
        )


def stack_renderings(renderings: Sequence[Rendering]) -> Rendering:
    """Stack along a new first axis."""
    features = [r.features for r in renderings if r.features is not None]
    return Rendering(
        torch.stack([r.color for r in renderings]),
        torch.stack([r.depth for r in renderings]),
        torch.stack([r.opacity for r in renderings]),
        torch.stack(features) if features else None,
    )
