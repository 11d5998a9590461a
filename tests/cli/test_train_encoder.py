"""`unseen train pixelnerf-small --encoder`: from ImageNet weights, or from scratch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.aligned_scenes import PIXELNERF, pixelnerf
from tests.checkpoints.test_pretrained_encoders import resnet_weights
from tests.cli.test_train import TRAIN, _write_data, run
from unseen.methods import registry
from unseen.training.preset import Preset


def test_training_starts_from_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    training = dataclasses.replace(TRAIN, steps=1, sample_every=0)
    preset = Preset(PIXELNERF, training, num_target=1)
    monkeypatch.setitem(registry.PRESETS, "thin", preset)
    data = _write_data(tmp_path / "data", ("train", "test"))
    weights = tmp_path / "resnet34.pth"
    torch.save(resnet_weights(pixelnerf()), weights)

    start = ["train", "thin", "--data", data, "--out"]
    assert run(monkeypatch, *start, tmp_path / "scratch") == 0
    assert "from scratch" in capsys.readouterr().err
    assert run(monkeypatch, *start, tmp_path / "run", "--encoder", weights) == 0
    assert "starts from resnet34.pth" in capsys.readouterr().err
    said = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert said["provenance"]["encoder"] == "resnet34.pth"
    both = ["--encoder", weights, "--init", tmp_path / "run" / "model"]
    assert run(monkeypatch, *start, tmp_path / "other", *both) == 2
    assert "leave out --encoder" in capsys.readouterr().err
