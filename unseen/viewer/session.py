"""One browser's view: what it shows, and the thread that draws it."""

from __future__ import annotations

import atexit
import dataclasses
import math
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from unseen.geometry.cameras import Cameras
from unseen.viewer.exact import Cell, draw_exact
from unseen.viewer.layout import (
    Viewpoint,
    Window,
    arrange,
    rigid,
    viewing_distance,
    window_camera,
)
from unseen.viewer.modes import Mode
from unseen.viewer.sample import Sample, Sphere
from unseen.viewer.stage import Stage
from unseen.viewer.studio import Studio

if TYPE_CHECKING:
    import viser

REST = 0.25
"""Seconds without news after which the camera counts as resting."""
LONGEST_DRAWING = 60.0
"""Seconds that the end of the process waits for a drawing."""
LEVELS = (0.125, 0.35, 1.0)
"""Sizes of the successive exact renderings, in parts of the browser's picture."""
LARGEST = 720
"""Rows of the finest exact rendering at most; the browser enlarges it."""
FIRST_AZIMUTH, FIRST_ELEVATION = math.radians(35), math.radians(20)


@dataclasses.dataclass(frozen=True)
class Display:
    """What a client wants to see."""

    samples: tuple[Sample, ...] = ()
    mode: Mode = Mode.COLOR
    side_by_side: bool = True
    selected: Sample | None = None
    show_input: bool = True
    exact: bool = True
    unfinished: bool = False
    """The samples are about to change again: draw them, and no more."""

    def cells(self) -> list[Cell]:
        """Who stands where."""
        if not self.samples:
            return []
        if self.mode == Mode.SPREAD:
            label = f"spread over {len(self.samples)} samples"
            return [Cell(self.samples, label)]
        if self.side_by_side:
            return [Cell((sample,), sample.name) for sample in self.samples]
        chosen = self.selected if self.selected in self.samples else self.samples[0]
        assert chosen is not None
        return [Cell((chosen,), chosen.name)]


@dataclasses.dataclass(frozen=True)
class Speed:
    """What was drawn last: numbers of Gaussians, and the exact picture's cost."""

    num_gaussians: int
    size: tuple[int, int] | None = None
    seconds: float = 0.0


class Session:
    """Draws a `Display` for one client, again whenever it or the camera changes."""

    def __init__(
        self,
        client: viser.ClientHandle,
        studio: Studio,
        on_speed: Callable[[Speed], None] = lambda speed: None,
    ) -> None:
        self._client, self._studio, self._on_speed = client, studio, on_speed
        self._stage = Stage(client)
        self._display = Display(tuple(studio.samples))
        self._changed = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def start(self) -> None:
        """Begin to draw; the camera is put where all samples are in view."""
        self.look()
        self._client.camera.on_update(lambda _: self._changed.set())
        self._changed.set()
        # A thread that is inside of torch when Python ends takes the process down.
        atexit.register(self.finish)
        self._thread.start()

    def close(self) -> None:
        """Draw no more."""
        self._closed = True
        self._changed.set()

    def finish(self) -> None:
        """Draw no more, and wait for the drawing that is under way."""
        self.close()
        self._thread.join(LONGEST_DRAWING)

    @property
    def display(self) -> Display:
        with self._lock:
            return self._display

    def show(self, **changes: object) -> None:
        """Change some fields of the display."""
        with self._lock:
            display = dataclasses.replace(self._display, **changes)  # type: ignore[arg-type]
            if display == self._display:
                return
            self._display = display
        self._changed.set()

    def look(
        self,
        azimuth: float = FIRST_AZIMUTH,
        elevation: float = FIRST_ELEVATION,
        farther: float = 1.0,
    ) -> None:
        """Look at the scenes from a direction (radians).

        The distance is `farther` times that from which all are seen.
        """
        cells = self.display.cells()
        camera = self._client.camera
        sphere = cells[0].samples[0].sphere if cells else Sphere(torch.zeros(3), 1.0)
        distance = viewing_distance(
            max(1, len(cells)), sphere, camera.fov, camera.aspect
        )
        flat = math.cos(elevation)
        direction = torch.tensor(
            [flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)]
        )
        position = sphere.center + farther * distance * direction
        with self._client.atomic():
            camera.position = position.double().numpy()
            camera.look_at = sphere.center.double().numpy()

    # ---- The drawing thread ---------------------------------------------------------

    def _loop(self) -> None:
        try:
            self._draw_changes()
        finally:
            atexit.unregister(self.finish)

    def _draw_changes(self) -> None:
        while not self._closed:
            self._changed.wait()
            self._changed.clear()
            if self._closed:
                return
            try:
                self._draw()
            except Exception:
                if self._closed:
                    return
                # A bug in one drawing must not end the client's view for good.
                traceback.print_exc()
                self._changed.wait(1.0)

    def _draw(self) -> None:
        """Gaussians at once; the exact rendering when nothing changes any more."""
        display = self.display
        cells = display.cells()
        self._stage.set_cells(cells, display.show_input)
        if not cells:
            self._stage.show_exact(None)
            return
        viewpoint, motions, cameras = self._places(cells)
        self._stage.place(motions)
        self._stage.paint(display.mode, cameras)
        drawable = all(s.coarse is not None for cell in cells for s in cell.samples)
        if drawable:
            self._stage.show_exact(None)
        self._on_speed(Speed(self._stage.num_gaussians))
        # What has no Gaussians is rendered, coarsely, even while the camera moves.
        if drawable and (display.unfinished or self._changed.wait(REST)):
            return
        if not display.unfinished:
            self._refine(cells)
        if display.exact or not drawable:
            levels = LEVELS[:1] if display.unfinished or not display.exact else LEVELS
            self._draw_exact(display.mode, cells, motions, viewpoint, levels)

    def _refine(self, cells: Sequence[Cell]) -> None:
        for sample in (sample for cell in cells for sample in cell.samples):
            if "fine" not in vars(sample):
                self._studio.refine(sample, self._changed.set)

    def _places(
        self, cells: Sequence[Cell]
    ) -> tuple[Viewpoint, list[torch.Tensor], list[Cameras]]:
        """The camera, the motions of the cells, and the camera in each cell's frame."""
        camera = self._client.camera
        extrinsics = rigid(camera.wxyz, camera.position)
        viewpoint = Viewpoint(extrinsics, camera.fov, camera.aspect)
        sphere = cells[0].samples[0].sphere
        motions = arrange(len(cells), viewpoint, sphere)
        cameras = [
            window_camera(
                viewpoint, motion, cell.samples[0].sphere, (1, 1), Window(0, 1, 0, 1)
            )
            for cell, motion in zip(cells, motions, strict=True)
        ]
        return viewpoint, motions, cameras

    def _draw_exact(
        self,
        mode: Mode,
        cells: Sequence[Cell],
        motions: Sequence[torch.Tensor],
        viewpoint: Viewpoint,
        levels: Sequence[float],
    ) -> None:
        rows = min(self._client.camera.image_height, LARGEST)
        for level in levels:
            height = max(16, round(rows * level))
            size = (height, max(16, round(height * viewpoint.aspect)))
            start = time.perf_counter()
            canvas = draw_exact(
                mode, cells, motions, viewpoint, size, self._changed.is_set
            )
            if canvas is None or self._changed.is_set():
                return
            seconds = time.perf_counter() - start
            self._stage.show_exact(canvas)
            self._on_speed(Speed(self._stage.num_gaussians, size, seconds))
