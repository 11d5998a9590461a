"""What stands in one browser's 3D view: the nodes, and the picture behind them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unseen.export.colormap import to_bytes
from unseen.geometry.views import Views
from unseen.viewer.exact import FAR, Canvas, Cell
from unseen.viewer.gaussians import Gaussians
from unseen.viewer.layout import pose
from unseen.viewer.modes import Mode, gaussian_colors

if TYPE_CHECKING:
    import viser


DECODING = 0.15
"""Seconds that a browser is given to decode a picture before what it covers goes."""
_NOTHING = Canvas(torch.ones(3, 2, 2), torch.full((2, 2), FAR))


class Stage:
    """Draws cells into a client's own scene. Used by one thread."""

    def __init__(self, client: viser.ClientHandle) -> None:
        self._client = client
        self._cells: list[Cell] = []
        self._frames: list[Any] = []
        # What makes other nodes necessary, and not only other Gaussians.
        self._nodes: tuple[object, ...] = ()
        self._grid = 0
        # By cell and number in the cell.
        self._splats: dict[tuple[int, int], Any] = {}
        self._drawn: dict[tuple[int, int], tuple[Any, ...]] = {}
        # The first picture is white, too.
        self._exact = True
        self.show_exact(None)

    def set_cells(self, cells: Sequence[Cell], show_input: bool) -> None:
        """Say who stands where; `paint` draws them.

        Nodes stay where only the scenes are others, so that nothing flickers.
        """
        inputs = [cell.samples[0].given for cell in cells] if show_input else []
        labels = [(cell.label, len(cell.samples)) for cell in cells]
        nodes = (*labels, *map(id, inputs))
        self._cells = list(cells)
        if nodes == self._nodes:
            return
        self._nodes = nodes
        # A node of an old name would keep its old place: the browser remembers it, and
        # viser does not send what it takes for the default.
        self._grid += 1
        with self._client.atomic():
            for frame in self._frames:
                frame.remove()
            self._frames, self._splats, self._drawn = [], {}, {}
            for i, cell in enumerate(cells):
                frame = self._client.scene.add_frame(self._name(i), show_axes=False)
                self._frames.append(frame)
                sphere = cell.samples[0].sphere
                self._client.scene.add_label(
                    self._name(i, "label"),
                    cell.label,
                    position=(
                        sphere.center + torch.tensor([0, 0, -0.75]) * sphere.radius
                    )
                    .double()
                    .numpy(),
                    anchor="top-center",
                )
                given = cell.samples[0].given
                # Among several scenes it would stand before the neighbours.
                if show_input and given is not None and len(cells) == 1:
                    self._add_input(self._name(i, "input"), given)

    def _name(self, *parts: int | str) -> str:
        """Of a cell's node, or of one below it."""
        cell, *below = map(str, parts)
        return "/".join([f"/grid{self._grid}", f"cell{cell}", *below])

    def _add_input(self, name: str, given: Views) -> None:
        camera = given.cameras[0].to("cpu")
        focal_x, focal_y = camera.intrinsics.diagonal()[:2].tolist()
        wxyz, position = pose(camera.extrinsics)
        image = to_bytes(given.images[0]).permute(1, 2, 0).contiguous().numpy()
        self._client.scene.add_camera_frustum(
            name,
            fov=2 * float(np.arctan(0.5 / focal_y)),
            aspect=focal_y / focal_x,
            scale=0.35,
            thickness=0.01,
            color=(70, 90, 120),
            image=image,
            format="png",
            wxyz=wxyz,
            position=position,
            cast_shadow=False,
            receive_shadow=False,
        )

    def place(self, motions: Sequence[Float[Tensor, "4 4"]]) -> None:
        """Move the cells, by rigid motions from their scenes' frames to the world."""
        with self._client.atomic():
            for frame, motion in zip(self._frames, motions, strict=True):
                frame.wxyz, frame.position = pose(motion)

    def paint(self, mode: Mode, cameras: Sequence[Any]) -> None:
        """Send the Gaussians of every cell, as the cell's camera (1,) sees them.

        What the browser has already is not sent again.
        """
        for i, (cell, camera) in enumerate(zip(self._cells, cameras, strict=True)):
            for number, sample in enumerate(cell.samples):
                gaussians = sample.gaussians
                if gaussians is None:
                    self._remove(i, number)
                    continue
                # Only depths change with the camera.
                seen_by = camera if mode == Mode.DEPTH else None
                state = (gaussians, mode, seen_by)
                if _same(self._drawn.get((i, number)), state):
                    continue
                colors = gaussian_colors(mode, sample, cell.samples, camera)
                self._send(i, number, gaussians, colors)
                self._client.flush()
                self._drawn[i, number] = state

    def _remove(self, cell: int, number: int) -> None:
        self._drawn.pop((cell, number), None)
        handle = self._splats.pop((cell, number), None)
        if handle is not None:
            handle.remove()

    def _send(
        self,
        cell: int,
        number: int,
        gaussians: Gaussians,
        colors: Float[Tensor, "point 3"],
    ) -> None:
        arrays = (
            gaussians.centers.numpy(),
            gaussians.covariances.numpy(),
            colors.clamp(0, 1).numpy(),
            gaussians.opacities[:, None].numpy(),
        )
        handle = self._splats.get((cell, number))
        if handle is not None:
            handle.set_gaussians(*arrays)
            return
        self._splats[cell, number] = self._client.scene.add_gaussian_splats(
            self._name(cell, f"gaussians{number}"), *arrays, visible=not self._exact
        )

    @property
    def num_gaussians(self) -> int:
        return sum(len(state[0]) for state in self._drawn.values())

    def show_exact(self, canvas: Canvas | None) -> None:
        """Show a picture, with its depth, instead of the Gaussians; None ends it."""
        if canvas is None and not self._exact:
            return
        appears = canvas is not None and not self._exact
        if canvas is None:
            canvas = _NOTHING
        self._exact = canvas is not _NOTHING
        image = to_bytes(canvas.color).permute(1, 2, 0).contiguous().numpy()
        with self._client.atomic():
            # Never taken away, only replaced: a browser keeps the old picture while it
            # decodes a new one, but shows black where it has none.
            self._client.scene.set_background_image(
                image, format="png", depth=canvas.depth.numpy()
            )
            if not self._exact:
                self._set_splats_visible(True)
        self._client.flush()
        if appears:
            time.sleep(DECODING)
            self._set_splats_visible(False)

    def _set_splats_visible(self, visible: bool) -> None:
        with self._client.atomic():
            for handle in self._splats.values():
                handle.visible = visible


def _same(old: tuple[Any, ...] | None, new: tuple[Any, ...]) -> bool:
    if old is None or old[0] is not new[0] or old[1] != new[1]:
        return False
    if old[2] is None or new[2] is None:
        return old[2] is new[2]
    return torch.equal(old[2].extrinsics, new[2].extrinsics)
