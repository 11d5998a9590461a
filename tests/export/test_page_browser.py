"""The results page in a real browser: what its scripts draw, and that it is alone."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.analytic_scene import ball
from tests.viewer.browsing import open_browser, open_playwright
from unseen.export.bake_splats import BakeOptions
from unseen.export.result import Origin, ResultOptions, write_results
from unseen.export.splat_files import read_splat_file
from unseen.export.video import orbit_cameras

OPTIONS = ResultOptions(
    size=32,
    frames=8,
    mesh_resolution=16,
    splats=BakeOptions(max_gaussians=300, views=4, size=32, steps=5),
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "out"
    scenes = [ball(0.25), ball(-0.25)]
    image = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 32, 32)
    origin = Origin("Two balls", {"seed": 0}, "unseen sample ball.png", {})
    write_results(out, scenes, image, origin, OPTIONS)
    return out


def picture(tab: Any, selector: str) -> Tensor:
    """What a canvas shows."""
    script = "s => document.querySelector(s).toDataURL('image/png').split(',')[1]"
    data = base64.b64decode(tab.evaluate(script, selector))
    shown = Image.open(io.BytesIO(data)).convert("RGB")
    return torch.from_numpy(np.asarray(shown).copy()).float().movedim(-1, 0) / 255


def psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * (first - second).square().mean().log10())


def test_the_page_draws_scenes_and_blends_pictures(results: Path) -> None:
    with open_playwright() as playwright, open_browser(playwright) as browser:
        tab = browser.new_page(viewport={"width": 800, "height": 600})
        tab.set_default_timeout(120_000)
        faults: list[str] = []
        requests: list[str] = []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto((results / "index.html").as_uri())
        tab.click("#play")
        tab.select_option("#show", "space")
        for index, (frame, elevation) in enumerate([(1, 20.0), (5, -40.0)]):
            turn = f"elevation = {elevation}; turnTo({45 * frame})"
            tab.evaluate(turn)
            tab.wait_for_function("drawn.startsWith(`${angle.value},${elevation},`)")
            for name, place in (("scene_00", "1"), ("scene_01", "2")):
                selector = f".sample:nth-child({place}) canvas"
                shown = picture(tab, selector)
                scene = read_splat_file(results / name / "splats.ply")
                camera = orbit_cameras(8, OPTIONS.fov, elevation)[frame : frame + 1]
                size = (shown.shape[1], shown.shape[2])
                drawn = scene.render(camera, size).color[0]
                # Bytes of quaternions, and another filter than in files.
                assert psnr(shown, drawn) > 30, (index, name)
                assert float(drawn.std()) > 0.1
        # Half of the way from the red image to the first sample.
        tab.evaluate("between.value = 0; between.dispatchEvent(new Event('input'))")
        tab.wait_for_function("where.textContent === 'Input'")
        red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
        assert psnr(picture(tab, "#morph"), red) > 30
        tab.evaluate("between.value = 0.5")
        tab.wait_for_function("where.textContent === 'Input 50 %, Sample 0 50 %'")
        corner = picture(tab, "#morph")[:, :4, :4].mean(dim=(1, 2))
        torch.testing.assert_close(
            corner, torch.tensor([1.0, 0.5, 0.5]), atol=0.02, rtol=0
        )
        assert not faults
        assert all(url.startswith(("file:", "data:")) for url in requests)


def test_without_webgl_videos_stay(results: Path) -> None:
    with (
        open_playwright() as playwright,
        open_browser(playwright, "--no-sandbox", "--disable-3d-apis") as browser,
    ):
        tab = browser.new_page()
        tab.set_default_timeout(120_000)
        tab.goto((results / "index.html").as_uri())
        option = tab.locator('#show [value="space"]')
        assert option.is_disabled() and "no WebGL2" in option.inner_text()
        assert tab.locator("video.color").first.is_visible()
