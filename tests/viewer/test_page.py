"""The page in a real browser: what it draws is what we render."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest

from tests.viewer.balls import ball_samples, given_view, viewing, wait_until
from tests.viewer.browsing import (
    Page,
    matter,
    open_browser,
    overlap,
    psnr,
)
from unseen.viewer.exact import Cell, draw_exact
from unseen.viewer.layout import Viewpoint, arrange, rigid
from unseen.viewer.modes import Mode
from unseen.viewer.server import Viewer
from unseen.viewer.studio import Exhibition


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


def expected(viewer: Viewer, mode: Mode, client: int = 0) -> np.ndarray:
    """Our own picture of what a client sees, (height, width, 3)."""
    samples = viewer._studio.samples
    wait_until(lambda: client in viewer._server.get_clients())
    camera = viewer._server.get_clients()[client].camera
    viewpoint = Viewpoint(
        rigid(camera.wxyz, camera.position), camera.fov, camera.aspect
    )
    cells = [Cell((sample,), sample.name) for sample in samples]
    if mode == Mode.SPREAD:
        cells = [Cell(tuple(samples), "")]
    motions = arrange(len(cells), viewpoint, samples[0].sphere)
    size = (camera.image_height, camera.image_width)
    canvas = draw_exact(mode, cells, motions, viewpoint, size)
    assert canvas is not None
    return canvas.color.permute(1, 2, 0).numpy()


def upper(pixels: np.ndarray) -> np.ndarray:
    """Without the lower part, where the labels are."""
    return pixels[: int(0.6 * len(pixels))]


def is_local(address: str) -> bool:
    parts = urlparse(address)
    return parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1"


def test_a_scene_is_drawn_and_no_request_leaves_the_machine(browser: Any) -> None:
    with viewing(Exhibition("balls", ball_samples(given=given_view()))) as viewer:
        page = Page(browser, viewer.address)
        # Gaussians first.
        splats = page.wait_for(lambda pixels: matter(pixels).mean() > 0.02)
        own = expected(viewer, Mode.COLOR)
        assert overlap(matter(splats), matter(own)) > 0.8
        page.wait_for_exact()
        exact = page.canvas()
        assert exact.shape == own.shape
        # Up to how browsers enlarge and round.
        assert psnr(upper(exact), upper(own)) > 35
        assert psnr(upper(exact), 1 + 0 * upper(own)) < 20
        assert page.requests and all(map(is_local, page.requests)), page.requests
