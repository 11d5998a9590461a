"""The folder of results is whole or not there, and replaces nothing unasked."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch
from PIL import Image

from tests.analytic_scene import BallScene, ball, sky
from unseen.errors import UserError
from unseen.export import result, result_folder
from unseen.export.bake_splats import BakeOptions
from unseen.export.result import Origin, ResultOptions, write_results
from unseen.export.result_folder import check_out
from unseen.files import write_errors
from unseen.scenes.io import load_scene, scene_provenance

SPLATS = BakeOptions(max_gaussians=100, views=3, size=16, steps=2)
OPTIONS = ResultOptions(size=16, frames=4, mesh_resolution=16, splats=SPLATS)
PER_SCENE = ["mesh.glb", "orbit.mp4", "orbit_depth.mp4", "scene.safetensors"]
ORIGIN = Origin(
    title="<chair> & 'co'.png",
    settings={"seed": 3, "steps": None, "note": "{{sheet}}"},
    command="unseen sample 'a b.png' --seed 3",
    provenance={"seed": 3},
)


def write(out: Path, count: int = 2, overwrite: bool = False, **settings):
    scenes = [ball(0.1 * i) for i in range(count)]
    image = torch.full((3, 20, 20), 0.5)
    return write_results(out, scenes, image, ORIGIN, OPTIONS, overwrite, **settings)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "out"
    write(out)
    return out


def test_everything_is_there(results: Path):
    found = sorted(str(p.relative_to(results)) for p in results.rglob("*.*"))
    files = ["contact_sheet.png", "index.html", "input.png", "settings.json"]
    for name in ("scene_00", "scene_01"):
        files += [f"{name}/{f}" for f in [*PER_SCENE, "splats.ply"]]
    assert found == sorted(files)
    video = imageio.imread(results / "scene_01" / "orbit.mp4", plugin="FFMPEG")
    assert video.shape == (4, 16, 16, 3)
    settings = json.loads((results / "settings.json").read_text())
    assert settings["seed"] == 3 and settings["output"]["frames"] == 4
    assert sorted(settings["files"]) == sorted(files)
    assert os.listdir(results.parent) == ["out"]


def test_scenes_reload_and_know_their_origin(results: Path):
    for i in range(2):
        path = results / f"scene_{i:02d}" / "scene.safetensors"
        loaded = load_scene(path, classes={"BallScene": BallScene})
        assert float(loaded.tensors()["center"][0]) == pytest.approx(0.1 * i)
        assert scene_provenance(path) == {"seed": 3, "sample": i}


def test_scene_files_do_not_depend_on_the_number_of_scenes(
    results: Path, tmp_path: Path
):
    write(tmp_path / "three", count=3)
    for name in ("scene_00", "scene_01"):
        for file in PER_SCENE:
            expected = (results / name / file).read_bytes()
            assert (tmp_path / "three" / name / file).read_bytes() == expected


def test_the_page_needs_nothing_else(results: Path):
    page = (results / "index.html").read_text()
    assert "{{sheet}}" in page and page.count("{{") == 1
    assert "&lt;chair&gt; &amp; &#x27;co&#x27;.png" in page
    assert "unseen sample &#x27;a b.png&#x27; --seed 3" in page
    assert page.count("<video") == 4
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 6 and all(s.startswith("data:") for s in sources)
    for link in re.findall(r'href="([^"]*)"', page):
        assert (results / link).is_file()
    assert not re.search(r"https?://|@import|url\(", page)


def test_written_paths_and_progress(tmp_path: Path):
    done = []
    written = write(tmp_path / "out", report=lambda *step: done.append(step))
    assert all(path.is_file() for path in written) and len(written) == 14
    assert done[-1] == (15, 15) and done == sorted(done)


def test_a_scene_without_surface_does_not_spoil_the_rest(tmp_path: Path):
    scenes = [ball(), ball(peak=0.05)]
    out, done = tmp_path / "out", []
    write_results(
        out,
        scenes,
        torch.ones(3, 8, 8),
        ORIGIN,
        OPTIONS,
        report=lambda *step: done.append(step),
    )
    assert done[-1] == (15, 15) and done == sorted(done)
    assert (out / "scene_00" / "mesh.glb").exists()
    assert not (out / "scene_01" / "mesh.glb").exists()
    assert (out / "scene_01" / "orbit.mp4").exists()
    assert "No mesh and no splats" in (out / "index.html").read_text()


def test_scenes_that_are_no_fields_and_know_no_depth(tmp_path: Path):
    out = tmp_path / "out"
    written = write_results(
        out, [sky(1.0), sky(0.5)], torch.ones(3, 8, 8), ORIGIN, OPTIONS
    )
    scene = sorted(p.name for p in written if p.parent.name == "scene_01")
    assert scene == ["orbit.mp4", "scene.safetensors"]
    page = (out / "index.html").read_text()
    assert page.count("<video") == 2 and 'class="depth"' not in page
    assert "No mesh and no splats: a SkyScene has no density" in page
    deep = tmp_path / "deep"
    write_results(deep, [sky(distance=2.0)], torch.ones(3, 8, 8), ORIGIN, OPTIONS)
    assert (deep / "scene_00" / "orbit_depth.mp4").exists()


def test_results_are_not_overwritten_unasked(results: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(results, out)
    before = (out / "settings.json").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        write(out, 1)
    assert (out / "settings.json").read_bytes() == before
    write(out, 1, overwrite=True)
    assert not (out / "scene_01").exists()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("foreign", ["notes.txt", "scene_00/mine.png"])
def test_other_files_are_never_deleted(results: Path, tmp_path: Path, foreign: str):
    out = tmp_path / "out"
    shutil.copytree(results, out)
    (out / foreign).write_text("mine")
    with pytest.raises(UserError, match="no results of unseen"):
        write(out, 1, overwrite=True)
    assert (out / foreign).read_text() == "mine"
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="no results of unseen"):
        check_out(tmp_path / "plain", overwrite=True)


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty", overwrite=False)
    write(tmp_path / "empty", 1)
    write(tmp_path / "a" / "b", 1)
    assert (tmp_path / "a" / "b" / "index.html").exists()


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UserError) as caught:
            write(out, 1)
        assert str(out) in str(caught.value)
    with monkeypatch.context() as patch:
        # As root, every folder can be written to.
        patch.setattr(result_folder.os, "access", lambda *_: False)
        with pytest.raises(UserError, match="may not be written"):
            write(tmp_path / "new" / "out", 1)
    monkeypatch.chdir(tmp_path)
    for out in (Path("."), Path(".."), tmp_path):
        with pytest.raises(UserError, match="a folder of its own"):
            write(out, 1, overwrite=True)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(
    "target", ["save_scene", "write_splat_ply", "save_contact_sheet", "_write_settings"]
)
def test_a_refusing_disk_leaves_earlier_results_alone(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    code: int,
):
    out = tmp_path / "out"
    shutil.copytree(results, out)
    before = sorted(p.stat().st_size for p in out.rglob("*.*"))

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(result, target, refuse)
    reason = "disk is full" if code == errno.ENOSPC else "permission is denied"
    with pytest.raises(UserError, match=reason) as caught:
        write(out, 1, overwrite=True)
    assert str(out) in str(caught.value)
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(p.stat().st_size for p in out.rglob("*.*")) == before


def test_a_full_disk_inside_of_a_writer_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="disk is full") as caught:
        write(tmp_path / "deep" / "out", 1)
    assert "partial" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_not_taken_for_an_empty_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_, **__):
        with write_errors("splats.ply"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(result, "write_splat_ply", full)
    with pytest.raises(UserError, match="disk is full"):
        write(tmp_path / "out", 1)
    assert os.listdir(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(result, "write_splat_ply", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "new" / "out", 1)
    assert os.listdir(tmp_path) == []


def test_a_failing_exchange_keeps_the_earlier_results(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    shutil.copytree(results, out)
    rename, calls = os.rename, []

    def fail_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(result_folder.os, "rename", fail_second)
    with pytest.raises(UserError):
        write(out, 1, overwrite=True)
    assert (out / "scene_01" / "mesh.glb").exists()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_a_disk_that_is_really_full(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk is not permitted")
    try:
        with pytest.raises(UserError, match="disk is full"):
            write(disk / "out", 2)
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_links_to_folders_stay_links(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "index.html").exists()
    assert Image.open(tmp_path / "real" / "input.png").size == (20, 20)
