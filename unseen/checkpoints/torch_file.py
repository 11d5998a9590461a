"""Files of PyTorch from elsewhere: read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UserError
from unseen.files import check_tensors


def read_torch_file(path: str | Path) -> Any:
    """What a file of `torch.save` holds: tensors, numbers, texts and containers.

    Raises:
        UserError: the file is missing, cut short, no such file, or holds objects that
            only running code could rebuild.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}: give the path of a checkpoint.")
    try:
        return torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors: "
            "download it again."
        ) from error


def fill(method: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Put tensors that were read from `path` into a module, all of them.

    Raises:
        UserError: one is missing, unknown, of the wrong shape, or not finite.
    """
    check_tensors(method.state_dict(), tensors, path)
    method.load_state_dict(dict(tensors))
