"""Meshes whose colours lie in a picture."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class TexturedMesh:
    """Triangles with corners of their own: corner 3 f + i is corner i of face f.

    Positions are in the world's frame (z up), normals unit vectors that point
    outwards. `uv` are places in the texture: (0, 0) is its upper left corner and (1, 1)
    its lower right one, as in glTF. Texels are sRGB in [0, 1].
    """

    vertices: Float[Tensor, "corner 3"]
    normals: Float[Tensor, "corner 3"]
    uv: Float[Tensor, "corner 2"]
    texture: Float[Tensor, "height width 3"]
