"""A real browser without a screen, and what its pictures show."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # Several tabs at once, none of which is looked at by anybody.
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
]
WIDTH, HEIGHT = 640, 320


@contextlib.contextmanager
def open_playwright() -> Iterator[Any]:
    """What drives browsers; skips the test where it or the browser is absent."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not there")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        yield playwright


@contextlib.contextmanager
def open_browser(playwright: Any, *arguments: str) -> Iterator[Any]:
    """Headless Chromium."""
    browser = playwright.chromium.launch(
        executable_path=str(CHROMIUM), args=[*(arguments or ARGUMENTS)]
    )
    try:
        yield browser
    finally:
        browser.close()


class Page:
    """One tab with the viewer in it, and every request that it made."""

    def __init__(self, browser: Any, address: str) -> None:
        size = {"width": WIDTH, "height": HEIGHT}
        self.tab = browser.new_context(viewport=size).new_page()
        self.tab.set_default_timeout(240_000)
        self.requests: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("websocket", lambda socket: self.requests.append(socket.url))
        self.tab.goto(address)
        self.tab.wait_for_selector("canvas", state="attached")
        # What viser says of slow graphics would hide the scenes.
        self.tab.add_style_tag(content=".mantine-Notifications-root {opacity: 0}")

    def canvas(self) -> np.ndarray:
        """The 3D view's pixels (height, width, 3), in [0, 1]."""
        boxes = [found.bounding_box() for found in self.tab.locator("canvas").all()]
        box = max((b for b in boxes if b), key=lambda b: b["width"] * b["height"])
        image = Image.open(io.BytesIO(self.tab.screenshot(clip=box))).convert("RGB")
        return np.asarray(image).astype(np.float32) / 255

    def close(self) -> None:
        self.tab.context.close()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_for(self, condition: Any, seconds: float = 240.0) -> np.ndarray:
        """The first pixels of the 3D view of which `condition` is true."""
        end = time.monotonic() + seconds
        while True:
            pixels = self.canvas()
            if condition(pixels):
                return pixels
            assert time.monotonic() < end, "the picture never looked as expected"
            self.tab.wait_for_timeout(100)

    def wait_for_text(self, text: str) -> None:
        self.tab.get_by_text(text).first.wait_for()

    def wait_for_exact(self) -> None:
        """Until the finest exact rendering is on show."""
        self.wait_for_text(f"× {HEIGHT})")
        self.tab.wait_for_timeout(300)

    def choose(self, label: str, option: str) -> None:
        """Choose from a dropdown of the panel."""
        self.tab.get_by_text(label, exact=True).first.wait_for()
        self.tab.locator("input:visible").first.click()
        self.tab.get_by_role("option", name=option).click()

    def press(self, name: str) -> None:
        self.tab.get_by_role("button", name=name, exact=True).click()


def matter(pixels: np.ndarray) -> np.ndarray:
    """Pixels that are coloured: neither white nor the grey of text."""
    return np.ptp(pixels, axis=-1) > 0.25


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((first - second) ** 2) + 1e-12))
