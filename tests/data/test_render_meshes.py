"""The render job: layout, manifest, resuming, workers, broken meshes, the command."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from tests.data.mesh_samples import (
    colored_box,
    textured_quad,
    write_glb,
    write_gltf,
    write_obj,
)
from unseen.cli.data import Render
from unseen.data.manifest import read_manifest, split_of
from unseen.data.mesh_files import (
    MeshFile,
    MeshFolder,
    find_meshes,
    object_id,
    with_variants,
)
from unseen.data.render_meshes import Outcome, RenderSettings, render_meshes
from unseen.data.srn_layout import SRNDataset
from unseen.errors import UserError

pytest.importorskip("mitsuba")

TINY = RenderSettings(views=2, size=12, samples=4)


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    """A folder with a GLB, a broken GLB, and an archive with a glTF and an OBJ."""
    folder = tmp_path / "meshes"
    folder.mkdir()
    write_glb(folder / "box.glb", colored_box())
    (folder / "broken.glb").write_text("this is no mesh")
    (tmp_path / "pack").mkdir()
    write_gltf(tmp_path / "pack", textured_quad())
    write_obj(tmp_path / "pack")
    with zipfile.ZipFile(folder / "pack.zip", "w") as archive:
        for path in sorted((tmp_path / "pack").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    return folder


def _render(meshes: Path, out: Path, settings: RenderSettings = TINY) -> list[Outcome]:
    return list(render_meshes(find_meshes(meshes), out, settings, workers=0))


def _hashes(root: Path) -> dict[str, str]:
    """Of every file below a data set's root."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_data_set_on_disk(meshes: Path, tmp_path: Path) -> None:
    outcomes = _render(meshes, tmp_path / "out")
    names = ["box.glb", "broken.glb", "pack.zip/pack/quad.gltf"]
    names.append("pack.zip/pack/square.obj")
    assert [outcome.mesh.name for outcome in outcomes] == names
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    (skipped,) = manifest.skipped
    assert skipped == ("broken.glb", "is not a GLB file")
    by_source = {record.source: record for record in manifest.objects}
    assert set(by_source) == {*names} - {"broken.glb"}
    box = by_source["box.glb"]
    data = (meshes / "box.glb").read_bytes()
    assert box.sha256 == hashlib.sha256(data).hexdigest()
    assert box.split == split_of("box.glb") and box.views == 2
    assert by_source["pack.zip/pack/quad.gltf"].split == split_of("quad.gltf")
    dataset = SRNDataset(tmp_path / "out")
    assert dataset.scene_ids == sorted(
        object_id(outcome.mesh) for outcome in outcomes if outcome.record is not None
    )
    views = dataset.load(dataset.scene_ids.index(box.id))
    assert views.images.shape == (2, 3, 12, 12)
    assert views.depths is not None and views.masks is not None
    # The box fills its sphere, so the middle of the image is on it, within the bounds.
    depth, near, far = views.depths[:, 6, 6], views.cameras.near, views.cameras.far
    assert (depth > near).all() and (depth < far).all()
    color = views.images[:, :, 6, 6]
    assert (color[:, 0] > color[:, 1] + 0.1).all()
    assert (color[:, 1] > color[:, 2] + 0.05).all()


def test_running_again_changes_nothing(meshes: Path, tmp_path: Path) -> None:
    first = _render(meshes, tmp_path / "out")
    before = _hashes(tmp_path / "out")
    again = _render(meshes, tmp_path / "out")
    assert all(outcome.present for outcome in again)
    assert [x.record for x in again] == [x.record for x in first]
    assert [x.reason for x in again] == [x.reason for x in first]
    assert _hashes(tmp_path / "out") == before
    assert _hashes(tmp_path / "out") != {}
    # The same settings elsewhere give the same bytes, others do not go on here.
    _render(meshes, tmp_path / "elsewhere")
    assert _hashes(tmp_path / "elsewhere") == before
    with pytest.raises(UserError, match="samples"):
        _render(meshes, tmp_path / "out", dataclasses.replace(TINY, samples=9))


def test_order_and_company_do_not_matter(meshes: Path, tmp_path: Path) -> None:
    _render(meshes, tmp_path / "all")
    one = [mesh for mesh in find_meshes(meshes) if mesh.name.endswith("quad.gltf")]
    list(render_meshes(one, tmp_path / "one", TINY, workers=0))
    folder = object_id(one[0])
    assert _hashes(tmp_path / "one" / folder) == _hashes(tmp_path / "all" / folder)


def test_variants_are_other_objects(meshes: Path, tmp_path: Path) -> None:
    (box,) = [mesh for mesh in find_meshes(meshes) if mesh.name == "box.glb"]
    varied = with_variants([box], 3)
    list(render_meshes(varied, tmp_path / "varied", TINY, workers=0))
    list(render_meshes([box], tmp_path / "plain", TINY, workers=0))
    hashes = _hashes(tmp_path / "varied")
    for name, digest in _hashes(tmp_path / "plain" / object_id(box)).items():
        assert hashes[f"{object_id(box)}/{name}"] == digest
    manifest = read_manifest(tmp_path / "varied")
    assert manifest is not None and len(manifest.objects) == 3
    assert len({record.split for record in manifest.objects}) == 1


def test_options_reach_the_pixels(meshes: Path, tmp_path: Path) -> None:
    (box,) = [mesh for mesh in find_meshes(meshes) if mesh.name == "box.glb"]

    def load(name: str, **options) -> torch.Tensor:
        settings = dataclasses.replace(TINY, **options)
        list(render_meshes([box], tmp_path / name, settings, workers=0))
        return SRNDataset(tmp_path / name).load(0).images

    plain = load("plain")
    assert not torch.equal(plain, load("seed", seed=1))
    assert not torch.equal(plain, load("lights", lights="random"))
    assert not torch.equal(plain, load("z", up="z"))
    assert not torch.equal(plain, load("spiral", cameras="spiral"))
    red = load("red", background="#ff0000")
    views = SRNDataset(tmp_path / "red", depths=True).load(0)
    assert views.masks is not None and (views.masks == 1).all()
    torch.testing.assert_close(red[:, :, 0, 0], torch.tensor([[1.0, 0, 0]] * 2))
    torch.testing.assert_close(red[:, :, 6, 6], plain[:, :, 6, 6])
    assert not (tmp_path / "flat").exists()
    load("flat", depth=False)
    assert SRNDataset(tmp_path / "flat").load(0).depths is None


@pytest.mark.parametrize(
    "options",
    [
        {"views": 0},
        {"size": 0},
        {"samples": 0},
        {"background": "no colour"},
        {"fov_range": (50.0, 30.0)},
    ],
)
def test_bad_settings(meshes: Path, tmp_path: Path, options: dict) -> None:
    with pytest.raises(UserError):
        _render(meshes, tmp_path / "out", dataclasses.replace(TINY, **options))
    assert not (tmp_path / "out").exists()


SCRIPT = """
import sys
from pathlib import Path
from unseen.data.mesh_files import find_meshes
from unseen.data.render_meshes import RenderSettings, render_meshes

if __name__ == "__main__":
    settings = RenderSettings(views=2, size=12, samples=4)
    meshes = find_meshes(Path(sys.argv[1]))
    for outcome in render_meshes(meshes, sys.argv[2], settings, int(sys.argv[3])):
        print(outcome.mesh.name, flush=True)
"""


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_goes_on_after_kill_9(tmp_path: Path, workers: int) -> None:
    meshes, out = tmp_path / "meshes", tmp_path / "out"
    meshes.mkdir()
    for index in range(30):
        write_glb(meshes / f"box{index:02d}.glb", colored_box((1, 2, 1 + index)))
    (tmp_path / "job.py").write_text(SCRIPT)
    arguments = [str(tmp_path / "job.py"), str(meshes), str(out), str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        for _ in range(3):
            assert job.stdout.readline()
        job.send_signal(signal.SIGKILL)
    _wait_until_still(out)
    unfinished = [path for path in out.iterdir() if path.name.startswith("box")]
    assert 3 <= len(unfinished) < 30, "killed in the middle"
    kept = {path.name: _hashes(path) for path in unfinished}
    outcomes = _render(meshes, out)
    assert 3 <= sum(outcome.present for outcome in outcomes) <= len(kept)
    assert {name: _hashes(out / name) for name in kept} == kept
    _render(meshes, tmp_path / "whole")
    assert _hashes(out) == _hashes(tmp_path / "whole")


def _wait_until_still(folder: Path) -> None:
    """A worker follows its killed parent: nothing may be written any more."""
    deadline = time.monotonic() + 20
    seen = None
    while (now := sorted(folder.rglob("*"))) != seen:
        assert time.monotonic() < deadline, "a worker outlives its killed parent"
        seen = now
        time.sleep(0.5)


class Bomb(MeshFile):
    """A mesh that ends the process that opens it, as a crash in native code would."""

    def open(self) -> MeshFolder:
        return _explode()


def _explode() -> NoReturn:
    os._exit(3)


@pytest.mark.slow
def test_a_crash_costs_one_mesh_only(meshes: Path, tmp_path: Path) -> None:
    jobs = find_meshes(meshes)
    jobs.insert(2, Bomb("bomb.glb", meshes / "box.glb"))
    outcomes = list(render_meshes(jobs, tmp_path / "out", TINY, workers=1))
    reasons = {outcome.mesh.name: outcome.reason for outcome in outcomes}
    assert reasons.pop("bomb.glb") == "the renderer crashed on it"
    assert len(reasons) == 4 and sum(map(bool, reasons.values())) == 1
    # Workers render what this process would.
    _render(meshes, tmp_path / "here")
    here = _hashes(tmp_path / "here")
    there = _hashes(tmp_path / "out")
    assert {**here, "manifest.json": ""} == {**there, "manifest.json": ""}


def test_command(
    meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    command = Render(
        str(meshes), out, views=1, size=8, samples=4, include=("*b*.glb",), workers=0
    )
    command.run()
    printed = capsys.readouterr().out
    assert "1 objects (" in printed and "1 meshes skipped" in printed
    assert "skipped broken.glb: is not a GLB file" in printed
    assert [path.name for path in Path(out).glob("box-*/rgb/*")] == ["000000.png"]
    with pytest.raises(UserError, match="does not exist"):
        dataclasses.replace(command, meshes=str(tmp_path / "no")).run()
    with pytest.raises(UserError, match="I/N"):
        dataclasses.replace(command, shard="3/2").run()
