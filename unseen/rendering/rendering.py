"""What a renderer returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Rendering:
    """Images of a scene.

    `color` is in [0, 1] and composited on the background; `depth` is the expected
    z in the camera frame of what was hit, in world units (`far` where nothing was);
    `opacity` is in [0, 1]; `features` are composited on zero, with no set range.
    Depth or opacity are None where a representation has none: a light field absorbs
    nothing, and a rotating latent volume is at no place.
    """

    color: Float[Tensor, "*batch 3 height width"]
    depth: Float[Tensor, "*batch height width"] | None = None
    opacity: Float[Tensor, "*batch height width"] | None = None
    features: Float[Tensor, "*batch feature height width"] | None = None

    def __getitem__(self, index) -> Rendering:
        """Index the batch axes."""
        return self._map(lambda x: x[index])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Rendering:
        def optional(x: Tensor | None) -> Tensor | None:
            return None if x is None else function(x)

        return Rendering(
            function(self.color),
            optional(self.depth),
            optional(self.opacity),
            optional(self.features),
        )


def stack_renderings(renderings: Sequence[Rendering]) -> Rendering:
    """Stack along a new first axis."""

    def optional(tensors: list[Tensor | None]) -> Tensor | None:
        present = [x for x in tensors if x is not None]
        return torch.stack(present) if len(present) == len(tensors) else None

    return Rendering(
        torch.stack([r.color for r in renderings]),
        optional([r.depth for r in renderings]),
        optional([r.opacity for r in renderings]),
        optional([r.features for r in renderings]),
    )
