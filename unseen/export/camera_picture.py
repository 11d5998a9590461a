"""A picture of where cameras stand and look: frusta with their images, from outside."""

from __future__ import annotations

import colorsys
import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unseen.export.colormap import to_bytes
from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.projection import project
from unseen.geometry.rays import get_rays

PAPER, INK, GRID = (255, 255, 255), (28, 30, 36), (222, 225, 231)
AXES = (("x", (204, 51, 51)), ("y", (40, 150, 70)), ("z", (45, 90, 210)))
MOST_FRUSTA = 100
"""More cameras are thinned out evenly: a thicket shows nothing."""
THUMBNAIL = 96
"""Pixels: longer side of an image before it is put into its frustum."""

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Sight:
    """The viewer's camera and the size of the picture."""

    camera: Cameras
    size: tuple[int, int]

    def draw_points(
        self, points: Float[Tensor, "point 3"]
    ) -> tuple[list[Point], list[float]]:
        """Places in the picture, and depths."""
        xy, depth = project(self.camera, points)
        height, width = self.size
        pixels = xy * torch.tensor([width, height])
        return [(float(x), float(y)) for x, y in pixels], depth.tolist()


def choose_cameras(count: int) -> list[int]:
    """Which of so many cameras a picture shows."""
    shown = min(count, MOST_FRUSTA)
    return [round(k * count / shown) for k in range(shown)]


def thumbnail(image: Float[Tensor, "3 height width"]) -> Image.Image:
    """A small copy of an image."""
    array = to_bytes(image).permute(1, 2, 0).contiguous().numpy()
    small = Image.fromarray(array)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def view_color(number: int, count: int) -> tuple[int, int, int]:
    """Colours from red over green to violet along the order of the views."""
    red, green, blue = colorsys.hsv_to_rgb(0.8 * number / max(count, 1), 0.85, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_cameras(
    cameras: Cameras, thumbnails: list[Image.Image], size: tuple[int, int] = (640, 960)
) -> Image.Image:
    """Frusta of cameras (view,) with their thumbnails, seen from above and aside.

    The first camera is red, the last violet. The grid is horizontal (z is up) at the
    height of what the cameras look at; the world's axes are red (x), green (y) and
    blue (z). `size` is (height, width) in pixels.
    """
    cameras = cameras.to("cpu").to(torch.float32)
    center = _middle(cameras)
    scale = float((cameras.centers - center).norm(dim=1).median()) or 1.0
    length = _frustum_length(cameras, scale)
    corners = _frusta(cameras, length)
    sight = _find_sight(center, torch.cat([corners.reshape(-1, 3), center[None]]), size)
    picture = Image.new("RGB", (size[1], size[0]), PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_ground(draw, sight, center, scale)
    _, depths = sight.draw_points(cameras.centers)
    for index in sorted(range(len(cameras)), key=lambda i: -depths[i]):
        color = view_color(index, len(cameras))
        _draw_frustum(picture, sight, corners[index], thumbnails[index], color)
    return picture


def _middle(cameras: Cameras) -> Float[Tensor, "3"]:
    """What the picture turns around: the mean of the points half-way into frusta."""
    directions, centers = cameras.extrinsics[:, :3, 2], cameras.centers
    away = torch.eye(3) - directions[:, :, None] * directions[:, None, :]
    # A little weight for the cameras' own places: parallel axes meet nowhere.
    system = away.mean(dim=0) + 0.01 * torch.eye(3)
    target = (away @ centers[:, :, None]).mean(dim=0)[:, 0] + 0.01 * centers.mean(dim=0)
    return torch.linalg.solve(system, target)


def _frustum_length(cameras: Cameras, scale: float) -> float:
    """Depth of the drawn image planes: neighbours should not cover each other."""
    if len(cameras) < 2:
        return 0.25 * scale
    gaps = torch.cdist(cameras.centers, cameras.centers)
    gaps.fill_diagonal_(torch.inf)
    gap = float(gaps.amin(dim=1).median())
    focal = float(cameras.intrinsics[:, 0, 0].median())
    # The image plane's width is length / focal.
    return min(max(1.1 * gap * focal, 0.08 * scale), 0.3 * scale)


def _frusta(cameras: Cameras, length: float) -> Float[Tensor, "view 5 3"]:
    """Centre and the corners of the image plane: top left, then clockwise."""
    xy = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    origins, directions = get_rays(cameras, xy.expand(len(cameras), 4, 2))
    planes = origins + length * directions
    return torch.cat([cameras.centers[:, None], planes], dim=1)


def _find_sight(
    center: Float[Tensor, "3"], points: Float[Tensor, "point 3"], size: tuple[int, int]
) -> _Sight:
    """Look from above and aside, from as near as shows all points."""
    azimuth, elevation = math.radians(-60), math.radians(28)
    direction = torch.tensor(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    aim = 0.5 * (points.amin(dim=0) + points.amax(dim=0))
    height, width = size
    intrinsics = intrinsics_from_fov(torch.tensor(math.radians(38)))
    intrinsics[0, 0] *= height / width
    pose = look_at(aim + direction, aim)
    local = (points - aim) @ pose[:3, :3]
    # A point at (x, z) from the aim is inside at distance d if f |x| <= 0.46 (d + z).
    reach = local[:, :2].abs() * intrinsics.diagonal()[:2] / 0.46
    distance = float((reach - local[:, 2:]).amax().clamp(min=1e-6))
    pose = look_at(aim + distance * direction, aim)
    near, far = torch.tensor(0.01 * distance), torch.tensor(10 * distance)
    return _Sight(Cameras(pose, intrinsics, near, far), size)


def _draw_ground(
    draw: ImageDraw.ImageDraw, sight: _Sight, center: Float[Tensor, "3"], scale: float
) -> None:
    """A grid of ten by ten squares around the centre, and the world's axes there."""
    step = 0.2 * scale
    for k in range(-5, 6):
        for ends in (((k, -5), (k, 5)), ((-5, k), (5, k))):
            line = torch.stack(
                [center + step * torch.tensor([*end, 0.0]) for end in ends]
            )
            _draw_line(draw, sight, line, GRID, 1)
    for axis, (name, color) in enumerate(AXES):
        tip = center.clone()
        tip[axis] += 0.4 * scale
        _draw_line(draw, sight, torch.stack([center, tip]), color, 3)
        (place,), _ = sight.draw_points(tip[None])
        draw.text(place, name, fill=color, font=ImageFont.load_default(15))


def _draw_line(
    draw: ImageDraw.ImageDraw,
    sight: _Sight,
    ends: Float[Tensor, "2 3"],
    color: tuple[int, int, int],
    width: int,
) -> None:
    places, depths = sight.draw_points(ends)
    # What reaches behind the viewer has no place in the picture.
    if min(depths) > 0:
        draw.line(places, fill=color, width=width)


def _draw_frustum(
    picture: Image.Image,
    sight: _Sight,
    corners: Float[Tensor, "5 3"],
    image: Image.Image,
    color: tuple[int, int, int],
) -> None:
    places, depths = sight.draw_points(corners)
    if min(depths) <= 0:
        return
    apex, plane = places[0], places[1:]
    _paste_into(picture, image, plane)
    draw = ImageDraw.Draw(picture)
    for corner in plane:
        draw.line([apex, corner], fill=color, width=1)
    draw.line([*plane, plane[0]], fill=color, width=2)
    # The thick edge is the image's upper one.
    draw.line(plane[:2], fill=color, width=5)


def _paste_into(picture: Image.Image, image: Image.Image, plane: list[Point]) -> None:
    """Paste an image in perspective, its corners clockwise from the top left."""
    columns, rows = zip(*plane, strict=True)
    left, top = math.floor(min(columns)), math.floor(min(rows))
    width = math.ceil(max(columns)) - left + 1
    height = math.ceil(max(rows)) - top + 1
    area = 0.5 * abs(
        sum(
            columns[i] * rows[(i + 1) % 4] - columns[(i + 1) % 4] * rows[i]
            for i in range(4)
        )
    )
    # Seen edge-on, or far larger than the picture, there is nothing to show.
    if area < 4 or width * height > 16 * picture.width * picture.height:
        return
    moved = [(x - left, y - top) for x, y in plane]
    w, h = image.size
    # Coefficients of PIL's map from a place in the picture to one in the image.
    system, target = [], []
    for (x, y), (u, v) in zip(moved, [(0, 0), (w, 0), (w, h), (0, h)], strict=True):
        system += [
            [x, y, 1, 0, 0, 0, -u * x, -u * y],
            [0, 0, 0, x, y, 1, -v * x, -v * y],
        ]
        target += [u, v]
    coefficients = np.linalg.solve(np.array(system), np.array(target)).tolist()
    warped = image.transform(
        (width, height),
        Image.Transform.PERSPECTIVE,
        coefficients,
        Image.Resampling.BILINEAR,
    )
    stencil = Image.new("L", (width, height), 0)
    ImageDraw.Draw(stencil).polygon(moved, fill=255)
    picture.paste(warped, (left, top), stencil)
