"""Pictures of an object for the tests: a red and blue plate, on any background."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RED, BLUE = (200, 40, 30), (30, 60, 190)


def plate(
    size: tuple[int, int] = (120, 160),
    box: tuple[int, int, int, int] = (20, 60, 30, 110),
    background: tuple[int, int, int, int] = (255, 255, 255, 0),
) -> np.ndarray:
    """RGBA bytes (height, width): a rectangle (top, bottom, left, right)."""
    pixels = np.empty((*size, 4), np.uint8)
    pixels[:] = background
    top, bottom, left, right = box
    pixels[top:bottom, left:right] = (*RED, 255)
    pixels[top:bottom, (left + right) // 2 : right] = (*BLUE, 255)
    return pixels


def save_plate(path: Path, **settings) -> Path:
    """A transparent picture of the plate."""
    Image.fromarray(plate(**settings)).save(path)
    return path


def png_header(path: Path, width: int, height: int) -> Path:
    """A file that says it is a PNG of some size, without its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def bad_pictures(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every kind of picture that must be refused, with a word of the reason."""
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(folder / "whole.jpg")
    data = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    one = Image.new("RGB", (1, 1))
    one.save(folder / "one.png")
    Image.new("RGB", (7, 300)).save(folder / "thin.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGB", (64, 64), "white").save(folder / "white.png")
    Image.new("L", (64, 64), 0).save(folder / "black.png")
    speck = np.full((64, 64, 3), 255, np.uint8)
    speck[30, 30] = 0
    Image.fromarray(speck).save(folder / "speck.png")
    png_header(folder / "huge.png", 20_000, 20_000)
    png_header(folder / "large.png", 12_000, 12_000)
    reasons = {
        "missing.png": "does not exist",
        "text.png": "not a picture",
        "empty.png": "not a picture",
        "folder.png": "is a folder",
        "truncated.jpg": "cut short",
        "one.png": "1 x 1",
        "thin.png": "7 x 300",
        "huge.png": "100 million",
        "large.png": "12000 x 12000",
        "clear.png": "transparent",
        "white.png": "all one colour",
        "black.png": "all one colour",
        "speck.png": "no object",
    }
    return {name: (folder / name, reason) for name, reason in reasons.items()}
