"""The part of a client's panel that says what is shown, and takes scenes away."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unseen.errors import UserError
from unseen.scenes.io import save_scene
from unseen.viewer.legend import describe_speed, frame_counter, legend
from unseen.viewer.modes import Mode, possible_modes
from unseen.viewer.sample import Sample
from unseen.viewer.session import Session, Speed
from unseen.viewer.studio import Studio

if TYPE_CHECKING:
    import viser

FORMATS = ("glb", "ply", "safetensors")
"""What a scene can be downloaded as: mesh, Gaussians, our own format."""


class ViewPanel:
    """Controls of one session's display."""

    def __init__(self, client: viser.ClientHandle, studio: Studio) -> None:
        self._client, self._studio = client, studio
        self._session = Session(client, studio, self._show_speed)
        # Samples that the next sampling does not replace.
        self._kept: set[Sample] = set(studio.samples)
        gui = client.gui
        with gui.add_folder("View"):
            self._mode = gui.add_dropdown("Show", [Mode.COLOR.value])
            self._legend = gui.add_html(legend(Mode.COLOR))
            self._side_by_side = gui.add_checkbox("Side by side", True)
            self._exact = gui.add_checkbox(
                "Exact at rest",
                True,
                hint="Replace the Gaussians by the exact rendering when nothing moves.",
            )
            self._input = gui.add_checkbox("Input camera", True)
            self._fov = gui.add_slider(
                "Field of view", min=10, max=100, step=1, initial_value=40
            )
            self._look = gui.add_button_group(
                "Look from", ["front", "left", "back", "right", "far"]
            )
        with gui.add_folder("Samples"):
            self._chosen = gui.add_dropdown("Chosen", ["–"])
            self._keep = gui.add_button("Keep", visible=False)
            self._discard = gui.add_button("Discard", visible=False)
            self._download = gui.add_button_group("Download", FORMATS)
        with gui.add_folder("Speed"):
            gui.add_html(frame_counter())
            self._speed = gui.add_html(describe_speed(Speed(0)))
        self._connect()

    def _connect(self) -> None:
        """What the controls do."""
        session = self._session
        self._mode.on_update(lambda _: self._set_mode(Mode(self._mode.value)))
        self._side_by_side.on_update(
            lambda _: self._set_side_by_side(self._side_by_side.value)
        )
        self._exact.on_update(lambda _: session.show(exact=self._exact.value))
        self._input.on_update(lambda _: session.show(show_input=self._input.value))
        self._fov.on_update(lambda _: self._set_fov(self._fov.value))
        self._look.on_click(lambda _: self._look_from(self._look.value))
        self._chosen.on_update(lambda _: session.show(selected=self.chosen))
        self._keep.on_click(lambda _: self._toggle_kept())
        self._discard.on_click(lambda _: self._discard_chosen())
        self._download.on_click(lambda _: self._download_chosen(self._download.value))

    def start(self) -> None:
        """Show what the studio has."""
        self._client.camera.fov = math.radians(self._fov.value)
        self.show_samples(self._studio.samples)
        self._session.start()

    def close(self) -> None:
        self._session.close()

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self._session.display.samples

    @property
    def kept(self) -> list[Sample]:
        """The samples that stay when new ones are made."""
        return [sample for sample in self.samples if sample in self._kept]

    @property
    def chosen(self) -> Sample | None:
        """The sample that buttons act on."""
        for sample in self.samples:
            if sample.name == self._chosen.value:
                return sample
        return self.samples[0] if self.samples else None

    def show_samples(self, samples: Sequence[Sample], unfinished: bool = False) -> None:
        """Replace the samples on show; `unfinished` ones are about to change."""
        many = len(samples) != len(self.samples)
        mode = self._session.display.mode
        if not unfinished:
            modes = possible_modes(samples)
            mode = mode if mode in modes else Mode.COLOR
            self._mode.options = [m.value for m in modes]
            self._mode.value = mode.value
        elif mode in (Mode.SPREAD, Mode.SEEN):
            mode = Mode.COLOR
        self._session.show(samples=tuple(samples), unfinished=unfinished, mode=mode)
        if many:
            self._session.look()
        self._update_buttons()

    def _update_buttons(self) -> None:
        names = [sample.name for sample in self.samples] or ["–"]
        if list(self._chosen.options) != names:
            self._chosen.options = names
        chosen, done = self.chosen, not self._session.display.unfinished
        has_model = self._studio.exhibition.model is not None
        self._keep.visible = self._discard.visible = has_model and chosen is not None
        self._keep.disabled = self._discard.disabled = not done
        self._keep.label = "Kept (click to release)" if chosen in self._kept else "Keep"
        self._download.visible = chosen is not None and done

    def _set_mode(self, mode: Mode) -> None:
        self._legend.content = legend(mode)
        self._session.show(mode=mode)

    def _set_side_by_side(self, value: bool) -> None:
        self._session.show(side_by_side=value)
        self._session.look()

    def _set_fov(self, degrees: float) -> None:
        self._client.camera.fov = math.radians(degrees)
        self._session.look()

    def _look_from(self, side: str) -> None:
        """Sides are those of an object whose front the input shows."""
        turns = {"front": 0, "left": -90, "back": 180, "right": 90, "far": 50}
        chosen = self.chosen
        elevation = 20.0
        if chosen is not None and chosen.given is not None:
            center = chosen.given.cameras.centers[0].cpu() - chosen.sphere.center
            elevation = math.degrees(math.asin(float(center[2] / center.norm())))
        # From afar the input camera is in view, too.
        self._session.look(
            math.radians(turns[side]),
            math.radians(elevation),
            farther=2.2 if side == "far" else 1.0,
        )

    def _toggle_kept(self) -> None:
        sample = self.chosen
        if sample is None:
            return
        if sample in self._kept:
            self._kept.discard(sample)
            self._studio.discard(sample)
        else:
            self._kept.add(sample)
            self._studio.keep(sample)
        self._update_buttons()

    def _discard_chosen(self) -> None:
        sample = self.chosen
        if sample is None:
            return
        self._kept.discard(sample)
        self._studio.discard(sample)
        self.show_samples([other for other in self.samples if other is not sample])

    def _download_chosen(self, suffix: str) -> None:
        sample = self.chosen
        if sample is None:
            return
        stem = re.sub(r"[^a-z0-9]+", "-", sample.name.lower()).strip("-") or "scene"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{stem}.{suffix}"
            try:
                if suffix == "safetensors":
                    save_scene(sample.scene, path, sample.provenance)
                else:
                    sample.scene.save(path)
            except UserError as error:
                self.complain(f"No {suffix} of {sample.name}", str(error))
                return
            content = path.read_bytes()
        self._client.send_file_download(path.name, content, save_immediately=True)

    def complain(self, title: str, text: str) -> None:
        """A message on the page."""
        self._client.add_notification(title, text, color="red")

    def _show_speed(self, speed: Speed) -> None:
        self._speed.content = describe_speed(speed)
