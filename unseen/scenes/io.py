"""Scenes on disk: one safetensors file that reloads and renders identically.

The tensors are the scene's `tensors()`. The file's metadata holds one JSON text under
the key "unseen_scene": the format version, the name of the scene's class, its
`config()`, and the provenance (where the scene came from). Nothing is pickled, so a
file from a stranger can be loaded. The bytes depend on the scene and the provenance
only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.errors import UserError
from unseen.files import check_finite, read_tensors, write_tensors
from unseen.scenes.aligned_scene import AlignedRadianceScene
from unseen.scenes.coded_field import CodedFieldScene
from unseen.scenes.conditional_field import ConditionalFieldScene
from unseen.scenes.frustum_volume import FrustumVolumeScene
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.hash_grid import HashGridScene
from unseen.scenes.light_field import LightFieldScene
from unseen.scenes.motion import MotionScene
from unseen.scenes.ray_marched import RayMarchedScene
from unseen.scenes.scene import FieldScene, Scene
from unseen.scenes.triplane import TriplaneScene
from unseen.scenes.value_grid import ValueGridScene
from unseen.scenes.voxel_features import VoxelFeatureScene
from unseen.scenes.voxel_latent import VoxelLatentScene
from unseen.scenes.voxel_radiance import VoxelRadianceScene

FORMAT_VERSION = 1
KEY = "unseen_scene"

SCENE_CLASSES: Mapping[str, type[Scene]] = {
    "ConditionalFieldScene": ConditionalFieldScene,
    "FrustumVolumeScene": FrustumVolumeScene,
    "LightFieldScene": LightFieldScene,
    "RayMarchedScene": RayMarchedScene,
    "CodedFieldScene": CodedFieldScene,
    "VoxelLatentScene": VoxelLatentScene,
    "AlignedRadianceScene": AlignedRadianceScene,
    "VoxelFeatureScene": VoxelFeatureScene,
    "VoxelRadianceScene": VoxelRadianceScene,
    "GaussianScene": GaussianScene,
    "TriplaneScene": TriplaneScene,
    "MotionScene": MotionScene,
    "HashGridScene": HashGridScene,
    "ValueGridScene": ValueGridScene,
}
"""The representations that a file may name."""


def save_scene(
    scene: Scene, path: str | Path, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a scene as one safetensors file, whole or not at all.

    `provenance` is any JSON-serialisable mapping; the same scene and provenance give
    the same bytes. An existing file is replaced. Raises UserError if the path cannot
    be written.
    """
    header = {
        "version": FORMAT_VERSION,
        "class": type(scene).__name__,
        "config": scene.config(),
        "provenance": dict(provenance or {}),
    }
    # One key, because safetensors does not keep the order of several.
    metadata = {KEY: json.dumps(header, sort_keys=True, allow_nan=False)}
    write_tensors(path, scene.tensors(), metadata)


def load_scene(
    path: str | Path,
    device: torch.device | str = "cpu",
    classes: Mapping[str, type[Scene]] = SCENE_CLASSES,
) -> Scene:
    """Read a scene that `save_scene` wrote.

    `classes` are the representations to recognise, by name. Raises UserError for a
    file that is missing, is no scene, comes from a newer version, lacks a tensor, or
    holds numbers that are not finite.
    """
    tensors, header = _read(Path(path), device)
    scene_class = classes.get(header["class"])
    if scene_class is None:
        known = ", ".join(sorted(classes))
        raise UserError(
            f"{path} holds a scene of the unknown kind {header['class']!r}: this "
            f"version of unseen reads {known}."
        )
    check_finite(tensors, path)
    try:
        scene = scene_class.from_state(tensors, header["config"])
        _probe(scene)
        return scene
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is damaged: it does not make a {header['class']} "
            f"({what.splitlines()[0] if what else 'unknown reason'}); write the scene "
            "again."
        ) from error


@torch.no_grad()
def _probe(scene: Scene) -> None:
    """Use every tensor once, at one point, so that misshapen ones are found now."""
    middle = scene.bounds().mean(dim=0)
    if isinstance(scene, FieldScene):
        scene.evaluate(middle.expand(*scene.shape, 1, 3))


def scene_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance that was saved with a scene (see `load_scene` for errors)."""
    return _read(Path(path), "cpu")[1]["provenance"]


def _read(
    path: Path, device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a scene file."""
    tensors, metadata = read_tensors(path, device)
    return tensors, _parse_header(path, metadata)


def _parse_header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    wrong = UserError(
        f"{path} is a safetensors file but holds no scene: name a scene that unseen "
        "has saved."
    )
    try:
        header = json.loads(metadata[KEY])
    except (KeyError, json.JSONDecodeError) as error:
        raise wrong from error
    fields = {"version": int, "class": str, "config": dict, "provenance": dict}
    if not isinstance(header, dict) or not isinstance(header.get("version"), int):
        raise wrong
    if header["version"] > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of unseen (scene format "
            f"{header['version']}, this version reads up to {FORMAT_VERSION}): update "
            "unseen."
        )
    if not all(isinstance(header.get(k), kind) for k, kind in fields.items()):
        raise wrong
    return header
