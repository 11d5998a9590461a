"""Files that are whole or absent, and tensors on disk that are checked when read.

Nothing half-written ever looks finished, and nothing is pickled.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from unseen.errors import UserError

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space or write elsewhere",
    errno.EACCES: "permission is denied: choose a place that you may write to",
    errno.EPERM: "permission is denied: choose a place that you may write to",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another path",
    errno.EEXIST: "a file of that name is in the way: choose another path",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}

TEMPORARY = ".partial-"
"""How the names of files begin that are not whole yet."""


@contextlib.contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `path` into UserErrors."""
    try:
        yield
    except OSError as error:
        code = error.errno if error.errno is not None else 0
        reason = _REASONS.get(code) or (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {path}, because {reason}.") from error


def check_place(path: str | Path) -> None:
    """Raise UserError, before any work is done, if nothing could be made at `path`.

    Says whether a missing file or folder, parents included, may be made there.
    """
    parent = next(p for p in Path(path).resolve().parents if p.exists())
    if not parent.is_dir():
        raise UserError(
            f"cannot write {path}, because {parent} is a file: name another place."
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(
            f"cannot write {path}, because {parent} may not be written to: name "
            "another place."
        )


def make_folder(path: str | Path) -> Path:
    """Make a folder and its parents where they are missing; UserError if it cannot."""
    with write_errors(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` if the block succeeds.

    The temporary file lies in the same folder (made where it is missing) and has the
    same suffix. At the end it is synced and renamed, so that an older file at `path`
    is replaced in one step. It is removed if anything, Ctrl-C included, ends the
    block. A full disk, a folder that cannot be written to and the like are UserErrors.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}{path.suffix}")
    make_folder(path.parent)
    try:
        with write_errors(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


# The names of types in safetensors files, in the order in which tensors lie there: the
# last ones first, so that all of them are aligned.
_TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole or not at all.

    The bytes depend on the arguments only, if `metadata` has one key at most (the
    format does not keep the order of several). Views of other tensors and shared
    storage are fine. One tensor at a time is copied, so that models which barely fit
    into memory can be written.
    """
    order = list(_TYPES)
    names = sorted(tensors, key=lambda n: (-order.index(tensors[n].dtype), n))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def read_tensors(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises UserError if it is missing, is no such file, or was cut short.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist or is no file: name another one.")
    try:
        with safetensors.safe_open(path, "pt", device=str(device)) as file:
            names = list(file.keys())
            return {n: file.get_tensor(n) for n in names}, file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a safetensors file, or it is damaged: name another one, "
            "or write it again."
        ) from error


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise UserError if a tensor that was read from `path` holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{path} is damaged: its tensor '{name}' holds numbers that are not "
                "finite; use another file, or write it again."
            )


def check_tensors(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path
) -> None:
    """Raise UserError unless `found`, read from `path`, is like `expected`.

    Names and shapes must be the same, and all numbers finite.
    """
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    for problem, names in (("lacks", missing), ("has an unknown", extra)):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UserError(
                f"{path} {problem} tensor '{names[0]}'{more}: it does not belong to "
                "this model."
            )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise UserError(
                f"{path} does not belong to this model: its tensor '{name}' has shape "
                f"{tuple(found[name].shape)} where {tuple(tensor.shape)} is expected."
            )
    check_finite(found, path)
