"""Weights of networks that others trained, from a file or from the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from unseen.checkpoints.released_files import read_checkpoint, tensors_of
from unseen.errors import UserError
from unseen.files import read_tensors

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which models on the hub keep their weights, best first."""


def find_weights(
    source: str | Path, what: str, names: Sequence[str] = HUB_FILES
) -> Path:
    """The file that `source` means: a path, or an 'organisation/name' on the hub.

    A model on the hub is in its cache, or is fetched; `names` are the files to look
    for in it. `what` says what the weights are of, for messages.

    Raises:
        UserError: there is no such file, and none can be had from the hub.
    """
    path, source = Path(source), str(source)
    if path.is_file():
        return path
    parts = source.split("/")
    if len(parts) != 2 or not all(parts) or source.startswith((".", "~")):
        raise UserError(
            f"there is no file {source}: give one of {what}, or the "
            "'organisation/name' of a model on the Hugging Face hub."
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            f"'{source}' is no file here, and the hub needs huggingface_hub: run `pip "
            "install huggingface_hub`, or give a file."
        )
    from huggingface_hub import hf_hub_download

    reason = ""
    for name in names:
        try:
            return Path(hf_hub_download(source, name))
        # Whatever goes wrong (no such model, no such file, no network) is one answer.
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise UserError(
        f"'{source}' is no file here, and its weights are neither in the hub's cache "
        f"nor can they be fetched ({reason}): give a file."
    )


def read_weights(path: Path, what: str, mmap: bool = False) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file, without what wraps them.

    Nothing in the file is executed. `what` is for messages, as in `find_weights`,
    and `mmap` as in `read_checkpoint`.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    content: Any = read_checkpoint(path, what, mmap)
    for name in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    return tensors_of(content, None, path, what)
