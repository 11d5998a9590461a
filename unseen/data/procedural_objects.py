"""The categories of the procedural world.

Every builder gets two generators: `front` decides what a camera in front (on the +x
axis) can see, `back` decides what it cannot. The same `front` with another `back`
therefore looks the same from the front and different from behind: that is the
ambiguity a model has to sample. Lengths are arbitrary; objects are normalised later.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from unseen.data.primitives import Paint, Solid
from unseen.data.procedural_parts import (
    DARK,
    PALE,
    THIN,
    WOOD,
    Color,
    ball,
    box,
    darker,
    patch,
    pick,
    rod,
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Solids, and further solids that only reserve room.

    What could be hidden counts for the bounding box whether it is there or not, so
    that the framing of the visible side does not give the hidden side away.
    """

    solids: list[Solid]
    reserve: list[Solid] = dataclasses.field(default_factory=list)


def crate(front: np.random.Generator, back: np.random.Generator) -> Parts:
    """A box: every vertical face has its own colour and its own picture."""
    x, y, z = (float(v) for v in front.uniform([0.6, 0.6, 0.5], [1.0, 1.0, 1.1]))
    hidden = [pick(back) for _ in range(3)]
    shown, top = pick(front), pick(front)
    body = box((0, 0, z), (x, y, z), [hidden[0], shown, *hidden[1:], DARK, top])
    paints: list[Paint] = []
    paints += _picture(front, 0.0, x, y, z, shown)
    for angle, color in zip((math.pi, -math.pi / 2, math.pi / 2), hidden, strict=True):
        along, across = (x, y) if angle == math.pi else (y, x)
        paints += _picture(back, angle, along, across, z, color)
    solids: list[Solid] = [body.painted(*paints)]
    style = front.integers(3)
    if style == 1:
        lid = pick(front, top)
        solids.append(box((0, 0, 2 * z + 0.07), (x + 0.06, y + 0.06, 0.08), lid))
    if style == 2:
        wood = darker(WOOD, float(front.uniform(0.6, 1.2)))
        for sx in (-1, 1):
            for sy in (-1, 1):
                post = (0.09, 0.09, z + 0.08)
                solids.append(box((sx * x, sy * y, z), post, wood))
    return Parts(solids)


def _picture(
    random: np.random.Generator,
    angle: float,
    along: float,
    across: float,
    z: float,
    color: Color,
) -> list[Paint]:
    """Paint for the face of a box that looks at `angle`, `along` from the axis."""
    paint = pick(random, color)
    cos, sin = math.cos(angle), math.sin(angle)
    center = (along * cos, along * sin, z)
    small = 0.55 * min(across, z)
    # Half sizes: depth into the face, across it, up; and whether it is round.
    pictures = [
        None,
        (THIN, 0.62 * across, 0.62 * z, False),
        (THIN, small, small, True),
        (THIN, 2 * across, 0.3 * z, False),
        (THIN, 0.3 * across, 2 * z, False),
    ]
    chosen = pictures[int(random.integers(len(pictures)))]
    if chosen is None:
        return []
    return [patch(center, chosen[:3], paint, chosen[3], angle)]


def mug(front: np.random.Generator, back: np.random.Generator) -> Parts:
    """A mug: badges in front and behind, a handle anywhere or hidden or missing."""
    height = float(front.uniform(0.75, 1.25))
    flare = float(front.uniform(0.7, 1.0))
    color = pick(front)
    inside = pick(front, color) if front.random() < 0.4 else PALE
    body = rod((0, 0, 0), (0, 0, 2 * height), 1.0, [color, color, color], 1.0)
    if flare < 0.85:
        # A cone upside down: the wide end is the rim.
        body = rod((0, 0, 2 * height), (0, 0, 0), 1.0, color, flare)
    paints: list[Paint] = []
    if front.random() < 0.4:
        band = float(front.choice([0.12, 1.88])) * height
        trim = pick(front, color)
        paints.append(patch((0, 0, band), (2, 2, 0.13 * height), trim))
    paints += _badge(front, float(front.uniform(-0.5, 0.5)), height, color)
    paints += _badge(back, math.pi + float(back.uniform(-0.3, 0.3)), height, color)
    # The inside comes last: no band covers it.
    paints.append(patch((0, 0, 2 * height), (0.88, 0.88, THIN), inside, True))
    solids: list[Solid] = [body.painted(*paints)]
    handle = color if front.random() < 0.6 else pick(front, color)
    reserve: list[Solid] = []
    if front.random() < 0.6:
        side = float(front.choice([-1, 1])) * float(front.uniform(0.5, 2.0))
        solids += _handle(side, height, flare, handle)
    else:
        behind = _handle(math.pi, height, flare, handle)
        reserve = behind
        if back.random() < 0.6:
            solids += behind
    return Parts(solids, reserve)


def _badge(
    random: np.random.Generator, azimuth: float, height: float, color: Color
) -> list[Paint]:
    """Nothing, a disc, a square, a flag of two colours, or an upright stripe."""
    first = pick(random, color)
    second = pick(random, color, first)
    cos, sin = math.cos(azimuth), math.sin(azimuth)
    center = (cos, sin, 1.05 * height)
    lower = (cos, sin, 0.75 * height)
    options = [
        [],
        [patch(center, (0.6, 0.5, 0.5), first, True, azimuth)],
        [patch(center, (0.6, 0.42, 0.42), first, False, azimuth)],
        [
            patch(center, (0.6, 0.5, 0.6 * height), first, False, azimuth),
            patch(lower, (0.6, 0.5, 0.3 * height), second, False, azimuth),
        ],
        [patch(center, (0.6, 0.22, 2 * height), first, False, azimuth)],
    ]
    return options[int(random.integers(len(options)))]


def _handle(azimuth: float, height: float, flare: float, color: Color) -> list[Solid]:
    """Half a ring of rods and balls."""
    out = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    inner = 0.9 if flare >= 0.85 else 0.45 * (1 + flare)
    points = [
        inner * out
        + up * height
        + 0.55 * math.cos(a) * out
        + 0.6 * height * math.sin(a) * up
        for a in np.linspace(-0.5 * math.pi, 0.5 * math.pi, 6)
    ]
    rods = itertools.pairwise(points)
    solids: list[Solid] = [rod(a, b, 0.14, color) for a, b in rods]
    return solids + [ball(point, 0.14, color) for point in points[1:-1]]


def critter(front: np.random.Generator, back: np.random.Generator) -> Parts:
    """An upright animal: a face in front; a shell, a backpack or a tail behind."""
    color, belly = pick(front), PALE
    if front.random() < 0.6:
        belly = pick(front, color)
    width, tall = float(front.uniform(0.62, 0.9)), float(front.uniform(0.65, 0.95))
    middle = tall + 0.14
    body = ball((0, 0, middle), (width, width, tall), color)
    tummy = patch(
        (width, 0, middle), (0.9 * width, 0.6 * width, 0.7 * tall), belly, True
    )
    solids: list[Solid] = [body.painted(tummy)]
    solids += _head(front, (0.05, 0.0, middle + 0.8 * tall), color, belly)
    for side in (-1, 1):
        foot = (0.18, side * 0.5 * width, 0.13)
        solids.append(ball(foot, (0.34, 0.2, 0.16), darker(color)))
        shoulder = (0.1, side * 0.85 * width, middle + 0.25 * tall)
        hand = (0.35, side * 1.2 * width, middle - 0.15 * tall)
        solids.append(rod(shoulder, hand, 0.13, color))
        solids.append(ball(hand, 0.17, darker(color)))
    choices = [_shell, _backpack, _tail]
    choice = int(back.integers(4))
    if choice < 3:
        solids += choices[choice](back, width, middle, tall, color)
    reserve: list[Solid] = [box((-width - 0.3, 0, middle), (0.38, 0.1, 0.1), color)]
    return Parts(solids, reserve)


def _head(
    random: np.random.Generator, center: Sequence[float], color: Color, snout: Color
) -> list[Solid]:
    """A head with eyes, a snout or beak and ears."""
    size = float(random.uniform(0.48, 0.62))
    x, y, z = center[0], center[1], center[2] + 0.55 * size
    solids: list[Solid] = [ball((x, y, z), (size, 1.08 * size, size), color)]
    for side in (-1, 1):
        eye = (x + 0.8 * size, side * 0.42 * size, z + 0.25 * size)
        pupil = (x + 0.94 * size, side * 0.42 * size, z + 0.27 * size)
        solids.append(ball(eye, 0.24 * size, (0.97, 0.97, 0.97)))
        solids.append(ball(pupil, 0.14 * size, DARK))
    if random.random() < 0.5:
        nose = (x + 0.95 * size, 0.0, z - 0.25 * size)
        solids.append(ball(nose, (0.4 * size, 0.42 * size, 0.28 * size), snout))
    else:
        beak = pick(random, color)
        root, tip = (
            (x + 0.8 * size, 0, z - 0.2 * size),
            (x + 1.6 * size, 0, z - 0.3 * size),
        )
        solids.append(rod(root, tip, 0.28 * size, beak, 0.05))
    ears = int(random.integers(3))
    for side in (-1, 1):
        root = (x, side * 0.55 * size, z + 0.65 * size)
        if ears == 0:
            solids.append(ball(root, (0.15, 0.36 * size, 0.36 * size), color))
        elif ears == 1:
            tip = (x, side * 0.85 * size, z + 1.5 * size)
            solids.append(rod(root, tip, 0.34 * size, color, 0.05))
        else:
            tall = (x, side * 0.5 * size, z + 1.3 * size)
            solids.append(ball(tall, (0.13, 0.22 * size, 0.75 * size), color))
    return solids


def _shell(
    random: np.random.Generator, width: float, middle: float, tall: float, color: Color
) -> list[Solid]:
    shell = pick(random, color)
    center = (-0.55 * width, 0, middle)
    dome = ball(center, (0.45 * width + 0.55, 0.85 * width, 0.78 * tall), shell)
    paints, spots = [], pick(random, shell, color)
    if random.random() < 0.6:
        depth = -0.9 * width
        for y, z in ((0, 0), (-0.5, 0.4), (0.5, 0.4), (-0.5, -0.4), (0.5, -0.4)):
            spot = (depth, y * 0.8 * width, middle + z * 0.85 * tall)
            paints.append(patch(spot, (0.6, 0.2 * width, 0.2 * tall), spots, True))
    return [dome.painted(*paints)]


def _backpack(
    random: np.random.Generator, width: float, middle: float, tall: float, color: Color
) -> list[Solid]:
    bag = pick(random, color)
    pocket = pick(random, bag)
    depth, half = -width, (0.38, 0.6 * width, 0.5 * tall)
    pack = box((depth, 0, middle + 0.1 * tall), half, bag)
    low = box(
        (depth - 0.38, 0, middle - 0.1 * tall),
        (0.05, 0.42 * width, 0.22 * tall),
        pocket,
    )
    return [pack, low]


def _tail(
    random: np.random.Generator, width: float, middle: float, tall: float, color: Color
) -> list[Solid]:
    tip = pick(random, color)
    root = (-0.8 * width, 0, middle - 0.55 * tall)
    bend = (-width - 0.42, 0, middle - 0.25 * tall)
    end = (-width - 0.42, 0, middle + 0.35 * tall)
    return [
        rod(root, bend, 0.16, color),
        ball(bend, 0.16, color),
        rod(bend, end, 0.16, color),
        ball(end, 0.24, tip),
    ]
