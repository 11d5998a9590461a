"""What importers of released weights share: reading safely, making a method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.errors import UserError
from unseen.files import check_tensors
from unseen.methods.registry import METHODS, build_method, method_name

LIGHTNING = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
"""Classes that the checkpoints of PyTorch Lightning mention beside their tensors."""


class _Nothing:
    """Stands for a class that a file mentions: it keeps nothing and does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_checkpoint(
    path: str | Path, owner: str, mmap: bool = False, mentioned: Sequence[str] = ()
) -> dict[str, Any]:
    """The dictionary in a PyTorch file; nothing in the file is executed.

    `owner` names the system that the file should be of, for messages. `mmap` leaves
    tensors on the disk until they are used. Classes that are `mentioned`, by their full
    names, are not imported: something empty takes their place.

    Raises:
        UserError: the file is missing, cut short, not a checkpoint, holds more than
            tensors and plain values, or holds no dictionary.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}: give a checkpoint of {owner}.")
    harmless: list[Any] = [(_Nothing, name) for name in mentioned]
    try:
        with torch.serialization.safe_globals(harmless):
            content = torch.load(path, "cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors: "
            "download it again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold the weights of {owner}: give its file.")
    return content


def tensors_of(
    content: Mapping[str, Any], entry: str | None, path: str | Path, owner: str
) -> dict[str, Tensor]:
    """The tensors by name that `content` holds under `entry`, or itself (None).

    Raises:
        UserError: there is no such entry, or it holds something else.
    """
    found = content if entry is None else content.get(entry)
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor)
        for name, value in found.items()
    ):
        where = "" if entry is None else f" under '{entry}'"
        raise UserError(
            f"{path} does not hold the weights of {owner}: it has no tensors{where}, "
            "or not only tensors."
        )
    return dict(found)


def count_blocks(names: Iterable[str], pattern: str) -> int:
    """One more than the largest number that `pattern`'s group finds in names, or 0."""
    found = (re.match(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def filled(config: Any, tensors: Mapping[str, Tensor], path: str | Path) -> Any:
    """The method of a configuration with weights (to float32), in evaluation mode.

    A method that can be made empty takes the tensors as they are, on the disk or not,
    and no memory for others.

    Raises:
        UserError: a tensor is missing, unknown, misshapen, or not finite.
    """
    empty = METHODS[method_name(config)][0].made_empty
    # All weights are about to be replaced: the caller's generator stays untouched.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if empty else "cpu"):
        method = build_method(config)
    check_tensors(method.state_dict(), tensors, path)
    method.load_state_dict(
        {n: x.float() if x.is_floating_point() else x for n, x in tensors.items()},
        assign=empty,
    )
    return method.eval()
