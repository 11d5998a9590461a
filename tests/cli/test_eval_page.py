"""The page of an evaluation in a real browser: whole, without network or errors."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.evaluation.made_up import flat, skies, write_set
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.methods import registry

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation of two methods, one of which has a hostile label."""
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
        torch.manual_seed(0)
        save_model(SkyDecoder(SkyConfig(num_objects=2)), root / "sky", {})
        objects = {f"o{i}": ("test", skies(9, seed=i)) for i in range(2)}
        data = write_set(root / "set", {"t": ("train", flat(90, 2)), **objects})
        label = f"<script>alert(1)</script>{{{{title}}}}={root / 'sky'}"
        given = [str(root / "sky"), label, "--data", str(data), "--steps", "1"]
        patch.setattr(sys, "argv", ["unseen", "eval", *given, "--out", str(root / "o")])
        main()
    return root / "o"


class _Elements(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_holds_everything(folder: Path) -> None:
    elements = _Elements((folder / "index.html").read_text(encoding="utf-8"))
    results = json.loads((folder / "results.json").read_text())
    images = elements.all("img")
    # Of two scenes: an input, and two views of a truth and four times two pictures;
    # and the scale.
    assert len(images) == 2 * (1 + 2 * (1 + 4 * 2)) + 1
    for image in images:
        kind, data = (image["src"] or "").split(",", 1)
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
    assert not [a for a in elements.all("a") + elements.all("script") if "src" in a]
    numbers = results["numbers"]["sky"]["set"]
    assert f"{numbers['PSNR']:.2f}" in elements.words
    # PSNR and SSIM by angle, PSNR by seconds per scene and per frame; and the legend.
    charts = [s for s in elements.all("svg") if s["class"] == "chart"]
    assert len(charts) == 4 and len(elements.all("button")) == 4


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_in_a_browser(folder: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    asked, said = [], []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto((folder / "index.html").as_uri())
        loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        assert page.evaluate(loaded)
        # Nothing is wider than a phone.
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="sky", exact=True).click()
        faint = page.locator("g.faint").count()
        page.get_by_role("button", name="sky", exact=True).click()
        assert faint > 0 and page.locator("g.faint").count() == 0
        browser.close()
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == []
    assert said == []
