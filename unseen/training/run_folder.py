"""The folder of a training run: what was asked for, and by which software.

`config.json` holds the preset's name and every setting, `versions.json` one entry per
start of the run (the first and each resume). Beside them lie `log.jsonl`,
`checkpoints/`, `samples/`, `tensorboard/` and, when the run is done, `model/`.
"""

from __future__ import annotations

import dataclasses
import datetime
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unseen import __version__
from unseen.configuration import from_json, read_json, to_json, write_json
from unseen.errors import UserError
from unseen.training.preset import Preset

# What may not change between two starts of one run: the weights would not fit, or
# data would repeat.
_FIXED = ("seed", "batch_size", "accumulate")


@dataclasses.dataclass(frozen=True)
class Run:
    """What `config.json` says."""

    preset: str
    method: str
    settings: Preset
    data: tuple[str, ...]
    weights: tuple[float, ...] = ()
    init: str | None = None
    encoder: str | None = None
    prepared: str | None = None


def check_new(folder: Path) -> None:
    """Refuse to start a run where something is already.

    Raises:
        UserError: the folder has something in it, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not empty: choose another folder, or continue the "
            "run in it with --resume."
        )


def write_run(folder: Path, run: Run, step: int) -> None:
    """Write `config.json` and add this start to `versions.json`."""
    path = folder / "versions.json"
    starts = read_json(path)["starts"] if path.is_file() else []
    write_json(path, {"starts": [*starts, {"step": step, **versions()}]})
    write_json(folder / "config.json", to_json(run))


def read_run(folder: Path, method_configs: Mapping[str, type]) -> Run:
    """Read the `config.json` of a run.

    Args:
        folder: The run folder.
        method_configs: Configuration classes by method name.

    Raises:
        UserError: the folder holds no run, or one of a method that is not known.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no run to resume (there is no {path.name} in it): check "
            "the folder or leave out --resume."
        )
    value = read_json(path)
    try:
        config_class = method_configs[value["method"]]
        settings = dict(value["settings"])
        method = from_json(config_class, settings.pop("method"), f"{path}: method")
        preset = from_json(Preset, settings | {"method": None}, f"{path}: settings")
        return Run(
            value["preset"],
            value["method"],
            dataclasses.replace(preset, method=method),
            tuple(value["data"]),
            tuple(value["weights"]),
            value["init"],
            value.get("encoder"),
            value.get("prepared"),
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the configuration of a run that this version of unseen "
            f"knows ({error}): check the folder."
        ) from error


def check_resumable(old: Preset, new: Preset) -> None:
    """Refuse changes that would not continue the run but make another one.

    Raises:
        UserError: names the setting.
    """
    for field in dataclasses.fields(Preset):
        if field.name not in ("train", "description"):
            _check_same(field.name, getattr(old, field.name), getattr(new, field.name))
    for name in _FIXED:
        _check_same(name, getattr(old.train, name), getattr(new.train, name))


def _check_same(name: str, old: Any, new: Any) -> None:
    if old != new:
        raise UserError(
            f"a resumed run cannot change '{name}' (it was {old}): start a new run for "
            "that."
        )


def versions() -> dict[str, Any]:
    """The software and machine that run now."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "unseen": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"


def _commit() -> str | None:
    """The commit of the checkout that the package runs from, '+' when changed."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # A checkout of something else may surround an installed package.
        if not git("ls-files", str(Path(__file__))):
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
