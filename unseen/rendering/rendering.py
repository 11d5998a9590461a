"""What a renderer returns."""

from __future__ import annotations

import dataclasses

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
