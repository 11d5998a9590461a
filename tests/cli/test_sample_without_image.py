"""`unseen sample` without an image: a prior over objects, and models that need one."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import unseen
from tests.analytic_scene import BallScene
from tests.pictures import save_plate
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.methods import registry
from unseen.methods.method import SceneMethod
from unseen.scenes.io import SCENE_CLASSES, load_scene, scene_provenance
from unseen.viewer.opening import open_results


@dataclasses.dataclass(frozen=True)
class BallPriorConfig:
    image_size: int = 8


class BallPrior(SceneMethod):
    """Balls, whose radius is all that differs."""

    min_context: ClassVar[int] = 0
    max_context: ClassVar[int | None] = 0
    sample_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BallPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.radius = nn.Parameter(torch.tensor(0.4))

    def loss(self, example, generator):
        raise AssertionError("nothing is trained here")

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        assert context.shape == (1, 0)
        generator = torch.Generator().manual_seed(seeds[0])
        radius = self.radius.detach() + 0.3 * torch.rand((), generator=generator)
        return _Batch([BallScene(torch.zeros(3), radius)])


class _Batch(list):
    """Scenes that can be indexed, which is all that is asked of a batch here."""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(registry.METHODS, "BallPrior", (BallPrior, BallPriorConfig))
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    monkeypatch.setitem(SCENE_CLASSES, "BallScene", BallScene)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    save_model(BallPrior(BallPriorConfig()), "balls/model", {})
    save_model(SkyDecoder(SkyConfig(num_objects=3)), "skies", {})
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of `unseen sample ARGUMENTS`."""
    small = ["--size", "16", "--frames", "2"]
    monkeypatch.setattr(sys, "argv", ["unseen", "sample", *arguments, *small])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_results_of_no_image(work: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "--model", "balls/model", "--num", "2") == 0
    out = work / "unseen-balls"
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*.*"))
    each = ["mesh.glb", "orbit.mp4", "orbit_depth.mp4", "scene.safetensors"]
    each.append("splats.ply")
    expected = [f"scene_0{i}/{name}" for i in range(2) for name in each]
    assert names == [
        "contact_sheet.png",
        "index.html",
        *expected,
        "settings.json",
    ]
    page = (out / "index.html").read_text()
    assert "2 scenes that the model sampled without an image." in page
    assert "The input image" not in page and "<h1>balls: 2 scenes</h1>" in page
    settings = json.loads((out / "settings.json").read_text())
    assert "image" not in settings and "image_sha256" not in settings
    first, second = (
        (out / f"scene_0{i}" / "scene.safetensors").read_bytes() for i in range(2)
    )
    assert first != second
    # The noted command is the one that made it, and Python samples the same.
    words = shlex.split(settings["command"])
    assert words[:4] == ["unseen", "sample", "--model", "balls/model"]
    assert words[-2:] == ["--out", "unseen-balls"] and "--seed 0" in settings["command"]
    scene = unseen.load("balls/model").sample_scenes(None, num=1, seed=0)[0]
    kept = load_scene(out / "scene_00" / "scene.safetensors").tensors()
    assert torch.equal(scene.tensors()["radius"], kept["radius"])
    provenance = scene_provenance(out / "scene_01" / "scene.safetensors")
    assert provenance["sample"] == 1 and "image_sha256" not in provenance
    # The viewer shows the scenes, and no input view that never was.
    samples = open_results(out).samples
    assert len(samples) == 2 and samples[0].given is None


def test_what_needs_an_image_says_so(work: Path, monkeypatch, capsys) -> None:
    for words, reason in (
        (["--model", "skies"], "SkyDecoder needs an image"),
        ([str(save_plate(work / "plate.png")), "--model", "balls"], "takes no image"),
    ):
        assert run(monkeypatch, *words, "--out", "out") == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert reason in errors[-1] and errors[-1].endswith(".")
        assert not (work / "out").exists()
