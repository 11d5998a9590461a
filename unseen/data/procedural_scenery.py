"""More categories of the procedural world: chair and house.

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
)


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
