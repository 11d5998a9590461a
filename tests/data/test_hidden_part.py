"""Parts of a picture that another picture hides, in the frame of the object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import save_plate
from unseen.data.image_input import load_hidden_part, load_object_image
from unseen.errors import UserError

SIZE = 40


def save_mask(path: Path, box: tuple[int, int, int, int], shape=(120, 160)) -> Path:
    """White in a box (top, bottom, left, right), black elsewhere."""
    pixels = np.zeros(shape, np.uint8)
    top, bottom, left, right = box
    pixels[top:bottom, left:right] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_it_lies_where_the_picture_lies(tmp_path: Path) -> None:
    """The blue half of the plate is hidden: the hidden pixels are those in blue."""
    image = save_plate(tmp_path / "plate.png")
    mask = save_mask(tmp_path / "mask.png", (20, 60, 70, 110))
    hidden = load_hidden_part(image, mask, SIZE)
    shown = load_object_image(image, SIZE)
    blue = (shown.image[2] > shown.image[0] + 0.1) & (shown.mask > 0.9)
    assert hidden.shape == (SIZE, SIZE) and hidden[blue].all()
    red = (shown.image[0] > shown.image[2] + 0.4) & (shown.mask > 0.9)
    assert red.any() and not hidden[red].any()
    # Beyond the box there is one pixel at most, that lies in it in part.
    assert int(blue.sum()) <= int(hidden.sum()) <= 1.4 * int(blue.sum())


def test_transparent_white_hides_nothing(tmp_path: Path) -> None:
    image = save_plate(tmp_path / "plate.png")
    pixels = np.full((120, 160, 4), 255, np.uint8)
    pixels[:, :80, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    hidden = load_hidden_part(image, tmp_path / "mask.png", SIZE)
    columns = torch.arange(SIZE)[hidden.any(dim=0)]
    assert hidden.any() and (columns >= SIZE // 2).all()


def test_a_picture_that_is_used_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "busy.png")
    mask = save_mask(tmp_path / "mask.png", (0, 60, 0, 160))
    with pytest.warns(UserWarning, match="used as it is"):
        hidden = load_hidden_part(tmp_path / "busy.png", mask, SIZE)
    assert hidden[: SIZE // 2].all() and not hidden[SIZE // 2 :].any()


def test_what_hides_nothing_or_does_not_fit(tmp_path: Path) -> None:
    image = save_plate(tmp_path / "plate.png")
    cases = {
        "hides nothing": save_mask(tmp_path / "a.png", (0, 0, 0, 0)),
        "hides all": save_mask(tmp_path / "b.png", (0, 120, 0, 160)),
        "has 80 x 60 pixels and .* has 160 x 120": save_mask(
            tmp_path / "c.png", (0, 9, 0, 9), (60, 80)
        ),
        "missing": tmp_path / "missing.png",
    }
    for reason, mask in cases.items():
        with pytest.raises(UserError, match=reason) as caught:
            load_hidden_part(image, mask, SIZE)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
