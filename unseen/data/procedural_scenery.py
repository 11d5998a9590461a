"""More categories of the procedural world: truck, chair, house.

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
    PALE,
    PALETTE,
    THIN,
    WOOD,
    Color,
    ball,
    box,
    darker,
    patch,
    pick,
    rod,
    roof,
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


def chair(front: np.random.Generator, back: np.random.Generator) -> Parts:
    """A chair: a cushion in front of the backrest, a picture behind it."""
    width, deep = float(front.uniform(0.55, 0.8)), float(front.uniform(0.55, 0.75))
    high, rest = float(front.uniform(0.6, 0.9)), float(front.uniform(0.6, 1.0))
    frame = WOOD if front.random() < 0.4 else pick(front)
    seat = frame if front.random() < 0.5 else pick(front, frame)
    slab = 0.09
    solids: list[Solid] = [box((0, 0, high), (deep, width, slab), seat)]
    solids += _legs(front, deep, width, high - slab, frame)
    behind = pick(back)
    top = high + slab + 2 * rest
    # A little behind the seat, so that no two faces share a plane.
    rear = -deep - 0.02
    at, half = (rear + slab, 0, high + rest), (slab, width - 0.01, rest)
    board = box(at, half, [behind, frame, frame, frame, frame, frame])
    mark = pick(back, behind)
    style = int(back.integers(4))
    spot = (rear, 0.0, high + 1.1 * rest)
    shapes = [
        [],
        [patch(spot, (THIN, 0.5 * width, 0.5 * width), mark, True)],
        [patch(spot, (THIN, 2 * width, 0.25 * rest), mark)],
        [patch(spot, (THIN, 0.6 * width, 0.5 * rest), mark)],
    ]
    solids.append(board.painted(*shapes[style]))
    if front.random() < 0.8:
        cushion = pick(front, frame, seat)
        lean = (-deep + 2 * slab + 0.1, 0, high + slab + 0.55 * rest)
        pillow = ball(lean, (0.2, 0.8 * width, 0.5 * rest), cushion, -0.15)
        if front.random() < 0.5:
            solids.append(pillow)
        else:
            flat = (slab, 0, high + slab + 0.06)
            solids.append(box(flat, (deep - 2 * slab, 0.9 * width, 0.09), cushion))
    if front.random() < 0.4:
        for side in (-1, 1):
            arm = (slab, side * (width - 0.02), high + 0.45)
            solids.append(box(arm, (deep - slab, 0.08, 0.06), frame))
            post = (deep - 0.1, side * (width - 0.02), high + 0.22)
            solids.append(box(post, (0.06, 0.06, 0.24), frame))
    if front.random() < 0.4:
        solids.append(rod((at[0], -width, top), (at[0], width, top), 0.14, frame))
    return Parts(solids)


def _legs(
    random: np.random.Generator, deep: float, width: float, high: float, color: Color
) -> list[Solid]:
    style = int(random.integers(3))
    if style == 2:
        foot = rod((0, 0, 0), (0, 0, 0.1), 0.9 * max(deep, width), darker(color))
        return [foot, rod((0, 0, 0.05), (0, 0, high), 0.13, GREY)]
    solids: list[Solid] = []
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (deep - 0.1), sy * (width - 0.1)
            if style == 0:
                solids.append(box((x, y, 0.5 * high), (0.08, 0.08, 0.5 * high), color))
            else:
                tip = (1.15 * x, 1.15 * y, 0.0)
                solids.append(rod((x, y, high), tip, 0.1, color, 0.5))
    return solids


def house(front: np.random.Generator, back: np.random.Generator) -> Parts:
    """A house: a door in front, walls of independent colour, a shed behind."""
    deep, width = float(front.uniform(0.65, 0.95)), float(front.uniform(0.7, 1.1))
    tall = float(front.uniform(0.45, 0.75))
    walls = [pick(back), pick(front), pick(back), pick(back)]
    if front.random() < 0.4:
        walls[1] = PALE
    tiles = pick(front, walls[1])
    rear_tiles = pick(back)
    body = box((0, 0, tall), (deep, width, tall), [*walls, DARK, DARK])
    paints = _front_wall(front, deep, width, tall, walls[1])
    paints += _rear_wall(back, deep, width, tall, walls[0])
    for side, color in ((-1, walls[2]), (1, walls[3])):
        frame = pick(back, color)
        for x in ((-0.45, 0.45), (0.0,), ())[int(back.integers(3))]:
            at = (x * deep, side * width, 1.1 * tall)
            paints.append(patch(at, (0.24 * deep, THIN, 0.36 * tall), frame))
            paints.append(patch(at, (0.16 * deep, THIN, 0.26 * tall), GLASS))
    slope = float(front.uniform(0.3, 0.55))
    at = (0, 0, 2 * tall + slope)
    gable = darker(walls[1], 0.85)
    half = (deep + 0.16, width + 0.1, slope)
    solids: list[Solid] = [
        body.painted(*paints),
        roof(at, half, [rear_tiles, tiles], gable),
    ]
    if front.random() < 0.6:
        y = float(front.uniform(-0.7, 0.7)) * width
        low, high = 2 * tall + 0.3 * slope, 2 * tall + 2.1 * slope
        stack = (0.45 * deep, y, 0.5 * (low + high))
        brick = PALETTE[0] if front.random() < 0.5 else GREY
        solids.append(box(stack, (0.12, 0.12, 0.5 * (high - low)), brick))
    shed = box((-deep - 0.25, 0, 0.55 * tall), (0.3, 0.5 * width, 0.55 * tall), PALE)
    if back.random() < 0.5:
        y = float(back.uniform(-0.4, 0.4)) * width
        color = pick(back, walls[0])
        at = (-deep - 0.25, y, 0.55 * tall)
        annex = box(at, (0.3, 0.45 * width, 0.55 * tall), [color] * 5 + [darker(color)])
        door = (-deep - 0.55, y, 0.35 * tall)
        entry = patch(door, (THIN, 0.16 * width, 0.5 * tall), pick(back, color))
        solids.append(annex.painted(entry))
    return Parts(solids, [shed])


def _front_wall(
    random: np.random.Generator, deep: float, width: float, tall: float, color: Color
) -> list[Paint]:
    """A door somewhere and windows beside it."""
    spots = [-0.6, 0.0, 0.6]
    door = int(random.integers(3))
    paint, frame = pick(random, color), pick(random, color)
    paints: list[Paint] = []
    for index, spot in enumerate(spots):
        y = spot * width
        if index == door:
            at = (deep, y, 0.6 * tall)
            paints.append(patch(at, (THIN, 0.2 * width, 0.62 * tall), paint))
            knob = (deep, y + 0.12 * width, 0.6 * tall)
            paints.append(patch(knob, (0.03, 0.04, 0.04), DARK, True))
        elif random.random() < 0.8:
            at = (deep, y, 1.15 * tall)
            paints.append(patch(at, (THIN, 0.22 * width, 0.36 * tall), frame))
            paints.append(patch(at, (THIN, 0.15 * width, 0.26 * tall), GLASS))
    return paints


def _rear_wall(
    random: np.random.Generator, deep: float, width: float, tall: float, color: Color
) -> list[Paint]:
    """Windows, a stripe, or a disc."""
    style, paint = int(random.integers(4)), pick(random, color)
    at = (-deep, 0.0, 1.15 * tall)
    if style == 1:
        return [patch(at, (THIN, 2 * width, 0.3 * tall), paint)]
    if style == 2:
        return [patch(at, (THIN, 0.55 * tall, 0.55 * tall), paint, True)]
    if style == 3:
        windows = []
        for y in (-0.6, 0.6):
            spot = (-deep, y * width, 1.15 * tall)
            windows.append(patch(spot, (THIN, 0.24 * width, 0.4 * tall), paint))
            windows.append(patch(spot, (THIN, 0.16 * width, 0.28 * tall), GLASS))
        return windows
    return []
