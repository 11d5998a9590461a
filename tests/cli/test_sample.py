"""`unseen sample` and `unseen demo`, with a model that needs no weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import unseen
from tests.analytic_scene import BallScene, SkyScene, ball
from tests.pictures import bad_pictures, save_plate
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli.demo import Demo, example_images
from unseen.cli.main import main
from unseen.data.image_input import load_object_image
from unseen.geometry.views import Views
from unseen.methods import registry
from unseen.methods.method import SampleOptions
from unseen.model import SampleWarning
from unseen.scenes.io import load_scene, scene_provenance

SMALL = ["--num", "2", "--size", "16", "--frames", "2"]


class BallModel:
    """Scenes whose size depends on the seed and on their number in the row."""

    makes_scenes = True

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def sample_scenes(self, image, num, seed, progress, **settings) -> list[BallScene]:
        self.asked = {"image": image, "num": num, "seed": seed, **settings}
        load_object_image(image, 32)
        for i in range(num):
            progress(i + 1, num)
        return [ball(0.1 * i, radius=0.3 + 0.01 * seed) for i in range(num)]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BallModel:
    """The model that `unseen.load` finds, in a working folder of its own."""
    found = BallModel()
    monkeypatch.setattr(unseen, "load", lambda name, *more: found)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return found


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of `unseen ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["unseen", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def assert_refused(status: int, captured, reason: str) -> None:
    """One sentence on the error stream, a non-zero status, no other files."""
    assert status == 2
    lines = [line for line in captured.err.splitlines() if line.startswith("unseen: ")]
    assert len(lines) == 1 and reason in lines[0] and lines[0].endswith(".")
    assert "Traceback" not in captured.err and captured.out == ""
    assert os.listdir() == []


def test_sample(model, monkeypatch, capsys, tmp_path: Path):
    image = save_plate(tmp_path / "my plate.png")
    arguments = ["sample", str(image), *SMALL, "--seed", "7", "--steps", "5"]
    arguments += ["--guidance", "2.5", "--fov", "35", "--elevation", "10"]
    assert run(monkeypatch, *arguments) == 0
    assert model.asked == {
        "image": image,
        "num": 2,
        "seed": 7,
        "steps": 5,
        "guidance": 2.5,
        "fov": 35.0,
        "elevation": 10.0,
        "noise_level": None,
        "hidden": None,
        "cameras": None,
    }
    out = Path("unseen-my plate")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"Open {out / 'index.html'} in a browser."
    paths = [Path(line) for line in lines[:-2]]
    assert sorted(paths) == sorted(p for p in out.rglob("*") if p.is_file())
    provenance = scene_provenance(out / "scene_01" / "scene.safetensors")
    assert provenance["seed"] == 7 and provenance["sample"] == 1
    assert "num" not in provenance
    settings = json.loads((out / "settings.json").read_text())
    assert settings["output"]["fov"] == 35.0


def test_the_noted_command_makes_the_same_results(
    model, monkeypatch, capsys, tmp_path: Path
):
    import shlex

    image = save_plate(tmp_path / "it's a plate.png")
    run(monkeypatch, "sample", str(image), *SMALL, "--seed", "3", "--out", "first")
    settings = json.loads(Path("first/settings.json").read_text())
    words = shlex.split(settings["command"])
    assert words[0] == "unseen" and words[-2:] == ["--out", "first"]
    assert run(monkeypatch, *words[1:-1], "again") == 0
    for path in Path("first").rglob("*.*"):
        if path.name not in ("settings.json", "index.html"):
            other = Path("again") / path.relative_to("first")
            assert other.read_bytes() == path.read_bytes(), path


BAD = [
    "missing.png",
    "text.png",
    "truncated.jpg",
    "one.png",
    "huge.png",
    "clear.png",
    "white.png",
]


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(model, monkeypatch, capsys, tmp_path: Path, name: str):
    path, reason = bad_pictures(tmp_path)[name]
    status = run(monkeypatch, "sample", str(path), *SMALL)
    captured = capsys.readouterr()
    assert_refused(status, captured, reason)
    assert model.asked == {}
    # No bar has been drawn yet: the sentence stands alone.
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    "option, value",
    [
        ("num", "0"),
        ("seed", "-1"),
        ("steps", "0"),
        ("guidance", "nan"),
        ("fov", "180"),
        ("elevation", "90"),
        ("size", "4"),
        ("frames", "1"),
    ],
)
def test_bad_numbers(
    model, monkeypatch, capsys, tmp_path: Path, option: str, value: str
):
    image = save_plate(tmp_path / "plate.png")
    status = run(monkeypatch, "sample", str(image), f"--{option}", value)
    assert_refused(status, capsys.readouterr(), f"--{option} must lie in")


def test_an_unknown_model(monkeypatch, capsys, tmp_path: Path):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    image = save_plate(tmp_path / "plate.png")
    status = run(monkeypatch, "sample", str(image), "--model", "no-such")
    assert_refused(status, capsys.readouterr(), "no-such")


def test_existing_results(model, monkeypatch, capsys, tmp_path: Path):
    image = save_plate(tmp_path / "plate.png")
    arguments = ["sample", str(image), *SMALL, "--out", "out"]
    assert run(monkeypatch, *arguments) == 0
    before = Path("out/scene_00/scene.safetensors").read_bytes()
    model.asked = {}
    assert run(monkeypatch, *arguments, "--seed", "1") == 2
    assert "--overwrite" in capsys.readouterr().err
    # Refused before the slow part, and nothing was touched.
    assert model.asked == {}
    assert Path("out/scene_00/scene.safetensors").read_bytes() == before
    assert run(monkeypatch, *arguments, "--seed", "1", "--overwrite") == 0
    assert Path("out/scene_00/scene.safetensors").read_bytes() != before


def test_an_output_folder_that_cannot_be(model, monkeypatch, capsys, tmp_path: Path):
    image = save_plate(tmp_path / "plate.png")
    out = str(image / "out")
    status = run(monkeypatch, "sample", str(image), *SMALL, "--out", out)
    assert_refused(status, capsys.readouterr(), "cannot write")
    assert model.asked == {}


def test_a_busy_picture_is_noted_once(model, monkeypatch, capsys, tmp_path: Path):
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "busy.png")
    assert run(monkeypatch, "sample", str(tmp_path / "busy.png"), *SMALL) == 0
    assert capsys.readouterr().err.count("used as it is") == 1


def test_demo(model, monkeypatch, capsys, tmp_path: Path):
    image = save_plate(tmp_path / "plate.png")
    monkeypatch.setattr("unseen.cli.demo.example_images", lambda: [image])
    assert run(monkeypatch, "demo", "--num", "1") == 0
    assert "Open unseen-demo/index.html" in capsys.readouterr().out
    assert model.asked["image"] == image and model.asked["num"] == 1
    assert Demo().num == 4


def test_example_images_are_pictures():
    assert example_images()
    for path in example_images():
        assert float(load_object_image(path, 32).mask.mean()) > 0.05


SLOW_MODEL = """
    import sys, time
    import unseen
    from tests.analytic_scene import ball

    class SlowModel:
        makes_scenes = True

        def sample_scenes(self, image, progress, **settings):
            return [ball(num_samples=200)]

    unseen.load = lambda name, *more: SlowModel()
    from unseen.cli.main import main
    main()
"""


def test_ctrl_c_in_the_middle(tmp_path: Path):
    """A real process, interrupted while it writes, leaves nothing behind."""
    image = save_plate(tmp_path / "plate.png")
    out = tmp_path / "made" / "out"
    words = ["sample", str(image), "--out", str(out), "--frames", "2000"]
    command = [sys.executable, "-c", textwrap.dedent(SLOW_MODEL), *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, stdout=-1, stderr=-1, text=True, env=environment
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("made/.out.partial-*/scene_00")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "unseen: interrupted" in errors and "Traceback" not in errors
    assert output == ""
    assert sorted(os.listdir(tmp_path)) == ["plate.png"]


class OneScene(BallModel):
    """A deterministic model, which says so."""

    def sample_scenes(self, image, num, seed, progress, **settings) -> list[BallScene]:
        if num is not None and num > 1:
            warnings.warn("one scene and not 3", SampleWarning, stacklevel=1)
        return super().sample_scenes(image, 1, seed, progress, **settings)


def test_more_scenes_than_there_are(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(unseen, "load", lambda name, *more: OneScene())
    monkeypatch.chdir(tmp_path)
    image = str(save_plate(tmp_path / "plate.png"))
    small = ["--size", "16", "--frames", "2", "--out"]
    assert run(monkeypatch, "sample", image, "--num", "3", *small, "three") == 0
    assert capsys.readouterr().err.count("note: one scene and not 3") == 1
    assert run(monkeypatch, "sample", image, *small, "default") == 0
    assert "note" not in capsys.readouterr().err
    for out in ("three", "default"):
        assert not (tmp_path / out / "scene_01").exists()
        assert "plate.png: 1 scene<" in (tmp_path / out / "index.html").read_text()
        assert json.loads((tmp_path / out / "settings.json").read_text())["num"] == 1


def test_a_method_that_fits_codes_from_end_to_end(monkeypatch, capsys, tmp_path: Path):
    """A model folder of a method without field, depth, guidance and randomness."""
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    method = SkyDecoder(SkyConfig(num_objects=3))
    save_model(method, "model", {})
    image = save_plate(tmp_path / "plate.png")
    words = ["sample", str(image), "--model", "model", "--size", "16", "--frames", "2"]
    assert run(monkeypatch, *words, "--steps", "3", "--num", "2", "--out", "out") == 0
    assert "SkyDecoder is deterministic, so there is one" in capsys.readouterr().err
    files = sorted(p.name for p in Path("out").rglob("*") if p.is_file())
    expected = "contact_sheet.png index.html input.png orbit.mp4 scene.safetensors"
    assert files == [*expected.split(), "settings.json"]
    path = Path("out/scene_00/scene.safetensors")
    scene = load_scene(path, classes={"SkyScene": SkyScene})
    given = unseen.load("model").context(image)
    context = Views(given.images[None], given.cameras[None])
    expected = method.sample_scene(context, [0], options=SampleOptions(num_steps=3))
    torch.testing.assert_close(scene.tensors()["tint"], expected.tint[0])
    assert scene_provenance(path)["steps"] == 3
    wrong = ["--guidance", "2", "--out", "new"]
    assert run(monkeypatch, *words, *wrong) == 2
    assert "has no classifier-free guidance" in capsys.readouterr().err
    assert not Path("new").exists()


def test_a_full_gpu_is_one_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    def load(name: str, *more: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB\nlong text")

    monkeypatch.setattr(unseen, "load", load)
    image = save_plate(tmp_path / "plate.png")
    monkeypatch.setattr(sys, "argv", ["unseen", "sample", str(image), "--out", "x"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("unseen: the GPU's memory is full")
    assert "20 GiB" in lines[-1] and "long text" not in lines[-1]
