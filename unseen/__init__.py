"""Sample the 3D scenes that an image could belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from unseen.model import Model
    from unseen.networks.large import Precision

__version__ = "0.1.0"
__all__ = ["load"]


def load(
    model: str | Path,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    offload: bool = False,
) -> Model:
    """A trained model by bundled name, folder or hub name.

    See `unseen.checkpoints.model_folder.load_model`, which is imported on the first
    call so that `import unseen` stays quick.
    """
    from unseen.checkpoints.model_folder import load_model
    from unseen.model import Model

    return Model(load_model(model, device, precision, offload))
