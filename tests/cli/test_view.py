"""`unseen view`: what it opens, what it refuses, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import unseen
from tests.analytic_scene import SkyScene, sky
from tests.training.tiny_method import TinyMethod
from tests.viewer.balls import ball_model, free_port
from unseen.cli.main import main
from unseen.cli.view import View, open_target
from unseen.errors import UserError
from unseen.export.result import Origin, ResultOptions, write_results
from unseen.model import Model
from unseen.scenes import io as scenes_io
from unseen.scenes.io import save_scene
from unseen.viewer.server import check_port


@pytest.fixture(autouse=True)
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scene files of the tests' own kind can be read."""
    monkeypatch.setitem(scenes_io.SCENE_CLASSES, "SkyScene", SkyScene)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder as `unseen sample` writes it, of two skies seen with 35 degrees."""
    image = torch.zeros(3, 16, 16)
    image[1] = 1
    origin = Origin("skies", {}, "unseen sample", {"fov": 35.0, "elevation": 10.0})
    options = ResultOptions(size=16, frames=2)
    write_results(tmp_path / "out", [sky(0.2), sky(0.9)], image, origin, options)
    return tmp_path / "out"


def run(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and the error stream of `unseen view ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["unseen", "view", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err


def assert_refused(found: tuple[int, str], reason: str) -> None:
    status, error = found
    assert status == 2 and reason in error, error
    assert error.count("\n") == 1 and error.endswith(".\n")


def test_a_folder_of_results(results: Path) -> None:
    shown = open_target(str(results))
    assert shown.title == "out" and shown.model is None
    assert [sample.name for sample in shown.samples] == ["sample 0", "sample 1"]
    first = shown.samples[0]
    assert torch.equal(first.scene.tensors()["tint"], sky(0.2).tint)
    assert first.provenance["sample"] == 0
    # The input: its picture, and the camera that it was taken with.
    assert first.given is not None
    assert first.given.images.shape == (1, 3, 16, 16)
    assert first.given.images[0, 1].min() == 1 and first.given.images[0, 0].max() == 0
    focal = float(first.given.cameras.intrinsics[0, 0, 0])
    assert 2 * np.degrees(np.arctan(0.5 / focal)) == pytest.approx(35, abs=1e-3)


def test_a_scene_file(results: Path, tmp_path: Path) -> None:
    inside = open_target(str(results / "scene_01" / "scene.safetensors"))
    assert len(inside.samples) == 1 and inside.samples[0].given is not None
    # A file that does not say how its input was taken has none.
    save_scene(sky(), tmp_path / "alone.safetensors")
    assert open_target(str(tmp_path / "alone.safetensors")).samples[0].given is None


def test_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unseen, "load", lambda name, *more: ball_model())
    shown = open_target("vehicles-64")
    assert shown.model is not None and shown.samples == ()
    assert shown.example is not None and shown.example.is_file()
    monkeypatch.setattr(unseen, "load", lambda name, *more: Model(TinyMethod()))
    with pytest.raises(UserError, match="samples views and no scenes"):
        open_target("views")


def test_what_cannot_be_opened(monkeypatch, capsys, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    port = ["--port", str(free_port())]
    found = run(monkeypatch, capsys, str(empty), *port)
    assert_refused(found, "holds neither scenes nor a model")
    (empty / "settings.json").write_text("{}")
    assert_refused(run(monkeypatch, capsys, str(empty), *port), "holds no scenes")
    missing = str(tmp_path / "missing.safetensors")
    assert_refused(run(monkeypatch, capsys, missing, *port), "does not exist")
    assert_refused(run(monkeypatch, capsys, "no-such-model", *port), "bundled models")
    assert_refused(run(monkeypatch, capsys, "x", "--port", "0"), "--port must lie")


def test_a_scene_of_a_newer_version(monkeypatch, capsys, tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    save_scene(sky(), path)
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[scenes_io.KEY])
    header["version"] = scenes_io.FORMAT_VERSION + 1
    metadata = {scenes_io.KEY: json.dumps(header)}
    safetensors.torch.save_file(sky().tensors(), path, metadata)
    found = run(monkeypatch, capsys, str(path), "--port", str(free_port()))
    assert_refused(found, "newer version of unseen")


def test_a_port_in_use_names_another(monkeypatch, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = run(monkeypatch, capsys, "x", "--port", str(port))
        assert_refused(found, f"port {port} is in use")
        proposed = int(found[1].rstrip(".\n").split("--port ")[1])
        check_port("127.0.0.1", proposed)
        found = run(monkeypatch, capsys, "x", "--host", "192.0.2.1")
        assert_refused(found, "choose others with --host and --port")


def test_without_viser(monkeypatch, capsys) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "viser" else find(name),
    )
    assert_refused(run(monkeypatch, capsys, "x"), "pip install 'unseen[viewer]'")


def test_the_browser_is_opened_and_the_address_printed(
    monkeypatch, capsys, results: Path
) -> None:
    opened: list[str] = []

    def open_page(address: str) -> None:
        opened.append(address)
        # The page is there, on this machine only, when the browser comes.
        assert b"<html" in urllib.request.urlopen(address).read()
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", open_page)
    port = free_port()
    View(str(results), port=port).run()
    assert opened == [f"http://127.0.0.1:{port}"]
    assert capsys.readouterr().out.splitlines()[0] == opened[0]
    # The port is free again.
    check_port("127.0.0.1", port)


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(tmp_path: Path, results: Path) -> None:
    port = str(free_port())
    words = ["view", "vehicles-64", "--port", port, "--no-open"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unseen.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(unseen.__file__).parent.parent)},
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
    assert process.stdout.readline() == "Ctrl-C ends it.\n"
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in error
    assert output == "\n"
