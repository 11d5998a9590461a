"""The folder of a distillation that is under way: what lies there, and its scene."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from unseen.configuration import from_json, read_json
from unseen.distillation.config import DistillConfig
from unseen.errors import UserError
from unseen.files import check_finite, read_tensors
from unseen.scenes.scene import Scene

PRODUCER = "unseen distill"
SETTINGS, CHECKPOINT = "settings.json", "checkpoint.safetensors"
SCENE, SHOWN = "scene.", "shown."
"""How the names of a checkpoint's tensors begin: of the scene, and what replaces some
of these where it is looked at without the prior."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The scene () of a checkpoint, after `step` steps, on the CPU.

    `settings` are all that it depends on besides.
    """

    scene: Scene
    step: int
    settings: dict[str, Any]


def is_run_folder(folder: Path) -> bool:
    """Whether `unseen distill` keeps a run there."""
    try:
        return read_json(folder / SETTINGS).get("producer") == PRODUCER
    except UserError:
        return False


def read_snapshot(folder: Path) -> Snapshot:
    """The scene of a run's last checkpoint, made without the prior.

    Raises:
        UserError: there is no checkpoint yet, or a file is damaged.
    """
    marker, path = folder / SETTINGS, folder / CHECKPOINT
    settings = read_json(marker)
    if not path.is_file():
        raise UserError(
            f"{folder} has no checkpoint yet, so there is no scene to show: wait until "
            "`unseen distill` has done the steps of its --checkpoint-every."
        )
    found = settings.get("settings")
    # How the scene is optimised does not matter here.
    kind = found.get("representation") if isinstance(found, dict) else None
    only = {"representation": kind}
    representation = from_json(DistillConfig, only, str(marker)).representation
    tensors, metadata = read_tensors(path)
    check_finite(tensors, path)
    own = {
        name.removeprefix(start): x
        for start in (SCENE, SHOWN)
        for name, x in tensors.items()
        if name.startswith(start)
    }
    try:
        step = int(metadata["step"])
        scene = representation.scene(own, step)
        scene.bounds()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} does not belong to {marker}: go on with the command that made "
            "the run, or name another folder."
        ) from error
    rest = {name: x for name, x in settings.items() if name != "producer"}
    return Snapshot(scene, step, rest)
