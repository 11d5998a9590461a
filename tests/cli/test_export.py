"""`unseen export`: which files, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch
import trimesh

from tests.gaussian_scenes import random_gaussians
from tests.scenes.test_io import edit, frustum_scene
from unseen.cli.main import main
from unseen.export.splat_files import read_splat_file, write_splat_ply
from unseen.scenes.io import save_scene

QUICK = (
    "--steps 2 --gaussians 200 --views 4 --resolution 12 --texels 6 --size 16 "
    "--frames 3"
)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command; its exit status."""
    arguments = ["unseen", "export", *(str(w) for w in words), *QUICK.split()]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_scene_becomes_every_file(tmp_path: Path, monkeypatch, capsys):
    source, out = tmp_path / "scene.safetensors", tmp_path / "out"
    save_scene(frustum_scene(), source)
    formats = ["splat", "ply", "points", "glb", "glb-texture", "obj"]
    formats += ["mp4", "gif", "webp", "cameras", "depth"]
    words = ("--format", *formats, "--out", out)
    assert run(monkeypatch, source, *words, "--measure") == 0
    found = sorted(p.name for p in out.iterdir())
    assert found == [
        "mesh.glb", "mesh.mtl", "mesh.obj", "mesh.png", "mesh_texture.glb",
        "orbit.gif", "orbit.mp4", "orbit.webp", "orbit_cameras", "orbit_depth",
        "points.ply", "splats.ply", "splats.splat",
    ]  # fmt: skip
    assert read_splat_file(out / "splats.ply").count <= 200
    assert trimesh.load_scene(out / "mesh.obj").geometry
    for name in ("orbit.gif", "orbit.webp"):
        assert imageio.imread(out / name, index=...).shape[:3] == (3, 16, 16)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(formats) and " dB on 12 views" in lines[0]
    # Nothing is replaced unasked.
    assert run(monkeypatch, source, "--format", "gif", "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(monkeypatch, source, "--format", "gif", "--out", out, "--overwrite") == 0


def test_splats_of_others_are_rendered_along_a_file(tmp_path: Path, monkeypatch):
    source = tmp_path / "a.ply"
    write_splat_ply(random_gaussians(), source)
    first, second = tmp_path / "one", tmp_path / "two"
    words = ("--format", "cameras", "--path", "spiral", "--out", first)
    assert run(monkeypatch, source, *words) == 0
    path = first / "spiral_cameras" / "transforms.json"
    words = ("--format", "cameras", "--path", path, "--out", second)
    assert run(monkeypatch, source, *words) == 0
    for index in range(3):
        name = f"images/frame_{index:04d}.png"
        one = imageio.imread(first / "spiral_cameras" / name).astype(int)
        other = imageio.imread(second / "transforms_cameras" / name).astype(int)
        # Read intrinsics and poses are rounded to single precision.
        assert abs(one - other).max() <= 2 and one.std() > 5


def test_results_and_single_files(tmp_path: Path, monkeypatch):
    for index in range(2):
        folder = tmp_path / "results" / f"scene_0{index}"
        save_scene(random_gaussians(seed=index), folder / "scene.safetensors")
    words = ("--format", "ply", "--out")
    assert run(monkeypatch, tmp_path / "results", *words, tmp_path / "out") == 0
    assert (tmp_path / "out" / "scene_01" / "splats.ply").is_file()
    source = tmp_path / "results" / "scene_00"
    assert run(monkeypatch, source, *words, tmp_path / "one.ply") == 0
    assert (tmp_path / "one.ply").is_file()


@pytest.mark.parametrize(
    "words, reason",
    [
        (("missing.safetensors", "--format", "ply"), "does not exist"),
        (("empty", "--format", "ply"), "holds no scenes"),
        (("views", "--format", "mp4"), "holds views and no scenes"),
        (("newer.safetensors", "--format", "ply"), "newer version"),
        (("splats.safetensors", "--format", "glb"), "splats, which have no surface"),
        (("splats.safetensors", "--format", "ply", "--path", "loop"), "--path must"),
        (("splats.safetensors", "--format", "ply", "--fov", "0"), "--fov must"),
        (("batch.safetensors", "--format", "ply"), "batch of scenes"),
        (("splats.safetensors", "--format", "gif", "--path", "no.json"), "cannot read"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, monkeypatch, capsys, words, reason: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "views" / "sample_00").mkdir(parents=True)
    (tmp_path / "views" / "sample_00" / "cameras.json").write_text("{}")
    edit(tmp_path / "newer.safetensors", {"version": 99})
    save_scene(random_gaussians(), tmp_path / "splats.safetensors")
    save_scene(random_gaussians(batch=(2,)), tmp_path / "batch.safetensors")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert reason in error.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_picture_has_the_size_that_was_asked(tmp_path: Path, monkeypatch):
    save_scene(random_gaussians(), tmp_path / "a.safetensors")
    source, out = tmp_path / "a.safetensors", tmp_path / "a.webp"
    assert run(monkeypatch, source, "--format", "webp", "--out", out) == 0
    frames = imageio.imread(out, index=...)
    assert frames.shape == (3, 16, 16, 3)
    assert torch.from_numpy(frames).float().std() > 5
