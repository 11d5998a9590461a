"""`unseen import` of folders in the layout of diffusers, and of options they need."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.checkpoints import test_mvdream_authors as mvdream
from tests.checkpoints import test_zero123_authors as zero123
from unseen.checkpoints.model_folder import load_model
from unseen.cli.main import main
from unseen.methods.mvdream import MVDream
from unseen.methods.zero123 import Zero123

pytest.importorskip("diffusers", reason="diffusers is not installed")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["unseen", "import", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_folder_becomes_a_model(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    method = zero123.randomised(zero123.CONFIG)
    folder = zero123.write_folder(tmp_path / "xl", method, "clip_camera_projection")
    words = ["zero123", folder, "out", "--release", "stable-zero123"]
    assert run(monkeypatch, *words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["method", "Zero123"]
    found = load_model("out")
    assert isinstance(found, Zero123) and found.config.pose == "stable"
    for ours, theirs in zip(found.parameters(), method.parameters(), strict=True):
        assert torch.equal(ours, theirs.half().float())
    provenance = json.loads(Path("out/config.json").read_text())["provenance"]
    assert provenance["options"] == {"release": "stable-zero123"}
    # The digest is of all files: one that changes changes it.
    (folder / "model_index.json").write_text("{}")
    assert run(monkeypatch, "zero123", folder, "again") == 0
    again = json.loads(Path("again/config.json").read_text())["provenance"]
    assert len(again["sha256"]) == 64 and again["sha256"] != provenance["sha256"]
    capsys.readouterr()
    for words, said in (
        (["zero123", folder, "new", "--weights", "average"], "has no average"),
        (["zero123", folder, "new", "--tokenizer", "x"], "does not know --tokenizer"),
        (["3dim", folder, "new"], "is no file"),
        (["zero123", tmp_path / "none", "new"], "does not exist"),
    ):
        assert run(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error
        assert not Path("new").exists()


def test_a_file_and_its_tokenizer(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    method = MVDream(mvdream.CONFIG)
    torch.save(mvdream.authors_names(method), "4view.pt")
    mvdream.write_merges(tmp_path / "clip" / "merges.txt")
    assert run(monkeypatch, "mvdream", "4view.pt", "new") == 2
    assert "name the merges.txt of CLIP's with --tokenizer" in capsys.readouterr().err
    assert run(monkeypatch, "mvdream", "4view.pt", "out", "--tokenizer", "clip") == 0
    found = load_model("out")
    assert isinstance(found, MVDream)
    assert found.encode_text(["the cat"]).shape == (1, 24, 64)
