"""The run of `unseen distill`: its folder, log, previews and checkpoints."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from unseen.cli.progress import Bar, progress_bars
from unseen.configuration import read_json, write_json
from unseen.data.image_input import load_object_image
from unseen.distillation.colors import with_colors
from unseen.distillation.distiller import Distiller, StepReport
from unseen.distillation.run_folder import CHECKPOINT, PRODUCER, SETTINGS, SHOWN
from unseen.errors import UserError
from unseen.export.colormap import to_bytes
from unseen.export.result import ResultOptions, write_results
from unseen.export.video import orbit_cameras
from unseen.files import atomic_file, make_folder, read_tensors, write_tensors
from unseen.training.interrupt import StopRequest
from unseen.training.random import derive_generator
from unseen.training.run_log import read_log

if TYPE_CHECKING:
    from unseen.cli.distill import Distill
    from unseen.distillation.config import DistillConfig
    from unseen.distillation.prior import ViewPrior
    from unseen.geometry.views import Views
    from unseen.scenes.scene import Scene

INPUT_SIZE = 256
"""Pixels: the input as the contact sheet and the page show it."""
PREVIEW_SIZE, PREVIEW_VIEWS = 96, 4


class DistillRun:
    """One distillation, which goes on from its last checkpoint.

    Its folder OUT.run holds settings.json (all that the scene depends on), log.jsonl,
    previews/ and checkpoint.safetensors.
    """

    def __init__(
        self,
        command: Distill,
        prior: ViewPrior,
        config: DistillConfig,
        given: Views | None,
    ) -> None:
        self._command, self._prior, self._config = command, prior, config
        self._folder = command.out.with_name(f"{command.out.name}.run")
        self._distiller = Distiller(
            prior,
            config,
            lambda step: derive_generator(command.seed, step),
            command.prompt,
            given,
        )

    def run(self) -> list[Path]:
        """Work until the end, and return what was written.

        Raises:
            UserError: the scene collapsed, or the folder holds another run.
            KeyboardInterrupt: someone asked to stop; the same command goes on.
        """
        command, config = self._command, self._config
        first = self._open_folder()
        with progress_bars() as progress:
            if first:
                progress.console.print(
                    f"unseen: note: going on after step {first} in {self._folder}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            bar = Bar(progress, "Distilling")
            bar.report(first, config.steps)
            with StopRequest() as stop:
                for step in range(first, config.steps):
                    self._step(step)
                    bar.report(step + 1, config.steps)
                    if stop.requested:
                        self._save(step + 1)
                        raise KeyboardInterrupt(
                            f"stopped after step {step + 1}: the same command goes on."
                        )
            if first < config.steps:
                self._save(config.steps)
            shown = None
            if command.image is not None:
                shown = load_object_image(command.image, INPUT_SIZE).image
            return write_results(
                command.out,
                [_on_cpu(self._scene(config.steps))],
                shown,
                command.origin(config),
                ResultOptions(
                    command.size,
                    command.frames,
                    fov=command.fov,
                    elevation=command.elevation,
                ),
                command.overwrite,
                Bar(progress, "Writing results").report,
            )

    # ---- The folder -----------------------------------------------------------------

    def _open_folder(self) -> int:
        """Make the folder, or go on in it; the number of steps that are done."""
        folder, settings = self._folder, self._command.determining(self._config)
        marker = folder / SETTINGS
        wanted = json.loads(json.dumps({"producer": PRODUCER, **settings}))
        if folder.exists() and any(folder.iterdir()):
            found = read_json(marker) if marker.is_file() else {}
            if found.get("producer") != PRODUCER:
                raise UserError(
                    f"{folder} holds files that are no run of unseen: name another "
                    "--out."
                )
            done = self._done()
            # Ramps count from the start, so a longer run begins as this one did.
            if _but_steps(found) == _but_steps(wanted) and done <= self._config.steps:
                write_json(marker, wanted)
                return self._resume()
            if not self._command.overwrite:
                raise UserError(
                    f"{folder} holds a run with other settings "
                    f"({_difference(found, wanted)}): name another --out, remove that "
                    "folder, or start anew with --overwrite."
                )
            shutil.rmtree(folder)
        make_folder(folder / "previews")
        write_json(marker, wanted)
        return 0

    @property
    def _checkpoint(self) -> Path:
        return self._folder / CHECKPOINT

    def _done(self) -> int:
        """The steps that the checkpoint has behind it."""
        if not self._checkpoint.is_file():
            return 0
        return int(read_tensors(self._checkpoint)[1].get("step", 0))

    def _resume(self) -> int:
        """Load the checkpoint, if there is one, and cut the log there."""
        path, first = self._checkpoint, self._done()
        if path.is_file():
            tensors, _ = read_tensors(path, self._prior.device)
            try:
                self._distiller.load_state(tensors)
            except (ValueError, KeyError, RuntimeError) as error:
                raise UserError(
                    f"{path} does not belong to this run ({error}): remove "
                    f"{self._folder} and start anew."
                ) from error
        log = self._folder / "log.jsonl"
        lines = [json.dumps(entry) + "\n" for entry in read_log(log, first)]
        with atomic_file(log) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
        return first

    def _save(self, done: int) -> None:
        tensors = self._distiller.state()
        if self._config.representation.latents:
            # The colours of latents, for those who look without the prior.
            colors = self._scene(done).tensors()["to_color"]
            tensors[f"{SHOWN}to_color"] = colors
        write_tensors(self._checkpoint, tensors, {"step": str(done)})

    # ---- A step ---------------------------------------------------------------------

    def _step(self, step: int) -> None:
        command, done = self._command, step + 1
        logged = done % command.log_every == 0 or done == self._config.steps
        started = time.perf_counter()
        report = self._distiller.step(step, with_norms=logged)
        if logged:
            self._log(report, time.perf_counter() - started)
        if done % command.preview_every == 0 or done == self._config.steps:
            self._preview(done)
        # Previews come first: what a checkpoint says is done has its preview.
        if done % command.checkpoint_every == 0:
            self._save(done)

    def _log(self, report: StepReport, seconds: float) -> None:
        entry: dict[str, Any] = {"step": report.step + 1}
        entry |= {f"loss/{name}": x for name, x in report.terms.items()}
        entry |= {f"gradient/{name}": x for name, x in report.norms.items()}
        entry |= {"opacity": report.opacity, "t": report.t, "seconds": seconds}
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _scene(self, step: int) -> Scene:
        """The scene in colours, which a scene of latents gets by decoding some."""
        scene = self._distiller.scene(step)
        cameras = orbit_cameras(PREVIEW_VIEWS, 40.0, 20.0).to(self._prior.device)
        return with_colors(scene, self._prior, cameras)

    @torch.no_grad()
    def _preview(self, done: int) -> None:
        """A picture of the scene from around, above its opacity."""
        cameras = orbit_cameras(PREVIEW_VIEWS, 40.0, 20.0).to(self._prior.device)
        found = self._scene(done).render(cameras, (PREVIEW_SIZE, PREVIEW_SIZE))
        assert found.opacity is not None
        color = torch.cat(list(found.color.clamp(0, 1)), dim=-1)
        opacity = torch.cat(list(found.opacity), dim=-1).expand(3, -1, -1)
        rows = torch.cat([color, opacity.clamp(0, 1)], dim=-2).cpu()
        picture = to_bytes(rows).permute(1, 2, 0).contiguous().numpy()
        path = self._folder / "previews" / f"step-{done:06d}.png"
        with atomic_file(path) as temporary:
            Image.fromarray(picture).save(temporary)


def _on_cpu(scene: Scene) -> Scene:
    """The same scene where exporters expect it."""
    tensors = {name: x.cpu() for name, x in scene.tensors().items()}
    return type(scene).from_state(tensors, scene.config())


def _but_steps(settings: dict[str, Any]) -> dict[str, Any]:
    """What a run depends on, without how long it is."""
    inner = settings.get("settings")
    kept = {k: v for k, v in inner.items() if k != "steps"} if inner else inner
    return {**settings, "settings": kept}


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    """The first setting that differs, and how."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                inner = f"{name}.{key}".strip(".")
                return _difference(found.get(key), wanted.get(key), inner)
    return f"{name.removeprefix('settings.')}: {found} there, {wanted} now"
