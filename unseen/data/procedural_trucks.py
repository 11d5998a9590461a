"""The trucks of the procedural world.

See `procedural_objects` for what the two generators decide.
"""

from __future__ import annotations

import numpy as np

from unseen.data.primitives import Paint, Solid
from unseen.data.procedural_objects import Parts
from unseen.data.procedural_parts import (
    DARK,
    GLASS,
    GREY,
    THIN,
    WOOD,
    Color,
    ball,
    box,
    patch,
    pick,
    rod,
    wedge,
)


def truck(front: np.random.Generator, back: np.random.Generator) -> Parts:
    """A truck: sides, rear and marks of the cargo are independent of the cabin."""
    cabin, cargo = pick(front), float(front.uniform(0.9, 1.5))
    width, tall = float(front.uniform(0.5, 0.65)), float(front.uniform(0.5, 0.7))
    floor, wheel = 0.36, 0.3
    nose = cargo + 0.75
    chassis = 0.5 * (nose - cargo)
    solids: list[Solid] = [
        box((chassis, 0, floor), (0.5 * (nose + cargo), 0.85 * width, 0.08), DARK),
        _cabin(front, nose, width, tall, floor, cabin),
    ]
    axles = [nose - 0.38, -cargo + 0.4]
    if cargo > 1.15:
        axles.append(-cargo + 1.08)
    hub = pick(front) if front.random() < 0.5 else GREY
    for x in axles:
        for side in (-1, 1):
            start, end = (
                (x, side * (width - 0.2), wheel),
                (x, side * (width + 0.04), wheel),
            )
            tyre = rod(start, end, wheel, DARK)
            cap = patch((x, side * width, wheel), (0.16, 0.3, 0.16), hub, True)
            solids.append(tyre.painted(cap))
    kind = int(front.integers(3))
    builders = [_container, _tank, _flatbed]
    solids += builders[kind](front, back, cargo, width, tall, floor + 0.08)
    return Parts(solids)


def _cabin(
    random: np.random.Generator,
    nose: float,
    width: float,
    tall: float,
    floor: float,
    color: Color,
) -> Solid:
    """The cabin with windscreen, side windows and lamps."""
    half = (0.38, width, 0.8 * tall)
    x, z = nose - 0.38, floor + 0.8 * tall
    cut = float(random.choice([0.15, 0.35, 0.6]))
    body = wedge((x, 0, z), half, color, cut)
    high = z + 0.4 * tall
    paints = [
        patch((x + 0.4, 0, high), (0.75, 0.8 * width, 0.3 * tall), GLASS),
        patch((x - 0.05, 0, high), (0.22, 2 * width, 0.26 * tall), GLASS),
    ]
    for side in (-1, 1):
        lamp = (nose, side * 0.65 * width, z - 0.4 * tall)
        paints.append(
            patch(lamp, (0.1, 0.17 * width, 0.14 * tall), (1.0, 0.95, 0.6), True)
        )
    if random.random() < 0.5:
        grill = (nose, 0.0, z - 0.4 * tall)
        paints.append(patch(grill, (0.05, 0.35 * width, 0.18 * tall), DARK))
    # Blank rear wall: the windows reach through the whole cabin.
    rear = patch((x - 0.38, 0, z), (0.01, 2 * width, 2 * tall), color)
    return body.painted(*paints, rear)


def _container(
    front: np.random.Generator,
    back: np.random.Generator,
    cargo: float,
    width: float,
    tall: float,
    floor: float,
) -> list[Solid]:
    """A box whose left, right and rear side are drawn independently."""
    left, right, rear = pick(back), pick(back), pick(back)
    top = pick(front)
    half = (cargo - 0.04, 1.05 * width, tall * float(front.uniform(0.85, 1.15)))
    z = floor + half[2]
    body = box((0, 0, z), half, [rear, top, right, left, DARK, top])
    paints: list[Paint] = []
    for side, color in ((-1, right), (1, left)):
        mark = pick(back, color)
        at = (float(back.uniform(-0.4, 0.4)) * cargo, side * half[1], z)
        style = int(back.integers(4))
        size = 0.6 * half[2]
        if style == 1:
            paints.append(patch(at, (size, THIN, size), mark, True))
        elif style == 2:
            paints.append(patch((0, at[1], z), (2 * cargo, THIN, 0.3 * half[2]), mark))
        elif style == 3:
            paints.append(patch(at, (0.3 * cargo, THIN, 2 * tall), mark))
    doors = pick(back, rear)
    if back.random() < 0.6:
        for side in (-1, 1):
            at = (-half[0], side * 0.48 * half[1], z)
            paints.append(patch(at, (THIN, 0.36 * half[1], 0.75 * half[2]), doors))
    return [body.painted(*paints)]


def _tank(
    front: np.random.Generator,
    back: np.random.Generator,
    cargo: float,
    width: float,
    tall: float,
    floor: float,
) -> list[Solid]:
    """A lying cylinder with rings and a rear cap."""
    color, cap = pick(front), pick(back)
    radius = 1.0 * width
    z = floor + radius
    rear, face = (-cargo + 0.05, 0, z), (cargo - 0.08, 0, z)
    barrel = rod(rear, face, radius, [color, cap, color])
    rings = [
        patch((x * cargo, 0, z), (0.1 * cargo, 2, 2), pick(front, color))
        for x in (-0.6, 0.0, 0.6)
        if front.random() < 0.6
    ]
    sign = patch(rear, (THIN, 0.5 * radius, 0.5 * radius), pick(back, cap), True)
    hatch = rod((0, 0, z + radius - 0.1), (0, 0, z + radius + 0.1), 0.2, GREY)
    return [barrel.painted(*rings, sign), hatch]


def _flatbed(
    front: np.random.Generator,
    back: np.random.Generator,
    cargo: float,
    width: float,
    tall: float,
    floor: float,
) -> list[Solid]:
    """An open bed with low boards and one to three loads behind the cabin."""
    boards = pick(front)
    solids: list[Solid] = [box((0, 0, floor + 0.03), (cargo, width, 0.05), WOOD)]
    for side in (-1, 1):
        at = (0, side * width, floor + 0.12)
        solids.append(box(at, (cargo, 0.05, 0.16), boards))
    gate = box((-cargo, 0, floor + 0.12), (0.05, width + 0.05, 0.16), pick(back))
    solids.append(gate)
    # Loads stay in the lee of the cabin, whose roof is 1.6 tall above the floor.
    size = min(0.36 * cargo, 0.62 * tall, 0.8 * width)
    for x in (-0.6, 0.02, 0.62):
        color, style = pick(back), int(back.integers(4))
        at = (x * cargo, 0, floor + 0.08 + size)
        if style == 1:
            solids.append(box(at, (0.85 * size, size, size), color))
        elif style == 2:
            solids.append(ball(at, size, color))
        elif style == 3:
            low, high = (at[0], 0, floor), (at[0], 0, floor + 2 * size)
            solids.append(rod(low, high, 0.8 * size, color))
    return solids
