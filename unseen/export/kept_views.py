"""Views that a run has finished: one that was interrupted goes on after them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from unseen.files import read_tensors, write_tensors
from unseen.methods.method import ViewKeeper


class KeptViews(ViewKeeper):
    """A hidden folder beside the results `out`, one for all that `determining` says.

    A run with other settings has another folder, so nothing is mixed up.
    """

    def __init__(self, out: str | Path, determining: Mapping[str, Any]) -> None:
        text = json.dumps(dict(determining), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        out = Path(out)
        self.folder = out.resolve().with_name(f".{out.name}.views-{digest}")

    def __len__(self) -> int:
        return len(list(self.folder.glob("[!.]*.safetensors")))

    def read(self, name: str) -> Float[Tensor, "batch 3 height width"] | None:
        """The images of this name, exactly as they were; None where there are none."""
        path = self.folder / f"{name}.safetensors"
        return read_tensors(path)[0]["images"] if path.is_file() else None

    def write(self, name: str, images: Float[Tensor, "batch 3 height width"]) -> None:
        """Keep images, whole or not at all."""
        write_tensors(self.folder / f"{name}.safetensors", {"images": images}, {})

    def remove(self) -> None:
        """Forget everything: the results hold it."""
        shutil.rmtree(self.folder, ignore_errors=True)
