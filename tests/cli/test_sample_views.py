"""`unseen sample` with a model that samples views: results, and going on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import unseen
from tests.pictures import save_plate
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.export.camera_paths import write_cameras
from unseen.methods.threedim import ThreeDiM, ThreeDiMConfig, ViewSamplingConfig
from unseen.model import Model
from unseen.networks.xunet import XUNetConfig

NETWORK = XUNetConfig(8, (1, 2), 1, (False, True), 2, 16, 4, 0.0, 3, 2)
CONFIG = ThreeDiMConfig(NETWORK, 16, sampling=ViewSamplingConfig(2, 2.0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, a picture beside it, and a working folder of its own."""
    torch.manual_seed(0)
    method = ThreeDiM(CONFIG)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    save_model(method, tmp_path / "model", {})
    save_plate(tmp_path / "plate.png")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    words = ["sample", str(folder / "plate.png"), "--model", str(folder / "model")]
    words += ["--out", "out", "--num", "2", "--views", "3", *more]
    monkeypatch.setattr(sys, "argv", ["unseen", *words])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_results(folder: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder) == 0
    lines = capsys.readouterr().out.splitlines()
    out = Path("out")
    found = sorted(p for p in out.rglob("*") if p.is_file())
    assert sorted(Path(line) for line in lines[:-2]) == found
    names = {str(p.relative_to(out)) for p in found}
    assert {"index.html", "contact_sheet.png", "input.png", "settings.json"} <= names
    content = json.loads((out / "sample_01/cameras.json").read_text())
    assert [f["given"] for f in content["frames"]] == [True, False, False, False]
    centers = np.array([f["camera_to_world"] for f in content["frames"]])[:, :3, 3]
    angles = np.degrees(np.arctan2(centers[:, 1], centers[:, 0])) % 360
    np.testing.assert_allclose(angles, [0, 90, 180, 270], atol=1e-3)
    frames = list(imageio_ffmpeg.read_frames(str(out / "sample_01/views.mp4")))[1:]
    assert len(frames) == 4
    pictures = [np.array(Image.open(out / f"sample_0{i}/view_002.png")) for i in (0, 1)]
    assert pictures[0].shape == (16, 16, 3)
    assert not np.array_equal(*pictures)
    assert "no mesh and no splats" in (out / "index.html").read_text()
    # Nothing is left beside the results, which can be replaced.
    assert [p.name for p in Path().iterdir()] == ["out"]
    assert run(monkeypatch, folder) == 2 and "--overwrite" in capsys.readouterr().err
    assert run(monkeypatch, folder, "--overwrite") == 0


def test_an_interrupted_run_goes_on(folder: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder) == 0
    expected = {p: p.read_bytes() for p in Path("out").rglob("*.png")}
    Path("out").rename("first")
    capsys.readouterr()
    inner, calls = ThreeDiM.sample_view, []

    def interrupted(self, *arguments, **more):
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(self, *arguments, **more)

    monkeypatch.setattr(ThreeDiM, "sample_view", interrupted)
    assert run(monkeypatch, folder) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not Path("out").exists() and len(list(Path().glob(".out.views-*"))) == 1
    # Only the third view is left to do, and it is what it would have been.
    assert run(monkeypatch, folder) == 0
    assert len(calls) == 4 and "going on" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in Path("out").rglob("*.png")} == expected
    assert not list(Path().glob(".out.views-*"))


def test_kept_views_of_other_settings_are_not_used(folder: Path, monkeypatch) -> None:
    def stop(self, *arguments, **more):
        raise KeyboardInterrupt

    inner, calls = ThreeDiM.sample_view, []

    def first_only(self, *arguments, **more):
        calls.append(1)
        return stop(self) if len(calls) > 1 else inner(self, *arguments, **more)

    monkeypatch.setattr(ThreeDiM, "sample_view", first_only)
    assert run(monkeypatch, folder) == 130
    monkeypatch.setattr(ThreeDiM, "sample_view", inner)
    assert run(monkeypatch, folder, "--seed", "1") == 0
    # What the other run left stays for it.
    assert len(list(Path().glob(".out.views-*"))) == 1


def test_from_python(folder: Path) -> None:
    model = unseen.load(folder / "model")
    assert not model.makes_scenes
    reports: list[tuple[int, int]] = []
    image = folder / "plate.png"
    samples = model.sample_views(
        image, num_views=2, num=5, seed=3, progress=lambda *r: reports.append(r)
    )
    assert len(samples) == 5 and samples[0].images.shape == (2, 3, 16, 16)
    assert reports == [(i + 1, 8) for i in range(8)]
    # Sample i depends on the seed and i, not on their number.
    fewer = model.sample_views(image, num_views=2, num=1, seed=3)
    assert torch.equal(fewer[0].images, samples[0].images)
    assert not torch.allclose(samples[0].images, samples[1].images)
    cameras = samples[0].cameras
    same = model.sample_views(image, cameras, num=1, seed=3)
    torch.testing.assert_close(same[0].images, samples[0].images)


def test_views_along_a_path(folder: Path, monkeypatch, capsys) -> None:
    """The cameras of a file, in its order and its world."""
    where = sphere_cameras(
        torch.tensor([2.0, 0.5]), torch.tensor([0.1, 0.9]), torch.tensor(0.6)
    )
    write_cameras(where, (16, 16), folder / "path.json", {"file_path": ["a", "b"]})
    words = ["sample", str(folder / "plate.png"), "--model", str(folder / "model")]
    words += ["--out", "out", "--num", "1", "--path", str(folder / "path.json")]
    monkeypatch.setattr(sys, "argv", ["unseen", *words])
    main()
    content = json.loads(Path("out/sample_00/cameras.json").read_text())
    frames = content["frames"][1:]
    assert len(frames) == 2 and "path.json" in Path("out/index.html").read_text()
    for index, frame in enumerate(frames):
        expected = where.extrinsics[index].numpy()
        np.testing.assert_allclose(frame["camera_to_world"], expected, atol=1e-5)
        assert frame["near"] == pytest.approx(float(where.near[index]), abs=1e-5)
    # The views are those that Python samples there.
    (expected,) = unseen.load(folder / "model").sample_views(
        folder / "plate.png", where, num=1
    )
    picture = torch.from_numpy(np.array(Image.open("out/sample_00/view_002.png")))
    truth = (expected.images[1].permute(1, 2, 0) * 255).round()
    assert float((picture - truth).abs().max()) <= 2
    assert run(monkeypatch, folder, "--path", str(folder / "path.json")) == 2
    assert "leave one out" in capsys.readouterr().err


def test_what_makes_no_sense_is_said(folder: Path, monkeypatch, capsys) -> None:
    model = unseen.load(folder / "model")
    with pytest.raises(UserError, match="samples views and no scenes"):
        model.sample_scenes(folder / "plate.png")
    with pytest.raises(UserError, match="at least one view"):
        model.sample_views(folder / "plate.png", num_views=0)
    assert isinstance(model, Model)
    assert run(monkeypatch, folder, "--views", "0") == 2
    assert "--views must lie in" in capsys.readouterr().err
