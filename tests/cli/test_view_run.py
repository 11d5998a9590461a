"""`unseen view` on the folder of a distillation, which goes on meanwhile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.viewer.balls import viewing, wait_until
from unseen import configuration
from unseen.cli.view import open_target
from unseen.distillation.config import AnyRepresentation, DistillConfig
from unseen.distillation.forms import VSD
from unseen.distillation.ramp import ramp
from unseen.distillation.representations import GaussianCloud, HashGrid, ValueGrid
from unseen.distillation.run_folder import PRODUCER
from unseen.errors import UserError
from unseen.export.video import orbit_cameras
from unseen.files import write_tensors
from unseen.scenes.hash_grid import HashGridConfig
from unseen.scenes.value_grid import ValueGridScene
from unseen.viewer import server

CLOUD = GaussianCloud(60)
SCENES: dict[str, AnyRepresentation] = {
    "grid": HashGrid(HashGridConfig(), width=8, levels=ramp(0, 2, 6, 10), occupancy=4),
    "latents": ValueGrid(resolution=6, num_samples=8),
    "gaussians": CLOUD,
}


def start(folder: Path, representation: AnyRepresentation) -> Path:
    """What `unseen distill` makes before its first step."""
    settings = configuration.to_json(DistillConfig(representation, VSD()))
    folder.mkdir()
    document = {"producer": PRODUCER, "prompt": "a cup", "settings": settings}
    configuration.write_json(folder / "settings.json", document)
    return folder


def save(folder: Path, representation: AnyRepresentation, step: int, **more) -> dict:
    """A checkpoint, and the scene's tensors in it."""
    tensors = representation.start(torch.Generator().manual_seed(step))
    state = {f"scene.{name}": x for name, x in tensors.items()}
    state["optimizer.0.step"] = torch.ones(())
    path = folder / "checkpoint.safetensors"
    write_tensors(path, {**state, **more}, {"step": str(step)})
    return tensors


@pytest.mark.parametrize("name", SCENES)
def test_the_scene_of_the_last_checkpoint(tmp_path: Path, name: str) -> None:
    representation = SCENES[name]
    folder = start(tmp_path / "cup.run", representation)
    tensors = save(folder, representation, 7)
    shown = open_target(str(folder))
    assert shown.title == "cup.run" and shown.model is None
    (sample,) = shown.samples
    assert sample.name == "step 7"
    # However small the scene is at first, there is room for what it becomes.
    assert sample.sphere.radius == 1 and not sample.sphere.center.any()
    assert sample.provenance["prompt"] == "a cup" and sample.provenance["step"] == 7
    cameras, size = orbit_cameras(2, 40.0, 20.0), (8, 8)
    with torch.no_grad():
        expected = representation.scene(tensors, 7).render(cameras, size)
        found = sample.scene.render(cameras, size)
    assert torch.equal(found.color, expected.color)


def test_latents_have_the_colours_that_the_checkpoint_knows(tmp_path: Path) -> None:
    folder = start(tmp_path / "cup.run", SCENES["latents"])
    save(folder, SCENES["latents"], 1, **{"shown.to_color": torch.full((3, 5), 0.25)})
    scene = open_target(str(folder)).samples[0].scene
    assert isinstance(scene, ValueGridScene) and (scene.to_color == 0.25).all()


def test_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    folder = start(tmp_path / "cup.run", CLOUD)
    with pytest.raises(UserError, match="no checkpoint yet"):
        open_target(str(folder))
    checkpoint = folder / "checkpoint.safetensors"
    write_tensors(checkpoint, {"scene.means": torch.zeros(2, 3)}, {"step": "1"})
    with pytest.raises(UserError, match="does not belong to"):
        open_target(str(folder))
    checkpoint.write_bytes(checkpoint.read_bytes()[:50])
    with pytest.raises(UserError, match="damaged"):
        open_target(str(folder))


def test_newer_checkpoints_are_followed(tmp_path: Path) -> None:
    folder = start(tmp_path / "cup.run", CLOUD)
    save(folder, CLOUD, 2)
    shown = open_target(str(folder))
    assert shown.newer is not None and shown.newer() is None
    tensors = save(folder, CLOUD, 4)
    found = shown.newer()
    assert found is not None and found[0].name == "step 4"
    assert torch.equal(found[0].scene.tensors()["means"], tensors["means"])
    assert shown.newer() is None
    # Started anew: there is nothing for a while.
    checkpoint = folder / "checkpoint.safetensors"
    checkpoint.unlink()
    assert shown.newer() is None
    checkpoint.write_bytes(b"not yet")
    assert shown.newer() is None
    save(folder, CLOUD, 2)
    found = shown.newer()
    assert found is not None and found[0].name == "step 2"


def test_everybody_is_shown_what_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("viser", reason="viser is not installed")
    monkeypatch.setattr(server, "ASKED_AGAIN", 0.05)
    folder = start(tmp_path / "cup.run", CLOUD)
    save(folder, CLOUD, 2)
    with viewing(open_target(str(folder))) as viewer:
        seen: list[str] = []
        visit = SimpleNamespace(
            show=lambda samples: seen.append(samples[0].name), close=lambda: None
        )
        viewer._visits[-1] = visit  # type: ignore[assignment]
        save(folder, CLOUD, 4)
        wait_until(lambda: seen, 20)
        assert seen == ["step 4"]
        assert [sample.name for sample in viewer._studio.samples] == ["step 4"]
