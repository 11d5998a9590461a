"""Scenes reload and render identically; wrong files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.analytic_scene import BallScene, ball
from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.scenes.frustum_volume import FrustumVolumeScene
from unseen.scenes.io import KEY, load_scene, save_scene, scene_provenance

CLASSES = {"BallScene": BallScene}


def frustum_scene() -> FrustumVolumeScene:
    """One scene of a batch of two, with two views."""
    generator = torch.Generator().manual_seed(0)
    cameras = sphere_cameras(
        torch.tensor([0.0, 2.0]), torch.full((2,), 0.3), torch.tensor(0.7)
    )
    volumes = 3 * torch.randn(2, 2, 8, 8, 8, 6, generator=generator)
    batch = FrustumVolumeScene(volumes, cameras.expand(2, 2), torch.ones(3), 16)
    return batch[1]


def test_a_scene_reloads_and_renders_identically(tmp_path: Path):
    scene = frustum_scene()
    path = tmp_path / "scene.safetensors"
    save_scene(scene, path)
    loaded = load_scene(path)
    cameras = sphere_cameras(torch.tensor([1.0]), torch.zeros(1), torch.tensor(0.7))
    expected, found = (s.render(cameras, (12, 12)) for s in (scene, loaded))
    assert torch.equal(found.color, expected.color)
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(found.opacity, expected.opacity)
    # One scene of a batch does not drag the batch along.
    assert path.stat().st_size < 4 * scene.volumes.numel() + 4000


def test_other_classes_can_be_named(tmp_path: Path):
    path = tmp_path / "scene.safetensors"
    save_scene(ball(0.2, peak=30.0), path)
    loaded = load_scene(path, classes=CLASSES)
    assert isinstance(loaded, BallScene) and loaded.peak == 30.0
    assert float(loaded.center[0]) == pytest.approx(0.2)
    with pytest.raises(UserError, match="unknown kind 'BallScene'"):
        load_scene(path)


def test_bytes_depend_on_scene_and_provenance_only(tmp_path: Path):
    provenance = {"model": "m", "seed": 3}
    save_scene(ball(), tmp_path / "a", provenance)
    save_scene(ball(), tmp_path / "b", dict(reversed(provenance.items())))
    save_scene(ball(), tmp_path / "c", {"model": "m", "seed": 4})
    first, same, other = ((tmp_path / n).read_bytes() for n in "abc")
    assert first == same != other
    assert scene_provenance(tmp_path / "a") == provenance


def edit(path: Path, header: dict | None = None, **tensors: torch.Tensor | None):
    """Write a ball scene with changes of the header or of tensors (None: left out)."""
    save_scene(ball(), path)
    found, metadata = read_tensors(path)
    changed = {**found, **tensors}
    kept = {k: v for k, v in changed.items() if v is not None}
    text = json.dumps({**json.loads(metadata[KEY]), **(header or {})})
    write_tensors(path, kept, {KEY: text})


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"header": {"version": 2}}, "newer version"),
        ({"header": {"class": "Other"}}, "unknown kind"),
        ({"header": {"config": None}}, "holds no scene"),
        ({"header": {"version": "one"}}, "holds no scene"),
        ({"header": {"config": {"peak": 1.0, "color": 2}}}, "damaged"),
        ({"center": None}, "'center' is missing"),
        ({"center": torch.tensor([0.0, float("nan"), 0.0])}, "not finite"),
        ({"center": torch.zeros(2)}, "damaged"),
    ],
)
def test_wrong_scene_files(tmp_path: Path, changes: dict, reason: str):
    path = tmp_path / "scene.safetensors"
    edit(path, **changes)
    with pytest.raises(UserError, match=reason) as caught:
        load_scene(path, classes=CLASSES)
    message = str(caught.value)
    assert str(path) in message and message.endswith(".") and "\n" not in message


def test_files_that_are_no_scenes(tmp_path: Path):
    text, model = tmp_path / "text", tmp_path / "model"
    text.write_text("not a scene")
    write_tensors(model, {"weight": torch.ones(2)}, {})
    garbled = tmp_path / "garbled"
    write_tensors(garbled, {"weight": torch.ones(2)}, {KEY: "{"})
    for path in (text, model, garbled, tmp_path / "missing", tmp_path):
        with pytest.raises(UserError):
            load_scene(path)
