"""Frames per second of the viewer: the browser's splats, and the exact rendering.

    unseen demo
    python -m benchmarks.viewer unseen-demo [--width 1280 --height 720] [--hardware]

Opens the page in headless Chromium (package playwright), turns the scenes with the
mouse, and reads what the page itself counts. Without `--hardware` the browser draws on
the processor (SwiftShader): a lower bound for any graphics card.
"""

from __future__ import annotations

import dataclasses
import socket
import time
from pathlib import Path

import rich
import tyro
from rich.table import Table

from unseen.cli.view import open_target
from unseen.viewer.server import LOCAL, Viewer

SOFTWARE = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Turn scenes in a browser, and read both speeds."""

    target: tyro.conf.Positional[str]
    """What `unseen view` takes: a folder of results, or a scene's file."""
    browser: Path = Path("/usr/bin/chromium")
    width: int = 1280
    height: int = 720
    seconds: float = 8.0
    """How long the scenes are turned."""
    hardware: bool = False
    """Draw on the graphics card."""

    def run(self) -> None:
        """Measure and print."""
        from playwright.sync_api import sync_playwright

        exhibition = open_target(self.target)
        with (
            Viewer(exhibition, LOCAL, _free_port()) as viewer,
            sync_playwright() as playwright,
        ):
            chromium = playwright.chromium.launch(
                executable_path=str(self.browser),
                args=["--no-sandbox", *(() if self.hardware else SOFTWARE)],
            )
            size = {"width": self.width, "height": self.height}
            tab = chromium.new_context(viewport=size).new_page()  # type: ignore[arg-type]
            tab.set_default_timeout(240_000)
            tab.goto(viewer.address)
            tab.get_by_text(f"× {self.height})").first.wait_for()
            rate = tab.locator(".unseen-exact-fps").inner_text()
            drawn = self._turn(tab)
            chromium.close()
        table = Table("drawing", "frames per second", title=self.target)
        table.add_row("splats, by the browser", drawn)
        table.add_row(f"exact rendering, {self.height} rows", rate)
        rich.print(table)

    def _turn(self, tab: object) -> str:
        """Drag the scenes around, and return the frames per second on show."""
        mouse = tab.mouse  # type: ignore[attr-defined]
        mouse.move(0.3 * self.width, 0.5 * self.height)
        mouse.down()
        end, step = time.monotonic() + self.seconds, 0
        while time.monotonic() < end:
            step += 1
            across = 0.3 + 0.2 * (step % 40) / 40
            mouse.move(across * self.width, 0.5 * self.height)
        shown = tab.locator(".unseen-browser-fps").inner_text()  # type: ignore[attr-defined]
        mouse.up()
        return shown


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
