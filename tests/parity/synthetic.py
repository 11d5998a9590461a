"""Synthetic checkpoints: every tensor is a function of its official name and shape.

No released weights are needed to show that an implementation computes what the
published one does: both are filled by this rule, and their outputs compared.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

FIXTURES = Path(__file__).parent.parent / "fixtures"


def fixture_folder(system: str) -> Path:
    """The folder of a system's golden numbers; skips the test where there is none."""
    roots = [Path(os.environ.get("UNSEEN_PARITY_DIR", FIXTURES)), FIXTURES]
    for root in roots:
        if (root / system / "outputs.npz").is_file():
            return root / system
    pytest.skip(f"no parity fixture '{system}': set UNSEEN_PARITY_DIR")


def load_meta(folder: Path) -> dict:
    return json.loads((folder / "meta.json").read_text())


def load_arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def synthetic_tensor(
    key: str, shape: tuple[int, ...], dtype: str, salt: str = "", scale: float = 1.0
) -> Tensor:
    """The weight rule; `scale` multiplies the whole value."""
    if not dtype.startswith(("float", "bfloat")):
        return torch.from_numpy(np.zeros(shape, dtype))
    seed = zlib.crc32((salt + key).encode())
    w = np.random.Generator(np.random.PCG64(seed)).standard_normal(
        shape, dtype=np.float32
    )
    w = np.asarray(w, np.float32)
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        w = 1 + 0.1 * np.abs(w)
    elif last == "running_mean":
        w = 0.1 * w
    elif w.ndim >= 2:
        w = w * np.float32(0.6 / np.sqrt(float(np.prod(shape[1:]))))
    elif w.ndim == 1 and last == "weight":
        w = 1 + 0.1 * w
    else:
        w = 0.1 * w
    return torch.from_numpy((np.float32(scale) * w).astype(np.float32))


def synthetic_state_dict(folder: Path) -> dict[str, Tensor]:
    """Official keys, without those that the published code computes."""
    meta, keys = load_meta(folder), json.loads((folder / "keys.json").read_text())
    scales = meta.get("scale_overrides", {})
    return {
        key: synthetic_tensor(
            key, tuple(entry["shape"]), entry["dtype"], meta["salt"], scales.get(key, 1)
        )
        for key, entry in keys.items()
        if not entry.get("computed", False)
    }
