"""Pairs of images with points and their epipolar lines: are the poses right?"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unseen.data.pose_error import MatchedPair
from unseen.export.camera_picture import INK, PAPER, view_color
from unseen.export.colormap import to_bytes
from unseen.geometry.epipolar import epipolar_lines, fundamental_matrices
from unseen.geometry.views import Views

MOST_POINTS = 8
"""Points per pair, each with a colour: more cannot be told apart."""
GAP, LABEL = 8, 26
TILE_WIDTH, TILE_HEIGHT = 476, 400
"""Pixels that an image is fitted into."""


def draw_pair(views: Views, pair: MatchedPair) -> Image.Image:
    """Points in the first view, their epipolar lines and matches in the second.

    A line has its point's colour and runs through the ring of the same colour if
    poses and match are right. `views` are the two of the pair.
    """
    left, right = (_tile(image) for image in views.images)
    tile = left.width
    chosen = _spread_points(pair.xy_first)
    fundamental = fundamental_matrices(views.cameras[0], views.cameras[1])
    lines = epipolar_lines(fundamental, pair.xy_first[chosen]).tolist()
    for number, index in enumerate(chosen.tolist()):
        color = view_color(number, len(chosen))
        _draw_spot(left, pair.xy_first[index], color, filled=True)
        _draw_line(right, lines[number], color)
        _draw_spot(right, pair.xy_second[index], color, filled=False)
    size = (2 * tile + GAP, left.height + LABEL)
    picture = Image.new("RGB", size, PAPER)
    picture.paste(left, (0, LABEL))
    picture.paste(right, (tile + GAP, LABEL))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    draw.text((2, 3), f"view {pair.first}", fill=INK, font=font)
    draw.text((tile + GAP, 3), _judge(pair), fill=INK, font=font)
    return picture


def _judge(pair: MatchedPair) -> str:
    count = len(pair.distances)
    if count == 0:
        return f"view {pair.second}: no matches"
    median = float(pair.distances.median())
    return f"view {pair.second}: {count} matches, {median:.1f} px"


def _tile(image: Float[Tensor, "3 height width"]) -> Image.Image:
    picture = Image.fromarray(to_bytes(image).permute(1, 2, 0).contiguous().numpy())
    scale = min(TILE_WIDTH / picture.width, TILE_HEIGHT / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _spread_points(xy: Float[Tensor, "point 2"]) -> Int[Tensor, "chosen"]:
    """Points far from each other: each is the farthest from those before it.

    Of the half that comes first, which look most alike: fewer are mistaken.
    """
    xy = xy[: max(MOST_POINTS, len(xy) // 2)]
    if len(xy) == 0:
        return torch.zeros(0, dtype=torch.long)
    chosen = [int((xy - xy.mean(dim=0)).norm(dim=1).argmin())]
    while len(chosen) < min(MOST_POINTS, len(xy)):
        chosen.append(int(torch.cdist(xy, xy[chosen]).amin(dim=1).argmax()))
    return torch.tensor(chosen)


def _draw_spot(
    tile: Image.Image,
    xy: Float[Tensor, "2"],
    color: tuple[int, int, int],
    filled: bool,
) -> None:
    x, y = float(xy[0]) * tile.width, float(xy[1]) * tile.height
    radius = 5 if filled else 7
    box = (x - radius, y - radius, x + radius, y + radius)
    draw = ImageDraw.Draw(tile)
    draw.ellipse(
        box,
        fill=color if filled else None,
        outline=(255, 255, 255) if filled else color,
    )
    if not filled:
        inner = (x - radius + 1, y - radius + 1, x + radius - 1, y + radius - 1)
        draw.ellipse(inner, outline=color)


def _draw_line(
    tile: Image.Image, line: list[float], color: tuple[int, int, int]
) -> None:
    """Where a x + b y + c = 0 crosses the tile."""
    a, b, c = line
    if abs(b) * tile.width > abs(a) * tile.height:
        ends = [(x, -(a * x + c) / b) for x in (0.0, 1.0)]
    elif a:
        ends = [(-(b * y + c) / a, y) for y in (0.0, 1.0)]
    else:
        return
    places = [(x * tile.width, y * tile.height) for x, y in ends]
    ImageDraw.Draw(tile).line(places, fill=color, width=2)
