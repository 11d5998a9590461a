"""`unseen sample` and the viewer with a DFM that must be told where scenes go on."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

import unseen
from tests.encoders.test_pixel_aligned import CONFIG
from tests.pictures import save_plate
from tests.viewer.balls import wait_until
from tests.viewer.client import Client
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.data.cameras import object_camera
from unseen.export import result
from unseen.export.camera_paths import write_cameras
from unseen.geometry.cameras import Cameras, turn_cameras
from unseen.methods.dfm import DFM, DFMConfig, SampleConfig
from unseen.scenes.conditional_field import ConditionalFieldScene
from unseen.scenes.io import load_scene, scene_provenance
from unseen.viewer.orders import Upload
from unseen.viewer.sampling_panel import SamplingPanel
from unseen.viewer.studio import Exhibition, Studio
from unseen.viewer.view_panel import ViewPanel

SAMPLING = SampleConfig(num_steps=2, guidance=2.0, azimuths=())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model like the authors' for RealEstate10K, a picture, and a path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = DFM(DFMConfig(CONFIG, image_size=8, sampling=SAMPLING))
    save_model(method, tmp_path / "model", {})
    save_plate(tmp_path / "plate.png")
    names = {"file_path": ["a", "b"]}
    write_cameras(turned(10.0, 30.0), (8, 8), tmp_path / "path.json", names)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def turned(*degrees: float) -> Cameras:
    """The picture's camera, turned."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return turn_cameras(object_camera(40.0, 20.0)[0], angles)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    words = ["sample", str(folder / "plate.png"), "--model", str(folder / "model")]
    words += ["--num", "1", "--size", "16", "--frames", "3", *more]
    monkeypatch.setattr(sys, "argv", ["unseen", *words])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_scene_is_completed_at_the_cameras_of_a_file(
    folder: Path, monkeypatch, capsys
) -> None:
    # The surface of a network of random weights is all over the place, and slow.
    monkeypatch.setattr(result, "_write_geometry", lambda *_: (None, "left out"))
    path = str(folder / "path.json")
    assert run(monkeypatch, folder, "--path", path, "--out", "out") == 0
    file = Path("out/scene_00/scene.safetensors")
    scene = load_scene(file)
    assert isinstance(scene, ConditionalFieldScene)
    provenance = scene_provenance(file)
    assert len(provenance["cameras_sha256"]) == 64
    # What is rendered afterwards is a turn around the scene.
    frames = list(imageio_ffmpeg.read_frames("out/scene_00/orbit.mp4"))[1:]
    assert len(frames) == 3
    assert "path.json" in Path("out/index.html").read_text()
    # It is the scene that Python samples there, and not the one of another camera.
    model = unseen.load(folder / "model")
    picture = folder / "plate.png"

    def tensors(degrees: float) -> dict[str, torch.Tensor]:
        (found,) = model.sample_scenes(picture, num=1, cameras=turned(10.0, degrees))
        return found.tensors()

    same, other = tensors(30.0), tensors(60.0)
    for name, tensor in scene.tensors().items():
        torch.testing.assert_close(tensor, same[name], atol=1e-4, rtol=1e-4)
    assert any(
        not torch.allclose(tensor, other[name], atol=1e-3)
        for name, tensor in scene.tensors().items()
    )


def test_without_cameras_the_flag_is_named(folder: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder) == 2
    assert "--path" in capsys.readouterr().err
    assert run(monkeypatch, folder, "--views", "3") == 2
    assert "leave out --views" in capsys.readouterr().err
    assert run(monkeypatch, folder, "--path", "none.json") == 2
    assert "cannot read the camera path" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_path_for_a_model_that_needs_none_is_refused(
    folder: Path, monkeypatch, capsys
) -> None:
    more = ["--path", str(folder / "path.json"), "--model", "vehicles-64"]
    assert run(monkeypatch, folder, *more) == 2
    assert "vehicles-64 completes its scenes by itself" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_the_viewer_completes_a_scene_beside_the_picture(folder: Path) -> None:
    model = unseen.load(folder / "model")
    assert model.needs_cameras
    studio, client = Studio(Exhibition("m", model=model)), Client()
    sampling = SamplingPanel(client, studio, model)  # type: ignore[arg-type]
    view = ViewPanel(client, studio)  # type: ignore[arg-type]
    sampling.view = view
    controls = client.gui.controls
    assert controls["Complete at (°)"].visible
    picture = folder / "plate.png"
    sampling._take(Upload(picture.name, picture.read_bytes()))
    controls["Scenes"].value = 1
    sampling._start.use()
    wait_until(lambda: sampling._job is None)
    assert client.messages == [] and len(view.samples) == 1, client.messages
    (sample,) = view.samples
    assert sample.provenance["target_azimuth"] == 30.0
    (expected,) = model.sample_scenes(picture, num=1, cameras=turned(30.0))
    found = sample.scene.tensors()
    for name, tensor in expected.tensors().items():
        np.testing.assert_array_equal(found[name].numpy(), tensor.numpy())
    studio.close()
