"""The palette, and solids by their everyday names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unseen.data.primitives import (
    CUBE_CORNERS,
    Array,
    Ellipsoid,
    Frustum,
    Paint,
    Polytope,
    Vector,
    affine,
)

Color = tuple[float, float, float]

PALETTE: tuple[Color, ...] = (
    (0.90, 0.13, 0.14),  # red
    (0.98, 0.50, 0.06),  # orange
    (0.98, 0.84, 0.12),  # yellow
    (0.16, 0.68, 0.24),  # green
    (0.08, 0.72, 0.80),  # cyan
    (0.12, 0.28, 0.86),  # blue
    (0.56, 0.16, 0.76),  # purple
    (0.97, 0.40, 0.68),  # pink
)
"""Few and saturated, so that the mean of two colours is neither of them."""

DARK: Color = (0.13, 0.13, 0.16)
GREY: Color = (0.55, 0.56, 0.60)
PALE: Color = (0.90, 0.89, 0.84)
WOOD: Color = (0.58, 0.36, 0.20)
GLASS: Color = (0.62, 0.82, 0.95)


THIN = 0.001
"""Half the thickness of paint on a flat face: too little to show on the next face."""


def pick(random: np.random.Generator, *excluded: Color) -> Color:
    """A palette colour that is none of `excluded`."""
    choices = [color for color in PALETTE if color not in excluded]
    return choices[int(random.integers(len(choices)))]


def darker(color: Color, factor: float = 0.6) -> Color:
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def _colors(colors: Sequence[Color]) -> Float[Array, "face 3"]:
    return np.array(colors, np.float32)


_CUBE_PLANES = np.array(
    [[s * (a == k) for k in range(3)] + [1.0] for a in range(3) for s in (-1, 1)]
)


def box(
    center: Vector,
    half: Vector,
    colors: Color | Sequence[Color],
    angle: float = 0.0,
    axis: Vector = (0.0, 0.0, 1.0),
) -> Polytope:
    """A box; `colors` are one or six, in the order -x, +x, -y, +y, -z, +z."""
    faces = [colors] * 6 if isinstance(colors[0], float) else colors
    return Polytope(
        affine(center, half, axis, angle),
        _colors(faces),  # type: ignore[arg-type]
        planes=_CUBE_PLANES,
        vertices=CUBE_CORNERS,
    )


def roof(
    center: Vector, half: Vector, slopes: Sequence[Color], gable: Color
) -> Polytope:
    """A gable roof whose ridge runs along y; `slopes` are those towards -x and +x."""
    planes = [[-1, 0, 0.5, 0.5], [1, 0, 0.5, 0.5]]
    planes += [[0, -1, 0, 1], [0, 1, 0, 1], [0, 0, -1, 1]]
    vertices = [[x, y, -1] for x in (-1, 1) for y in (-1, 1)]
    vertices += [[0, y, 1] for y in (-1, 1)]
    return Polytope(
        affine(center, half),
        _colors([*slopes, gable, gable, gable]),
        planes=np.array(planes, np.float64),
        vertices=np.array(vertices, np.float64),
    )


def wedge(center: Vector, half: Vector, color: Color, cut: float) -> Polytope:
    """A box whose upper +x edge is cut away; the roof keeps (1 - cut) of its length.

    Faces: -x, +x, -y, +y, -z, +z, slope. The slope ends at half height.
    """
    top = 1 - 2 * cut
    # The slope goes through (1, ., 0) and (top, ., 1).
    planes = np.concatenate([_CUBE_PLANES, [[1, 0, 1 - top, 1]]])
    profile = [(-1, -1), (1, -1), (1, 0), (top, 1), (-1, 1)]
    vertices = [[x, y, z] for x, z in profile for y in (-1, 1)]
    return Polytope(
        affine(center, half),
        _colors([color] * 7),
        planes=planes,
        vertices=np.array(vertices, np.float64),
    )


def ball(
    center: Vector,
    half: Vector | float,
    color: Color,
    angle: float = 0.0,
    axis: Vector = (0.0, 1.0, 0.0),
) -> Ellipsoid:
    """An ellipsoid with the half axes `half`."""
    return Ellipsoid(affine(center, half, axis, angle), _colors([color]))


def rod(
    start: Vector,
    end: Vector,
    radius: float,
    colors: Color | Sequence[Color],
    taper: float = 1.0,
) -> Frustum:
    """A capped cone between two points; `colors` are one or side, start, end."""
    faces = [colors] * 3 if isinstance(colors[0], float) else colors
    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    half = 0.5 * (last - first)
    length = float(np.linalg.norm(half))
    direction = half / length
    axis = np.cross([0.0, 0.0, 1.0], direction)
    # Any axis serves where the rod is upright.
    axis = axis if np.linalg.norm(axis) > 1e-9 else np.array([1.0, 0.0, 0.0])
    angle = float(np.arccos(np.clip(direction[2], -1, 1)))
    return Frustum(
        affine(0.5 * (first + last), (radius, radius, length), axis, angle),
        _colors(faces),  # type: ignore[arg-type]
        taper=taper,
    )


def patch(
    center: Vector,
    half: Vector,
    color: Color,
    round: bool = False,
    angle: float = 0.0,
    axis: Vector = (0.0, 0.0, 1.0),
) -> Paint:
    """Paint inside of a box, or of the ellipsoid in it."""
    return Paint(affine(center, half, axis, angle), color, round)
