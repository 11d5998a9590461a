"""`unseen import`: released files to model folders, and files that are refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.checkpoints.test_dfm_authors import SPLIT, small_official
from unseen.checkpoints import importers, model_folder
from unseen.checkpoints.importers import Importer
from unseen.checkpoints.model_folder import load_model
from unseen.cli.main import main
from unseen.encoders.pixel_aligned import PixelAlignedSceneModel
from unseen.methods.dfm import DFM
from unseen.methods.method import Method


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """Tensors of a small model in the released layout, with 8 x 8 tokens."""
    tensors = small_official("dfm_re10k")
    return {**tensors, "model.enc.pos_embed": torch.zeros(1, 64, 72)}


@pytest.fixture
def file(
    official: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A released file, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    torch.save({"step": 3, "model": official}, tmp_path / "model.pt")
    return Path("model.pt")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `unseen import ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["unseen", "import", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refusal(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: object) -> str:
    """The one sentence with which the command ends; it leaves no folder `out`."""
    before = sorted(os.listdir())
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    error = captured.err.strip()
    assert error.startswith("unseen: ") and error.endswith(".") and "\n" not in error
    assert captured.out == "" and sorted(os.listdir()) == before
    return error


def test_a_released_file_becomes_a_model(
    file: Path, official: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert run(monkeypatch, "dfm", file, "out") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["method", "DFM"]
    assert printed[2].split() == ["image", "size", "32", "x", "32"]
    assert printed[-1] == "out" and sorted(os.listdir("out")) == [
        "config.json",
        "model.safetensors",
    ]
    method = load_model("out")
    assert isinstance(method, DFM) and isinstance(method.model, PixelAlignedSceneModel)
    assert method.config.image_size == 32 and method.config.sampling.num_steps == 50
    width = method.model.proposal.point_in.weight.shape[1]
    found = method.model.proposal.point_in.weight
    assert torch.equal(found, official[SPLIT][:, :width])
    provenance = json.loads(Path("out/config.json").read_text())["provenance"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert provenance["file"] == "model.pt" and provenance["sha256"] == digest
    assert provenance["imported"] == "dfm"


class Payload:
    """Unpickling it would make a file."""

    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_files_that_run_code_are_not_run(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    torch.save({"model": {"weight": torch.zeros(2), "x": Payload()}}, "zip.pt")
    Path("plain.pt").write_bytes(pickle.dumps({"model": Payload()}))
    torch.save({"ema": Payload()}, "old.pt", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "plain.pt", "old.pt"):
        assert "cannot be read" in refusal(monkeypatch, capsys, "dfm", name, "out")
        assert not Path("executed").exists()
    # The payload is a real one.
    pickle.loads(Path("plain.pt").read_bytes())
    assert Path("executed").exists()


def test_refusals(file: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    Path("cut.pt").write_bytes(file.read_bytes()[:-5000])
    Path("empty.pt").touch()
    torch.save({"model": {"weight": torch.zeros(2)}}, "other.pt")
    Path("there").mkdir()
    cases: list[tuple[list[object], str]] = [
        (["nerf", file, "out"], "there is no importer for 'nerf': choose one of dfm"),
        (["dfm", "missing.pt", "out"], "does not exist"),
        (["dfm", ".", "out"], "is no file"),
        (["dfm", "cut.pt", "out"], "cannot be read"),
        (["dfm", "empty.pt", "out"], "cannot be read"),
        (["dfm", "other.pt", "out"], "does not hold the weights of DFM"),
        (["dfm", file, "there"], "there exists"),
        (["dfm", file, file], "model.pt exists"),
        (["dfm", file, file / "out"], "is a file"),
        (["dfm", file, "out", "--image-size", 64], "leave out --image-size"),
    ]
    for arguments, reason in cases:
        assert reason in refusal(monkeypatch, capsys, *arguments)


def test_a_full_disk_leaves_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # The weights are written by then.
    monkeypatch.setattr(model_folder, "write_json", full)
    assert "the disk is full" in refusal(monkeypatch, capsys, "dfm", file, "new/out")


def test_options_reach_the_importers_that_take_them(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    asked: list[dict] = []

    def read(path: Path, **options: object) -> Method:
        asked.append({"path": path, **options})
        return importers.IMPORTERS["dfm"].read(path)

    table = {
        **importers.IMPORTERS,
        "sized": Importer("DFM", read, "MIT", ("image_size",)),
    }
    monkeypatch.setattr(importers, "IMPORTERS", table)
    assert run(monkeypatch, "sized", file, "out", "--image-size", 32) == 0
    assert asked == [{"path": file, "image_size": 32}]
    provenance = json.loads(Path("out/config.json").read_text())["provenance"]
    assert provenance["options"] == {"image_size": 32}
    capsys.readouterr()
    wrong = refusal(monkeypatch, capsys, "sized", file, "new", "--release", "srn")
    assert "does not know --release: it takes --image-size" in wrong
