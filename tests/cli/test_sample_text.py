"""`unseen sample --prompt`: views of a text, made together; `unseen eval` of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import save_plate
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.data.manifest import read_manifest
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.methods.mvdream import MVDream, MVDreamConfig, MVDreamSampling
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig
from unseen.networks.text import WordConfig

pytest.importorskip("diffusers", reason="diffusers is not installed")

CONFIG = MVDreamConfig(
    LatentUNetConfig(4, 4, (8, 16), (True, False), 1, 12, (1, 2), False, 4),
    AutoencoderConfig((8, 8), 1, groups=4, scale=1.0),
    WordConfig(32, 4, 12),
    image_size=16,
    sampling=MVDreamSampling(num_steps=2, guidance=2.0),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and a working folder of its own."""
    torch.manual_seed(0)
    method = MVDream(CONFIG)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    save_model(method, tmp_path / "model", {})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["unseen", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_views_of_a_text(folder: Path, monkeypatch) -> None:
    words = ["sample", "--model", folder / "model", "--prompt", "a crate", "--num", 2]
    more = ["--azimuth", 30, "--elevation", 10, "--out", "out"]
    assert run(monkeypatch, *words, *more) == 0
    out = Path("out")
    content = json.loads((out / "sample_01/cameras.json").read_text())
    assert [f["given"] for f in content["frames"]] == [False] * 4
    centers = np.array([f["camera_to_world"] for f in content["frames"]])[:, :3, 3]
    angles = np.degrees(np.arctan2(centers[:, 1], centers[:, 0])) % 360
    np.testing.assert_allclose(angles, [30, 120, 210, 300], atol=1e-3)
    heights = centers[:, 2] / np.linalg.norm(centers, axis=1)
    np.testing.assert_allclose(np.degrees(np.arcsin(heights)), 10, atol=1e-3)
    page = (out / "index.html").read_text()
    assert "a crate: 2 x 4 views" in page and "of no image" in page
    assert "--prompt &#x27;a crate&#x27;" in page
    assert not (out / "input.png").exists() and (out / "contact_sheet.png").exists()
    assert json.loads((out / "settings.json").read_text())["prompt"] == "a crate"
    # Another text gives other pictures.
    words = ["sample", "--model", folder / "model", "--prompt", "a mug", "--num", 1]
    assert run(monkeypatch, *words, *more[:4], "--out", "mug") == 0
    name = "sample_00/view_001.png"
    assert (Path("mug") / name).read_bytes() != (out / name).read_bytes()


def test_an_interrupted_run_goes_on(folder: Path, monkeypatch, capsys) -> None:
    words = ["sample", "--model", folder / "model", "--prompt", "a", "--num", 2]
    words += ["--views", 2, "--out", "out"]
    assert run(monkeypatch, *words) == 0
    expected = {p: p.read_bytes() for p in Path("out").rglob("*.png")}
    Path("out").rename("first")
    inner, calls = MVDream.sample_views, []

    def second_fails(self, *arguments, **more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(self, *arguments, **more)

    monkeypatch.setattr(MVDream, "sample_views", second_fails)
    assert run(monkeypatch, *words) == 130
    assert run(monkeypatch, *words) == 0
    assert len(calls) == 3
    assert {p: p.read_bytes() for p in Path("out").rglob("*.png")} == expected


def test_what_makes_no_sense_is_said(folder: Path, monkeypatch, capsys) -> None:
    save_plate(folder / "plate.png")
    model = ["--model", folder / "model"]
    for words, said in (
        (["sample", folder / "plate.png", *model], "out, and say what is wanted with"),
        (["sample", folder / "plate.png", "--prompt", "a"], "DFM takes no text"),
        (["sample", folder / "plate.png", *model, "--azimuth", 9], "leave out --azi"),
        (["sample", *model, "--prompt", " "], "the --prompt is empty"),
        (["sample", *model, "--azimuth", 400], "--azimuth must lie in"),
        (["sample", *model, "--views", 0], "--views must lie in"),
        (["sample", *model, "--steps", 2000], "takes 1 to 1000 steps"),
    ):
        assert run(monkeypatch, *words, "--out", "out") == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error
        assert not Path("out").exists()


def test_evaluation_asks_for_what_the_data_says(
    folder: Path, monkeypatch, capsys
) -> None:
    settings = ProceduralSettings(4, 16, categories=("crate", "mug"), supersample=1)
    write_procedural("data", 20, settings)
    asked: list[tuple] = []
    inner = MVDream.sample_views

    def spy(self, context, cameras, seeds, options=None, on_step=None):
        prompt = None if options is None else options.prompt
        asked.append((context.shape, cameras.shape, prompt))
        return inner(self, context, cameras, seeds, options, on_step)

    monkeypatch.setattr(MVDream, "sample_views", spy)
    words = ["eval", f"text={folder / 'model'}", "--data", "data", "--protocol"]
    words += ["random", "--objects", 3, "--views", 2, "--no-baselines"]
    assert run(monkeypatch, *words, "--out", "measured") == 0
    # Three scenes, and one frame whose cost is measured.
    manifest = read_manifest("data")
    assert manifest is not None
    scenes = sorted(r.id for r in manifest.objects if r.split == "test")
    captions = [name.split("-")[0] for name in scenes[:3]]
    assert [a[2] for a in asked] == [captions[0], *captions]
    assert all(a[:2] == ((1, 0), (1, 2)) for a in asked)
    results = json.loads(Path("measured/results.json").read_text())
    assert "text" in json.dumps(results) and "text" in capsys.readouterr().out


def test_half_precision(folder: Path, monkeypatch, capsys) -> None:
    words = ["sample", "--model", folder / "model", "--prompt", "a crate", "--num", 1]
    assert run(monkeypatch, *words, "--out", "exact") == 0
    assert run(monkeypatch, *words, "--precision", "bfloat16", "--out", "half") == 0
    exact, half = (
        np.asarray(Image.open(Path(out) / "sample_00/view_000.png")).astype(float)
        for out in ("exact", "half")
    )
    assert 0 < np.abs(exact - half).mean() < 5
    settings = json.loads(Path("half/settings.json").read_text())
    assert settings["precision"] == "bfloat16"
    assert "--precision bfloat16" in settings["command"]
    assert run(monkeypatch, *words, "--offload", "--device", "cpu", "--out", "gpu") == 2
    assert "offloading needs a GPU" in capsys.readouterr().err


def test_a_model_of_pixels_has_no_half_precision(monkeypatch, tmp_path, capsys) -> None:
    picture = save_plate(tmp_path / "plate.png")
    words = ["sample", picture, "--precision", "float16", "--out", tmp_path / "out"]
    assert run(monkeypatch, *words) == 2
    assert "DFM has no networks of latent diffusion" in capsys.readouterr().err
