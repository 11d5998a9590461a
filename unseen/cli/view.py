"""`unseen view`: scenes, and the sampling of them, in the browser."""

from __future__ import annotations

import dataclasses
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.viewer.studio import Exhibition

MODEL_FILES = ("config.json", "model/config.json")


@dataclasses.dataclass(frozen=True)
class View:
    """Look at scenes in the browser, or sample them there.

    Of a folder that `unseen sample` or `unseen demo` has written, and of a scene's
    file, the scenes are shown. Of the folder OUT.run of `unseen distill`, the scene of
    the last checkpoint is, and again when there is a newer one. Of a model, the page
    takes a picture, shows how its scenes are made step by step, and lets one keep,
    discard and download them.
    Needs the extra `viewer`: pip install 'unseen[viewer]'.
    """

    target: tyro.conf.Positional[str]
    """Folder of results, scene file, folder of a distillation that is under way, name
    of a bundled model, or a model's folder."""
    port: int = 8080
    """Port of the page."""
    host: str = "127.0.0.1"
    """Address to listen on. The default cannot be reached from other machines; with
    another one, everybody who reaches it may use the page."""
    open: bool = True
    """Open the page in a browser."""

    def run(self) -> None:
        """Serve until Ctrl-C."""
        if not 1 <= self.port <= 65535:
            raise UserError(f"--port must lie in 1 to 65535, not {self.port}.")
        # PyTorch takes seconds to import: `--help` and bad arguments need not wait.
        from unseen.viewer.server import Viewer, check_port, check_viser

        check_viser()
        check_port(self.host, self.port)
        exhibition = open_target(self.target)
        try:
            with Viewer(exhibition, self.host, self.port) as viewer:
                print(f"{viewer.address}\nCtrl-C ends it.", flush=True)
                if self.open:
                    webbrowser.open(viewer.address)
                threading.Event().wait()
        except KeyboardInterrupt:
            print()  # The terminal shows ^C on this line.


def open_target(target: str) -> Exhibition:
    """The scenes or the model that a path or a model's name stands for.

    Raises:
        UserError: it is neither, or cannot be read.
    """
    from unseen.cli.view_run import open_run
    from unseen.distillation.run_folder import is_run_folder
    from unseen.viewer.opening import is_result_folder, open_results, open_scene

    path = Path(target)
    if path.is_file():
        return open_scene(path)
    if path.is_dir():
        if is_run_folder(path):
            return open_run(path)
        if is_result_folder(path):
            return open_results(path)
        if not any((path / name).is_file() for name in MODEL_FILES):
            raise UserError(
                f"{path} holds neither scenes nor a model: name a folder that `unseen "
                "sample` has written, the .run folder of `unseen distill`, or the "
                "`model` folder of a training run."
            )
    elif path.suffix == ".safetensors":
        raise UserError(f"{path} does not exist: name a scene file.")
    return _open_model(target)


def _open_model(target: str) -> Exhibition:
    import unseen
    from unseen.cli.demo import example_images
    from unseen.methods.method import SceneMethod
    from unseen.training.trainer import choose_device
    from unseen.viewer.studio import Exhibition

    model = unseen.load(target, choose_device("auto"))
    if not isinstance(model.method, SceneMethod):
        raise UserError(
            f"the model {target} samples views and no scenes: name a model that "
            "samples scenes, such as vehicles-64."
        )
    title, example = Path(target).name, example_images()[0]
    return Exhibition(title, model=model, example=example, model_name=target)
