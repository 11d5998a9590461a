"""Checkpoints of a training run: one safetensors file each, whole or not there.

A file holds the tensors `model.NAME`, `ema.NAME` and `optimizer.NAME.KEY`, and in its
header the rest of the state as JSON. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UserError
from unseen.files import check_tensors, read_tensors, write_tensors
from unseen.training.ema import ExponentialAverage
from unseen.training.optimizer import load_optimizer_tensors, optimizer_tensors

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Trainable:
    """The three things whose tensors a checkpoint holds."""

    method: nn.Module
    average: ExponentialAverage
    optimizer: torch.optim.Optimizer


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    found = []
    for path in folder.glob("step-*.safetensors"):
        match = re.fullmatch(r"step-(\d+)\.safetensors", path.name)
        if match:
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def save_checkpoint(
    folder: Path, step: int, trainable: Trainable, state: dict[str, Any], keep: int
) -> Path:
    """Write `step-STEP.safetensors` and then delete all but the newest `keep`.

    Args:
        folder: Where checkpoints lie; made where it is missing.
        step: Finished optimizer steps.
        trainable: What is trained.
        state: The JSON-serialisable rest.
        keep: How many checkpoints stay (1 or more).

    Raises:
        UserError: the file cannot be written; older checkpoints are then untouched.
    """
    tensors = {f"model.{k}": v for k, v in trainable.method.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in trainable.average.tensors().items()}
    moments = optimizer_tensors(trainable.optimizer, trainable.method)
    tensors |= {f"optimizer.{k}": v for k, v in moments.items()}
    state = state | {
        "format_version": FORMAT_VERSION,
        "step": step,
        "ema_updates": trainable.average.updates,
        "optimizer_tensors": len(moments),
    }
    path = folder / f"step-{step:08d}.safetensors"
    write_tensors(path, tensors, {"state": json.dumps(state)})
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    # What a kill in the middle of writing may have left.
    for partial in folder.glob(".partial-*"):
        partial.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path, trainable: Trainable) -> dict[str, Any]:
    """Restore method, average and optimizer; return the JSON state.

    Nothing is changed unless the whole file is sound.

    Raises:
        UserError: the file is missing, truncated, of another model or of a newer
            version, or a tensor in it is missing, extra, misshapen or not finite.
    """
    tensors, metadata = read_tensors(path)
    state = _read_state(path, metadata)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        if group not in groups:
            raise UserError(
                f"{path} holds an unknown tensor '{name}': it is not a checkpoint."
            )
        groups[group][rest] = tensor
    _check(path, trainable, state, groups)

    # Copies into the present tensors, so that memory layout and device stay.
    trainable.method.load_state_dict(groups["model"])
    trainable.average.load(groups["ema"], state["ema_updates"])
    load_optimizer_tensors(trainable.optimizer, trainable.method, groups["optimizer"])
    return state


def _read_state(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        state = json.loads(metadata["state"])
        version = int(state["format_version"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a checkpoint of a training run: give the run's own file."
        ) from error
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of unseen (checkpoint format "
            f"{version}, this one reads {FORMAT_VERSION}): update unseen."
        )
    return state


def _check(
    path: Path,
    trainable: Trainable,
    state: dict[str, Any],
    groups: dict[str, dict[str, Tensor]],
) -> None:
    """Compare every tensor of the file with what it will be copied to."""
    parameters = dict(trainable.method.named_parameters())
    expected = {f"model.{k}": v for k, v in trainable.method.state_dict().items()}
    expected |= {f"ema.{k}": v for k, v in trainable.average.tensors().items()}
    found = {f"model.{k}": v for k, v in groups["model"].items()}
    found |= {f"ema.{k}": v for k, v in groups["ema"].items()}
    for full_name, tensor in groups["optimizer"].items():
        name, _, key = full_name.rpartition(".")
        if name in parameters:
            expected[f"optimizer.{full_name}"] = (
                torch.zeros(()) if key == "step" else parameters[name]
            )
        found[f"optimizer.{full_name}"] = tensor
    check_tensors(expected, found, path)
    if len(groups["optimizer"]) != state["optimizer_tensors"]:
        raise UserError(
            f"{path} lacks tensors of the optimizer ({len(groups['optimizer'])} of "
            f"{state['optimizer_tensors']}): resume from an older checkpoint."
        )
