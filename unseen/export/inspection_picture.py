"""One picture by which a person judges posed images: cameras, and epipolar lines."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from unseen.data.dataset import PosedDataset
from unseen.data.inspection import SceneSurvey
from unseen.data.pose_error import MatchedPair, match_pair, neighbours
from unseen.errors import UserError
from unseen.export.camera_picture import (
    INK,
    PAPER,
    choose_cameras,
    draw_cameras,
    thumbnail,
)
from unseen.export.epipolar_picture import draw_pair
from unseen.files import atomic_file

PAIRS = 3
WIDTH, MARGIN, TITLE = 960, 16, 30


def match_neighbours(
    dataset: PosedDataset, index: int, survey: SceneSurvey, pairs: int = PAIRS
) -> list[MatchedPair]:
    """Matched features of a few pairs of neighbouring views of a surveyed scene.

    Pairs of images of different sizes are passed over.
    """
    if survey.cameras is None:
        return []
    found = []
    for i, j in neighbours(survey.cameras, pairs):
        if survey.sizes[i] == survey.sizes[j]:
            first, second = survey.views[i], survey.views[j]
            views = dataset.load(index, [first, second])
            found.append(match_pair(views, first, second))
    return found


def draw_inspection(
    dataset: PosedDataset, index: int, survey: SceneSurvey, pairs: list[MatchedPair]
) -> Image.Image:
    """Cameras in space above pairs of views with points and their epipolar lines."""
    if survey.cameras is None:
        raise UserError(f"{survey.id} has no view that can be read: nothing to draw.")
    chosen = choose_cameras(len(survey.views))
    images = [
        thumbnail(dataset.load(index, [survey.views[i]]).images[0]) for i in chosen
    ]
    tiles = [draw_cameras(survey.cameras[chosen], images, (640, WIDTH))]
    for pair in pairs:
        views = dataset.load(index, [pair.first, pair.second])
        tiles.append(draw_pair(views, pair))
    places, height = _flow(tiles)
    sheet = Image.new("RGB", (WIDTH + 2 * MARGIN, height), PAPER)
    title = f"{survey.id}: {len(survey.views)} cameras, from red (first) to violet"
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 8), title, fill=INK, font=ImageFont.load_default(17))
    for tile, place in zip(tiles, places, strict=True):
        sheet.paste(tile, place)
    return sheet


def _flow(tiles: list[Image.Image]) -> tuple[list[tuple[int, int]], int]:
    """Places of tiles in rows as full as they get, and the height that it takes."""
    places, left, top, bottom = [], MARGIN, TITLE + MARGIN // 2, 0
    for tile in tiles:
        if left > MARGIN and left + tile.width > WIDTH + MARGIN:
            left, top = MARGIN, bottom + MARGIN
        places.append((left, top))
        left += tile.width + MARGIN
        bottom = max(bottom, top + tile.height)
    return places, bottom + MARGIN


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        picture.save(temporary, format="PNG")
