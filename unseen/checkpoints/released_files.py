"""What importers of released weights share: reading safely, filling a method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UserError
from unseen.files import check_tensors


def read_checkpoint(path: str | Path, owner: str) -> dict[str, Any]:
    """The dictionary in a PyTorch file; nothing in the file is executed.

    `owner` names the system that the file should be of, for messages.

    Raises:
        UserError: the file is missing, cut short, not a checkpoint, holds more than
            tensors and plain values, or holds no dictionary.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}: give a checkpoint of {owner}.")
    try:
        content = torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors: "
            "download it again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold the weights of {owner}: give its file.")
    return content


def tensors_of(
    content: Mapping[str, Any], entry: str, path: str | Path, owner: str
) -> dict[str, Tensor]:
    """The tensors by name that `content` holds under `entry`.

    Raises:
        UserError: there is no such entry, or it holds something else.
    """
    found = content.get(entry)
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor)
        for name, value in found.items()
    ):
        raise UserError(
            f"{path} does not hold the weights of {owner}: it has no tensors under "
            f"'{entry}'."
        )
    return dict(found)


def fill(method: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Give a method its weights (in float32), and put it into evaluation mode.

    Raises:
        UserError: a tensor is missing, unknown, misshapen, or not finite.
    """
    check_tensors(method.state_dict(), tensors, path)
    method.load_state_dict({name: x.float() for name, x in tensors.items()})
    method.eval()
