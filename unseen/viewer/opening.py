"""What `unseen view` is given, on disk, as what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unseen.data.cameras import object_camera
from unseen.errors import UserError
from unseen.export.result_folder import MARKER
from unseen.geometry.views import Views
from unseen.scenes.io import load_scene, scene_provenance
from unseen.viewer.sample import Sample
from unseen.viewer.studio import Exhibition

SCENE_SUFFIX = ".safetensors"


def is_result_folder(path: Path) -> bool:
    """Whether a folder looks like one that `unseen sample` wrote."""
    return (path / MARKER).is_file() or any(path.glob(f"scene_*/scene{SCENE_SUFFIX}"))


def open_scene(path: Path) -> Exhibition:
    """One scene file; see `load_scene` for errors."""
    return Exhibition(path.name, [_read_sample(path, path.stem, path.parent.parent)])


def open_results(folder: Path) -> Exhibition:
    """All scenes of a folder that `unseen sample` wrote, with the input picture.

    Raises UserError if there are none, or one is damaged or of a newer version.
    """
    paths = sorted(folder.glob(f"scene_*/scene{SCENE_SUFFIX}"))
    if not paths:
        raise UserError(
            f"{folder} holds no scenes (scene_00/scene{SCENE_SUFFIX} and so on): name "
            "a folder that `unseen sample` has written."
        )
    samples = [
        _read_sample(path, f"sample {i}", folder) for i, path in enumerate(paths)
    ]
    return Exhibition(folder.resolve().name, samples)


def _read_sample(path: Path, name: str, folder: Path) -> Sample:
    scene = load_scene(path)
    provenance = scene_provenance(path)
    return Sample(name, scene, _read_input(provenance, folder), provenance)


def _read_input(provenance: Mapping[str, Any], folder: Path) -> Views | None:
    """The input view (1,), if there was one and the scene says how it was taken.

    Its picture is white where the folder of results is not around the scene.
    """
    try:
        camera = object_camera(float(provenance["fov"]), float(provenance["elevation"]))
    except (KeyError, TypeError, ValueError, UserError):
        return None
    image = torch.ones(1, 3, 64, 64)
    picture = folder / "input.png"
    if (folder / MARKER).is_file():
        if not picture.exists():
            return None  # Sampled without a picture.
        try:
            pixels = np.array(Image.open(picture).convert("RGB"))
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        except (OSError, ValueError):
            pass  # Scenes are shown without it.
    return Views(image, camera)
