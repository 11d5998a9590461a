"""The part of a client's panel that turns a picture into scenes."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unseen.data.image_input import load_object_image
from unseen.errors import UserError
from unseen.export.colormap import to_bytes
from unseen.model import DEFAULT_NUM, Model, StepReport
from unseen.viewer.jobs import Job, Stopped
from unseen.viewer.orders import Order, Upload, file_of, order_samples
from unseen.viewer.studio import Studio
from unseen.viewer.view_panel import ViewPanel

if TYPE_CHECKING:
    import viser

PREVIEW = 192
"""Pixels: the input as the panel shows it."""
MOST = 16
"""Scenes that can be asked for at once."""
NEXT_VIEW = 30.0
"""Degrees: far enough to see something new, near enough to see the same."""


class SamplingPanel:
    """Upload, settings, the sampling job of one client, and its progress."""

    def __init__(
        self, client: viser.ClientHandle, studio: Studio, model: Model
    ) -> None:  # length: the list of the controls, one after the other
        self._client, self._studio, self._model = client, studio, model
        self._upload: Upload | None = None
        self._job: Job | None = None
        # The other part comes below, and its samples are this part's.
        self.view: ViewPanel | None = None
        gui = client.gui
        method = model.method
        options = method.sample_options
        takes_picture = method.max_context != 0
        self._needs_picture = method.min_context > 0
        with gui.add_folder("Sample scenes from a picture"):
            self._choose = gui.add_upload_button(
                "Choose a picture", mime_type="image/*", visible=takes_picture
            )
            self._example = gui.add_button(
                "Use the example",
                visible=takes_picture and studio.exhibition.example is not None,
            )
            self._image = gui.add_image(
                np.full((8, 8, 3), 255, np.uint8), format="png", visible=False
            )
            self._num = gui.add_number(
                "Scenes",
                DEFAULT_NUM if model.method.stochastic else 1,
                min=1,
                max=MOST,
                step=1,
                visible=model.method.stochastic,
            )
            self._seed = gui.add_number("Seed", 0, min=0, max=2**31 - 1, step=1)
            self._steps = gui.add_number(
                "Steps",
                0,
                min=0,
                max=10_000,
                step=1,
                hint="0 is the model's own number.",
                visible="num_steps" in options,
            )
            self._guidance = gui.add_number(
                "Guidance",
                0.0,
                min=0.0,
                max=20.0,
                step=0.1,
                hint="Strength of classifier-free guidance: 1 is none, 0 the model's "
                "own.",
                visible="guidance" in options,
            )
            self._fov = gui.add_number(
                "Picture's view (°)",
                40.0,
                min=1.0,
                max=150.0,
                step=1.0,
                hint="Full field of view that the picture was taken with.",
            )
            self._elevation = gui.add_number(
                "Elevation (°)",
                20.0,
                min=-89.0,
                max=89.0,
                step=1.0,
                hint="By how much the camera looked down on the object.",
            )
            self._target = gui.add_number(
                "Complete at (°)",
                NEXT_VIEW,
                min=-180.0,
                max=180.0,
                step=5.0,
                hint="Azimuth of the view that is sampled; the picture's is 0. What is "
                "seen from there, and not in the picture, is made up.",
                visible=model.needs_cameras,
            )
            self._start = gui.add_button("Sample", disabled=self._needs_picture)
            self._stop = gui.add_button("Stop", color="red", visible=False)
            self._progress = gui.add_progress_bar(0, visible=False)
            self._status = gui.add_markdown(
                "Choose a picture of one object."
                if self._needs_picture
                else "This model samples objects without a picture, too."
            )
        self._choose.on_upload(lambda _: self._take_upload())
        self._example.on_click(lambda _: self._take_example())
        self._start.on_click(lambda _: self._submit())
        self._stop.on_click(lambda _: self.stop())

    # ---- The picture ----------------------------------------------------------------

    def _take_upload(self) -> None:
        file = self._choose.value
        self._take(Upload(Path(file.name).name or "picture", file.content))

    def _take_example(self) -> None:
        path = self._studio.exhibition.example
        assert path is not None
        self._take(Upload(path.name, path.read_bytes()))

    def _take(self, upload: Upload) -> None:
        """Show a picture as the model will see it, or say why it cannot be used."""
        try:
            with file_of(upload) as path:
                found = load_object_image(path, PREVIEW)
        except UserError as error:
            self._complain(upload, error)
            return
        self._upload = upload
        self._image.image = to_bytes(found.image).permute(1, 2, 0).contiguous().numpy()
        self._image.visible = True
        self._start.disabled = self._job is not None
        note = (
            " Its background is not plain, so it is used as it is."
            if float(found.mask.min()) == 1
            else ""
        )
        self._say(f"{upload.name}: this is what the model sees.{note}")

    def _complain(self, upload: Upload | None, error: UserError) -> None:
        text = str(error)
        what = "This picture cannot be used" if upload else "This cannot be sampled"
        if self.view is not None:
            self.view.complain(what, text)
        name = f"{upload.name} cannot be used" if upload else what
        self._say(f"**{name}:** {text}")

    def _say(self, text: str) -> None:
        self._status.content = text

    # ---- The job --------------------------------------------------------------------

    def _submit(self) -> None:
        """Queue a job with the settings of this moment."""
        if not self._ready or self._job is not None:
            return
        order = Order(
            self._upload,
            int(self._num.value),
            int(self._seed.value),
            int(self._steps.value) or None,
            float(self._guidance.value) or None,
            float(self._fov.value),
            float(self._elevation.value),
            self._studio.exhibition.model_name,
            float(self._target.value) if self._model.needs_cameras else None,
        )
        self._set_running(True)
        self._job = Job(lambda job: self._work(job, order), self._say_waiting)
        self._studio.jobs.submit(self._job)

    def _say_waiting(self, before: int) -> None:
        jobs = "another sampling job" if before == 1 else f"{before} sampling jobs"
        self._say(f"Waiting for {jobs}.")

    def stop(self) -> None:
        """Ask the job, if there is one, to end; what it has made so far stays."""
        if self._job is not None:
            self._job.stop()
            self._say("Stopping after this step.")

    @property
    def _ready(self) -> bool:
        """Whether all is there that sampling needs."""
        return self._upload is not None or not self._needs_picture

    def _set_running(self, running: bool) -> None:
        self._start.disabled = running or not self._ready
        self._stop.visible = self._progress.visible = running
        self._progress.value = 0

    def _work(self, job: Job, order: Order) -> None:
        """Runs in the queue's thread."""
        try:
            job.check()
            self._say("Sampling.")
            count = self._sample(job, order)
            self._say(f"{count} scene{'s' * (count != 1)}. Keep what you like.")
        except Stopped:
            self._say("Stopped.")
        except UserError as error:
            self._complain(order.upload, error)
        except Exception as error:
            # The page says so; the other clients go on.
            traceback.print_exc()
            self._say(f"**Sampling failed:** {type(error).__name__}: {error}")
        finally:
            self._job = None
            self._set_running(False)
            if self.view is not None:
                self.view.show_samples(self.view.samples)

    def _sample(self, job: Job, order: Order) -> int:
        """Sample, showing the scenes of every step; how many there are."""
        view = self.view
        assert view is not None
        kept = view.kept
        with contextlib.ExitStack() as opened:
            path, given = None, None
            if order.upload is not None:
                path = opened.enter_context(file_of(order.upload))
                given = self._model.context(path, order.fov, order.elevation).to("cpu")

            def report(step: StepReport) -> None:
                job.check()
                self._progress.value = 100 * step.done / step.total
                self._say(f"Step {step.done} of {step.total}.")
                view.show_samples(
                    kept + order_samples(order, step.scenes, given, kept),
                    unfinished=True,
                )

            scenes = self._model.sample_scenes(
                path,
                order.num,
                order.seed,
                order.steps,
                order.guidance,
                order.fov,
                order.elevation,
                on_step=report,
                cameras=order.cameras(given),
            )
        view.show_samples(kept + order_samples(order, scenes, given, kept))
        return len(scenes)
