"""The page in a real browser: what it draws is what we render."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest

from tests.pictures import bad_pictures, save_plate
from tests.viewer.balls import (
    ball_model,
    ball_samples,
    given_view,
    viewing,
    wait_until,
)
from tests.viewer.browsing import (
    Page,
    matter,
    open_browser,
    open_playwright,
    overlap,
    psnr,
)
from unseen.cli.demo import example_images
from unseen.viewer.exact import Cell, draw_exact
from unseen.viewer.layout import Viewpoint, arrange, rigid
from unseen.viewer.modes import Mode
from unseen.viewer.server import Viewer
from unseen.viewer.studio import Exhibition


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with open_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(playwright: Any) -> Iterator[Any]:
    with open_browser(playwright) as found:
        yield found


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[str], Page]]:
    """Opens tabs, which are closed at the end."""
    with contextlib.ExitStack() as tabs:
        yield lambda address: tabs.enter_context(Page(browser, address))


Visit = Callable[[str], Page]


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


def test_a_scene_is_drawn_and_no_request_leaves_the_machine(visit: Visit) -> None:
    with viewing(Exhibition("balls", ball_samples(given=given_view()))) as viewer:
        page = visit(viewer.address)
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


def stopped_at(step_to_hold: int) -> tuple[threading.Event, Any]:
    """A gate, and a callback that waits for it at one step."""
    gate = threading.Event()

    def hold(step: int) -> None:
        if step == step_to_hold:
            assert gate.wait(120)

    return gate, hold


@pytest.mark.slow
def test_modes_change_the_picture(visit: Visit) -> None:
    samples = ball_samples(0.6, 0.45, given=given_view())
    with viewing(Exhibition("balls", samples)) as viewer:
        page = visit(viewer.address)
        page.wait_for_exact()
        assert (
            overlap(matter(page.canvas()), matter(expected(viewer, Mode.COLOR))) > 0.9
        )
        for mode in (Mode.DEPTH, Mode.OPACITY, Mode.SPREAD, Mode.SEEN):
            page.choose("Show", mode.value)
            own = upper(expected(viewer, mode))
            page.wait_for(lambda pixels, own=own: psnr(upper(pixels), own) > 30)


@pytest.mark.slow
def test_sampling_from_an_uploaded_picture(visit: Visit, tmp_path: Path) -> None:
    gate, hold = stopped_at(3)
    exhibition = Exhibition("model", model=ball_model(hold))
    with viewing(exhibition) as viewer:
        page = visit(viewer.address)
        upload = page.tab.locator("input[type=file]")
        # Bad pictures are told on the page, by their own names.
        pictures = bad_pictures(tmp_path)
        for name in ("text.png", "white.png", "truncated.jpg"):
            path, reason = pictures[name]
            upload.set_input_files(str(path))
            page.wait_for_text(f"{name} cannot be used")
            assert reason in page.tab.inner_text("body")
        assert page.tab.get_by_role("button", name="Sample", exact=True).is_disabled()
        upload.set_input_files(str(save_plate(tmp_path / "plate.png")))
        page.wait_for_text("this is what the model sees")
        page.press("Sample")
        # A step's scenes are on show while the next one is being computed.
        page.wait_for_text("Step 2 of")
        early = page.wait_for(lambda pixels: matter(pixels).mean() > 0.01)
        gate.set()
        page.wait_for_text("4 scenes. Keep what you like.")
        page.wait_for_exact()
        late = page.canvas()
        assert matter(late).sum() > 1.3 * matter(early).sum()
        page.press("Keep")
        page.wait_for_text("Kept (click to release)")
        with page.tab.expect_download() as download:
            page.press("ply")
        assert Path(download.value.path()).read_bytes().startswith(b"ply\n")
        # What was kept is there for those who come later.
        other = visit(viewer.address)
        other.wait_for(lambda pixels: matter(pixels).mean() > 0.01)
        assert len(viewer._studio.samples) == 1
        assert all(map(is_local, page.requests + other.requests))


@pytest.mark.slow
def test_two_clients_and_one_that_leaves_while_it_samples(visit: Visit) -> None:
    gate, hold = stopped_at(2)
    example = example_images()[0]
    exhibition = Exhibition("model", model=ball_model(hold), example=example)
    with viewing(exhibition) as viewer:
        first, second = visit(viewer.address), visit(viewer.address)
        for page in (first, second):
            page.press("Use the example")
            page.wait_for_text("this is what the model sees")
        first.press("Sample")
        first.wait_for_text("Step 1 of")
        second.press("Sample")
        second.wait_for_text("Waiting for another sampling job.")
        # Each has a camera of its own.
        cameras = [client.camera for client in viewer._server.get_clients().values()]
        before = [np.array(camera.position) for camera in cameras]
        second.press("back")
        wait_until(lambda: np.ptp([before[1], cameras[1].position], axis=0).max() > 1)
        assert np.allclose(before[0], cameras[0].position, atol=1e-3)
        first.close()
        wait_until(lambda: len(viewer._server.get_clients()) == 1)
        gate.set()
        second.wait_for_text("4 scenes. Keep what you like.")
        second.wait_for(lambda pixels: matter(pixels).mean() > 0.01)


@pytest.mark.slow
def test_stop_keeps_what_there_is(visit: Visit) -> None:
    gate, hold = stopped_at(3)
    example = example_images()[0]
    exhibition = Exhibition("model", model=ball_model(hold), example=example)
    with viewing(exhibition) as viewer:
        page = visit(viewer.address)
        page.press("Use the example")
        page.wait_for_text("this is what the model sees")
        page.press("Sample")
        page.wait_for_text("Step 2 of")
        page.press("Stop")
        page.wait_for_text("Stopping after this step.")
        gate.set()
        page.wait_for_text("Stopped.")
        page.wait_for(lambda pixels: matter(pixels).mean() > 0.01)
        for _ in range(2):
            page.press("Discard")
        page.wait_for(lambda pixels: not matter(pixels).any())


@pytest.mark.slow
def test_a_browser_without_graphics_is_told(playwright: Any) -> None:
    with (
        viewing(Exhibition("balls", ball_samples())) as viewer,
        open_browser(playwright, "--no-sandbox", "--disable-3d-apis") as browser,
    ):
        tab = browser.new_page()
        tab.goto(viewer.address)
        tab.get_by_text("WebGL is unavailable").wait_for(timeout=240_000)
