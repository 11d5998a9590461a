"""`unseen sample` with RenderDiffusion: no image, part of an image, noise on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import unseen
from tests.data.test_hidden_part import save_mask
from tests.methods.test_renderdiffusion import make
from tests.pictures import save_plate
from unseen.checkpoints.model_folder import save_model
from unseen.cli.main import main
from unseen.scenes.io import load_scene, scene_provenance


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of `unseen sample ARGUMENTS`."""
    small = ["--size", "16", "--frames", "2", "--num", "1", "--steps", "3"]
    monkeypatch.setattr(sys, "argv", ["unseen", "sample", *arguments, *small])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_from_a_model_folder(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(make(), "tiny", {})
    image = str(save_plate(tmp_path / "plate.png"))
    mask = str(save_mask(tmp_path / "mask.png", (20, 60, 70, 110)))
    words = {
        "free": [],
        "noised": [image, "--noise-level", "0.6"],
        "hidden": [image, "--hidden", mask],
    }
    model, planes = unseen.load("tiny"), {}
    for name, given in words.items():
        assert run(monkeypatch, *given, "--model", "tiny", "--out", name) == 0
        scene = load_scene(Path(name) / "scene_00" / "scene.safetensors")
        planes[name] = scene.tensors()["planes"]
    # Command line and Python say the same.
    for name, asked in (
        ("free", {"image": None}),
        ("noised", {"image": image, "noise_level": 0.6}),
        ("hidden", {"image": image, "hidden": mask}),
    ):
        expected = model.sample_scenes(**asked, num=1, steps=3)[0]
        assert torch.equal(expected.tensors()["planes"], planes[name])
    kept = scene_provenance(Path("hidden/scene_00/scene.safetensors"))
    assert len(kept["hidden_sha256"]) == 64 and "noise_level" not in kept
    settings = json.loads(Path("noised/settings.json").read_text())
    assert settings["noise_level"] == 0.6 and "--noise-level 0.6" in settings["command"]
    for wrong, reason in (
        ([image, "--noise-level", "2"], "--noise-level must lie in 0 to 1"),
        ([image, "--noise-level", "1", "--hidden", mask], "leave out the noise level"),
        (["--hidden", mask], "hides a part of no image"),
        (["--noise-level", "0.1"], "there is no image"),
    ):
        capsys.readouterr()
        assert run(monkeypatch, *wrong, "--model", "tiny", "--out", "new") == 2
        assert reason in capsys.readouterr().err and not Path("new").exists()
