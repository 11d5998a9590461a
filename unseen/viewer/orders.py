"""What one client wants sampled, and the samples that come of it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from unseen import __version__
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras, turn_cameras
from unseen.geometry.views import Views
from unseen.scenes.scene import Scene
from unseen.viewer.sample import Sample


@dataclasses.dataclass(frozen=True)
class Upload:
    """A picture that somebody gave, and the name that they know it by."""

    name: str
    content: bytes


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be sampled; None leaves a number to the model."""

    upload: Upload | None
    num: int
    seed: int
    steps: int | None
    guidance: float | None
    fov: float
    elevation: float
    model: str | None = None
    """What the command line calls the model."""
    target: float | None = None
    """Azimuth in degrees, the picture's being 0, where a model that must be told so
    completes the scene."""

    def cameras(self, given: Views | None) -> Cameras | None:
        """Where scenes are completed (1,), if the model is to be told."""
        if self.target is None or given is None:
            return None
        azimuth = torch.tensor([math.radians(self.target)])
        return turn_cameras(given.cameras[0], azimuth)

    def provenance(self) -> dict[str, Any]:
        """What determines the scenes, as `unseen sample` writes it."""
        given: dict[str, Any] = {}
        if self.upload is not None:
            digest = hashlib.sha256(self.upload.content).hexdigest()
            given = {"image_sha256": digest}
        names = ("model", "seed", "steps", "guidance", "fov", "elevation")
        own = {name: getattr(self, name) for name in names}
        if self.target is not None:
            given["target_azimuth"] = self.target
        return {**given, **own, "unseen": __version__}


@contextlib.contextmanager
def file_of(upload: Upload) -> Iterator[Path]:
    """The upload as a file; errors call it by its own name."""
    with tempfile.TemporaryDirectory() as folder:
        # The name is a stranger's, so it is not the file's.
        path = Path(folder) / "picture"
        path.write_bytes(upload.content)
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), upload.name)) from error


def order_samples(
    order: Order,
    scenes: Sequence[Scene],
    given: Views | None,
    others: Sequence[Sample],
) -> list[Sample]:
    """Samples of an order, with names that none of the others has."""
    stem = "no picture" if order.upload is None else Path(order.upload.name).stem[:24]
    title = f"{stem}, seed {order.seed}"
    taken = {sample.name for sample in others}
    number = 1
    while any(f"{_titled(title, number)}, {i}" in taken for i in range(len(scenes))):
        number += 1
    provenance = order.provenance()
    return [
        Sample(
            f"{_titled(title, number)}, {i}", scene, given, {**provenance, "sample": i}
        )
        for i, scene in enumerate(scenes)
    ]


def _titled(title: str, number: int) -> str:
    return title if number == 1 else f"{title} ({number})"
