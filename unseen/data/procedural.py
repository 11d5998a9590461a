"""The procedural world: seeded objects whose hidden side cannot be told."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
from jaxtyping import Float

from unseen.data import procedural_objects, procedural_scenery, procedural_trucks
from unseen.data.primitives import Array, Solid, affine
from unseen.data.procedural_rendering import render_solids
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views

_BUILDERS = {
    "crate": procedural_objects.crate,
    "mug": procedural_objects.mug,
    "critter": procedural_objects.critter,
    "truck": procedural_trucks.truck,
    "chair": procedural_scenery.chair,
    "house": procedural_scenery.house,
}

CATEGORIES: tuple[str, ...] = tuple(_BUILDERS)


@dataclasses.dataclass(frozen=True)
class ProceduralObject:
    """An object in the unit sphere, z up, that turns its front to `front_azimuth`.

    `front_azimuth` is in radians, 0 on the world's x axis, growing towards y: a camera
    there sees only what `make_object`'s `seed` decided, whatever its `back`.
    """

    name: str
    category: str
    front_azimuth: float
    solids: tuple[Solid, ...]

    def render(
        self, cameras: Cameras, size: int | tuple[int, int], supersample: int = 2
    ) -> Views:
        """Render at `cameras` (view) into Views (view) with masks and depths.

        `size` is the side of a square image or (height, width). Cameras stand outside
        of the unit sphere. Images are composited on white; see `render_solids`.
        """
        both = (size, size) if isinstance(size, int) else size
        return render_solids(self.solids, cameras, both, supersample)


def make_object(category: str, seed: int, back: int | None = None) -> ProceduralObject:
    """A seeded object of one of `CATEGORIES`.

    Objects that share `seed` and differ in `back` look alike from the front and
    differ behind: other samples of what one front view leaves open. `back=None` takes
    a hidden side that belongs to the seed.

    The box around everything that the object could have, hidden parts included, is
    centred on the origin with half its diagonal 1, then turned about z by a random
    angle. Raises UserError for an unknown category.
    """
    if category not in _BUILDERS:
        raise UserError(
            f"There is no category {category!r}; choose among {', '.join(CATEGORIES)}."
        )
    front = _random(category, seed, "front")
    hidden = _random(category, seed, "back" if back is None else f"back {back}")
    turn = float(front.uniform(0, 2 * math.pi))
    parts = _BUILDERS[category](front, hidden)
    boxes = np.stack([solid.bounds() for solid in parts.solids + parts.reserve])
    motion = _normalising(boxes[:, 0].min(0), boxes[:, 1].max(0))
    motion = affine(angle=turn) @ motion
    return ProceduralObject(
        f"{category}-{seed}",
        category,
        turn,
        tuple(solid.moved(motion) for solid in parts.solids),
    )


def _random(category: str, seed: int, stream: str) -> np.random.Generator:
    """An independent generator per category, seed and stream."""
    text = f"{category} {seed} {stream}".encode()
    return np.random.default_rng(list(hashlib.sha256(text).digest()))


def _normalising(
    lower: Float[Array, "3"], upper: Float[Array, "3"]
) -> Float[Array, "4 4"]:
    """The similarity that brings a box to the origin with half its diagonal 1."""
    scale = 2 / float(np.linalg.norm(upper - lower))
    return affine(-scale * 0.5 * (lower + upper), scale)
