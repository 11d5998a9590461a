"""Pictures of every kind become the framed image that models expect."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tests.pictures import BLUE, RED, bad_pictures, plate, save_plate
from unseen.data.image_input import (
    ObjectImage,
    PictureWarning,
    load_object_image,
)
from unseen.data.picture_file import read_picture
from unseen.data.resampling import area_weights
from unseen.errors import UserError

SIZE, FILL = 40, 0.78
BAD = [
    "missing.png",
    "text.png",
    "empty.png",
    "folder.png",
    "truncated.jpg",
    "one.png",
    "thin.png",
    "huge.png",
    "large.png",
    "clear.png",
    "white.png",
    "black.png",
    "speck.png",
]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", PictureWarning)
        yield


def extent(mask: torch.Tensor) -> tuple[float, float, float, float]:
    """Area-weighted height, width and centre (row, column), in pixels."""
    rows, columns = mask.amax(dim=1), mask.amax(dim=0)
    row = torch.arange(len(rows)) + 0.5
    column = torch.arange(len(columns)) + 0.5
    center = (rows * row).sum() / rows.sum(), (columns * column).sum() / columns.sum()
    return float(rows.sum()), float(columns.sum()), float(center[0]), float(center[1])


def assert_framed(found: ObjectImage, ratio: float = 0.5, tolerance: float = 1.0):
    """The plate is centred, `FILL` wide, half as high, red left and blue right."""
    height, width, row, column = extent(found.mask)
    assert width == pytest.approx(FILL * SIZE, abs=tolerance)
    assert height == pytest.approx(ratio * FILL * SIZE, abs=tolerance)
    assert (row, column) == pytest.approx((SIZE / 2, SIZE / 2), abs=tolerance / 2)
    assert found.image.shape == (3, SIZE, SIZE)
    assert float(found.image.min()) >= 0 and float(found.image.max()) <= 1
    torch.testing.assert_close(found.image[:, :5], torch.ones(3, 5, SIZE))


def assert_colors(found: ObjectImage, tolerance: float = 0.03):
    """Red to the left of the middle, blue to the right."""
    for column, color in ((SIZE // 2 - 6, RED), (SIZE // 2 + 5, BLUE)):
        pixel = found.image[:, SIZE // 2, column]
        expected = torch.tensor(color) / 255
        torch.testing.assert_close(pixel, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_alpha_says_what_the_object_is(tmp_path: Path, kind: str):
    path = tmp_path / f"plate.{kind}"
    # What lies under full transparency must not show.
    pixels = plate(background=(0, 255, 0, 0))
    Image.fromarray(pixels).save(path, **({"lossless": True} if kind == "webp" else {}))
    found = load_object_image(path, SIZE)
    assert_framed(found)
    assert_colors(found)


@pytest.mark.parametrize("background", ["white", "black", "#2060ff", "#808080"])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "gif"])
def test_plain_backgrounds_are_recognised(tmp_path: Path, background: str, kind: str):
    picture = Image.new("RGB", (160, 120), background)
    drawn = Image.fromarray(plate())
    picture.paste(drawn, mask=drawn)
    path = tmp_path / f"plate.{kind}"
    picture.save(path, **({"quality": 92} if kind in ("jpg", "webp") else {}))
    found = load_object_image(path, SIZE)
    assert_framed(found, tolerance=1.5)
    assert_colors(found, 0.08)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "YCbCr", "1"])
def test_color_modes(tmp_path: Path, mode: str):
    picture = Image.new("RGB", (160, 120), "white")
    drawn = Image.fromarray(plate())
    picture.paste(drawn, mask=drawn)
    path = tmp_path / ("plate.tiff" if mode in ("CMYK", "YCbCr") else "plate.png")
    converted = picture.convert(
        mode, dither=Image.Dither.NONE, palette=Image.Palette.ADAPTIVE
    )
    converted.save(path)
    found = load_object_image(path, SIZE)
    assert_framed(found)
    if mode in ("CMYK", "P", "YCbCr"):
        assert_colors(found, 0.08)


def test_palette_with_transparency(tmp_path: Path):
    path = tmp_path / "plate.png"
    indices = np.zeros((120, 160), np.uint8)
    indices[20:60, 30:70], indices[20:60, 70:110] = 1, 2
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([0, 255, 0, *RED, *BLUE])
    picture.save(path, transparency=0)
    found = load_object_image(path, SIZE)
    assert_framed(found)
    assert_colors(found)


def test_cmyk_jpeg(tmp_path: Path):
    picture = Image.new("RGB", (160, 120), "white")
    drawn = Image.fromarray(plate())
    picture.paste(drawn, mask=drawn)
    picture.convert("CMYK").save(tmp_path / "plate.jpg", quality=95)
    found = load_object_image(tmp_path / "plate.jpg", SIZE)
    assert_framed(found)
    assert_colors(found, 0.08)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float"])
def test_deep_grey_is_scaled_not_clipped(tmp_path: Path, kind: str):
    grey = np.full((120, 160), 1.0)
    grey[20:60, 30:110] = 0.5
    values = {
        "uint16": (grey * 65535).astype(np.uint16),
        "int32": (grey * 65535).astype(np.int32),
        "float": grey.astype(np.float32),
    }[kind]
    path = tmp_path / ("grey.png" if kind == "uint16" else "grey.tiff")
    Image.fromarray(values).save(path)
    found = load_object_image(path, SIZE)
    assert_framed(found)
    assert found.image[:, 20, 20].numpy() == pytest.approx([0.5] * 3, abs=0.01)


def test_exif_rotation_is_respected(tmp_path: Path):
    upright = Image.fromarray(plate((160, 120), (30, 110, 20, 60))[..., :3])
    upright.save(tmp_path / "upright.png")
    # Orientation 6: the camera was turned, show the picture turned clockwise.
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    expected = load_object_image(tmp_path / "upright.png", SIZE)
    found = load_object_image(tmp_path / "turned.png", SIZE)
    torch.testing.assert_close(found.image, expected.image)
    height, width, _, _ = extent(found.mask)
    assert height > 1.5 * width


def test_no_fringe_of_the_background_stays(tmp_path: Path):
    """A soft-edged disc on blue looks like the same disc cut out by alpha."""
    y, x = np.mgrid[:200, :200] + 0.5
    alpha = np.clip(70.5 - np.hypot(y - 100, x - 100), 0, 1)[..., None]
    disc, blue = np.array([230, 120, 20]), np.array([20, 40, 220])
    mixed = (disc * alpha + blue * (1 - alpha)).round().astype(np.uint8)
    cut = np.concatenate([np.broadcast_to(disc, (200, 200, 3)), 255 * alpha], -1)
    Image.fromarray(mixed).save(tmp_path / "blue.png")
    Image.fromarray(cut.round().astype(np.uint8)).save(tmp_path / "cut.png")
    # At the picture's own scale, an edge pixel of mixed colour would show.
    size = round(140 / FILL)
    found = load_object_image(tmp_path / "blue.png", size)
    expected = load_object_image(tmp_path / "cut.png", size)
    assert float((found.image - expected.image).abs().max()) < 0.1
    assert float((found.mask - expected.mask).abs().mean()) < 2e-3


def test_a_busy_picture_is_used_as_it_is(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "busy.png")
    with pytest.warns(PictureWarning, match="neither transparent nor plain") as caught:
        found = load_object_image(tmp_path / "busy.png", 30)
    assert "\n" not in str(caught[0].message)
    expected = torch.from_numpy(pixels[:, 10:40] / 255.0).float().permute(2, 0, 1)
    torch.testing.assert_close(found.image, expected, atol=1e-5, rtol=0)
    assert bool((found.mask == 1).all())
    with pytest.warns(PictureWarning):
        larger = load_object_image(tmp_path / "busy.png", 64)
    assert float(larger.image.mean()) == pytest.approx(float(expected.mean()), abs=0.02)


def test_rounded_corners_are_not_a_cut_out(tmp_path: Path):
    pixels = plate(background=(255, 255, 255, 255))
    pixels[:2, :2, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "rounded.png")
    assert_framed(load_object_image(tmp_path / "rounded.png", SIZE))


def test_dust_does_not_move_the_frame(tmp_path: Path):
    pixels = plate(background=(255, 255, 255, 255))
    pixels[100:102, 150:152] = (90, 90, 90, 255)
    Image.fromarray(pixels).save(tmp_path / "dust.png")
    assert_framed(load_object_image(tmp_path / "dust.png", SIZE))


def test_an_object_may_touch_the_border(tmp_path: Path):
    pixels = plate(box=(80, 120, 40, 120), background=(255, 255, 255, 255))
    Image.fromarray(pixels).save(tmp_path / "low.png")
    assert_framed(load_object_image(tmp_path / "low.png", SIZE))


def test_holes_in_white_objects_on_white_stay(tmp_path: Path):
    """Only what is connected with the border is background."""
    pixels = plate(background=(255, 255, 255, 255))
    pixels[35:45, 50:90] = 255
    Image.fromarray(pixels).save(tmp_path / "hole.png")
    found = load_object_image(tmp_path / "hole.png", SIZE)
    assert float(found.mask[20, 20]) == pytest.approx(1.0)


def test_frames_may_be_oblong(tmp_path: Path):
    found = load_object_image(save_plate(tmp_path / "plate.png"), (20, 40), fill=0.5)
    height, width, row, column = extent(found.mask)
    assert (height, width) == pytest.approx((5, 10), abs=0.5)
    assert (row, column) == pytest.approx((10, 20), abs=0.5)


def test_framing_a_framed_image_changes_little(tmp_path: Path):
    first = load_object_image(save_plate(tmp_path / "plate.png"), 64)
    pixels = (first.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "again.png")
    again = load_object_image(tmp_path / "again.png", 64)
    assert float((again.image - first.image).abs().mean()) < 0.01


def test_large_pictures_are_reduced_and_small_ones_enlarged(tmp_path: Path):
    large = plate((600, 3200), (100, 300, 800, 1200))
    Image.fromarray(large).save(tmp_path / "large.png")
    assert max(read_picture(tmp_path / "large.png").shape) < 2048
    found = load_object_image(tmp_path / "large.png", SIZE)
    assert_framed(found)
    assert_colors(found)
    save_plate(tmp_path / "small.png", size=(12, 16), box=(2, 6, 3, 11))
    assert_framed(load_object_image(tmp_path / "small.png", SIZE), tolerance=3)


def test_area_weights():
    """Shrinking averages exactly; enlarging is linear interpolation."""
    shrink = area_weights(12, 4, 6.0, 3.0)
    expected = torch.zeros(4, 12)
    for i in range(4):
        expected[i, 3 * i : 3 * i + 3] = 1 / 3
    torch.testing.assert_close(shrink, expected)
    ramp = area_weights(12, 5, 6.0, 0.5) @ (torch.arange(12.0) + 0.5)
    torch.testing.assert_close(ramp, 6 + 0.5 * (torch.arange(5.0) - 2))
    torch.testing.assert_close(area_weights(9, 6, 4.5, 1.3).sum(-1), torch.ones(6))
    assert float(area_weights(4, 8, 2.0, 1.0)[0].sum()) == 0


def test_color_profiles(tmp_path: Path):
    """A profile that says sRGB changes nothing, a broken one does no harm."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = read_picture(save_plate(tmp_path / "plain.png"))
    picture = Image.fromarray(plate())
    for name, data in (("srgb", profile), ("broken", b"nonsense")):
        picture.save(tmp_path / f"{name}.png", icc_profile=data)
        found = read_picture(tmp_path / f"{name}.png")
        np.testing.assert_allclose(found, plain, atol=1.5 / 255)


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_refused_in_one_sentence(tmp_path: Path, name: str):
    path, reason = bad_pictures(tmp_path)[name]
    with pytest.raises(UserError, match=reason) as caught:
        load_object_image(path, SIZE)
    message = str(caught.value)
    assert str(path) in message and message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff"])
def test_files_cut_anywhere_are_read_or_refused(tmp_path: Path, kind: str):
    buffer = io.BytesIO()
    Image.fromarray(plate(background=(255, 255, 255, 255))[..., :3]).save(buffer, kind)
    data = buffer.getvalue()
    path = tmp_path / f"cut.{kind}"
    for length in range(0, len(data), max(1, len(data) // 25)):
        path.write_bytes(data[:length])
        try:
            assert load_object_image(path, SIZE).image.shape == (3, SIZE, SIZE)
        except UserError as error:
            assert "\n" not in str(error)
