"""`unseen data procedural`: the same files whatever happens on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unseen.cli.main import main
from unseen.data.manifest import FINAL, JOURNAL, ManifestWriter, read_manifest
from unseen.data.procedural import CATEGORIES, make_object
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.data.srn_layout import SRNDataset
from unseen.errors import UserError

SMALL = ProceduralSettings(views=2, size=16)

PROGRAM = """
import sys
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
write_procedural(sys.argv[1], 40, ProceduralSettings(views=2, size=16), workers=2)
"""


def contents(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty objects that were written without an interruption."""
    root = tmp_path_factory.mktemp("whole") / "data"
    write_procedural(root, 40, SMALL)
    return root


def test_what_is_read_is_what_was_rendered(tmp_path: Path) -> None:
    settings = ProceduralSettings(views=2, size=32, seed=2)
    write_procedural(tmp_path, 6, settings)
    dataset = SRNDataset(tmp_path)
    assert {name.partition("-")[0] for name in dataset.scene_ids} == set(CATEGORIES)
    for index, name in enumerate(dataset.scene_ids):
        category, _, seed = name.partition("-")
        assert 2_000_000 <= int(seed) < 2_000_006
        views = dataset.load(index)
        truth = make_object(category, int(seed)).render(views.cameras, 32)
        assert (views.images - truth.images).abs().max() < 1.5 / 255
        assert views.masks is not None and truth.masks is not None
        assert (views.masks - truth.masks).abs().max() < 1 / 255
        assert views.depths is not None and truth.depths is not None
        # The poses on disk have nine digits, the depths have 16 bit.
        same = (views.depths > 0) == (truth.depths > 0)
        assert same.float().mean() > 0.999
        assert ((views.depths - truth.depths).abs() * same).max() < 1e-3
        assert (views.cameras.near > 0).all()


def test_a_killed_run_is_continued_to_the_same_files(
    whole: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, root],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    journal = root / JOURNAL
    wait_for(lambda: journal.exists() and len(journal.read_text().splitlines()) > 3)
    children = child_processes(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / FINAL).exists()
    # The workers notice, and leave the folder alone.
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    finished = {record.id for record in read_found(root).objects}
    assert 3 <= len(finished) < 40
    # A kill in the middle of a line and in the middle of an object.
    with open(journal, "a") as file:
        file.write('{"object": {"id": "cra')
    (root / ".unfinished-crate-0-1").mkdir()
    times = {name: (root / name).stat().st_mtime_ns for name in finished}
    write_procedural(root, 40, SMALL)
    assert contents(root) == contents(whole)
    assert {name: (root / name).stat().st_mtime_ns for name in finished} == times


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def child_processes(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split() if path.exists() else []


def read_found(root: Path):
    manifest = read_manifest(root)
    assert manifest is not None
    return manifest


def test_the_command_line_writes_the_same_files(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ["--num", "3", "--views", "2", "--size", "16", "--workers", "1"]
    command = ["unseen", "data", "procedural", str(tmp_path), *settings]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert f"3 objects (0 for testing) in {tmp_path}" in capsys.readouterr().out
    for name in ("crate-0", "mug-1", "critter-2"):
        assert contents(tmp_path / name) == contents(whole / name)


def test_an_object_without_a_record_is_not_rendered_again(
    whole: Path, tmp_path: Path
) -> None:
    write_procedural(tmp_path, 6, SMALL)
    before = (tmp_path / "mug-1").stat().st_mtime_ns
    text = json.loads((tmp_path / FINAL).read_text())
    text["objects"] = [entry for entry in text["objects"] if entry["id"] != "mug-1"]
    (tmp_path / FINAL).write_text(json.dumps(text))
    manifest = write_procedural(tmp_path, 6, SMALL)
    assert len(manifest.objects) == 6
    assert (tmp_path / "mug-1").stat().st_mtime_ns == before


def test_more_objects_leave_the_first_ones_alone(whole: Path, tmp_path: Path) -> None:
    write_procedural(tmp_path, 3, SMALL)
    before = (tmp_path / "mug-1").stat().st_mtime_ns
    manifest = write_procedural(tmp_path, 8, SMALL)
    assert (tmp_path / "mug-1").stat().st_mtime_ns == before
    for record in manifest.objects:
        assert contents(tmp_path / record.id) == contents(whole / record.id)


def test_the_split_is_by_name_and_about_a_fifth(whole: Path) -> None:
    train, test = (SRNDataset(whole, split=split) for split in ("train", "test"))
    assert not set(train.scene_ids) & set(test.scene_ids)
    assert len(train) + len(test) == 40
    assert 2 <= len(test) <= 16


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"size": 32}, {"views": 3}, {"categories": ("mug",)}]
)
def test_other_settings_are_refused(whole: Path, change: dict) -> None:
    before = contents(whole)
    with pytest.raises(UserError, match="made with other settings"):
        write_procedural(whole, 40, dataclasses.replace(SMALL, **change))
    assert contents(whole) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="no data set of this program"):
        write_procedural(tmp_path, 1, SMALL)
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_a_journal_that_cannot_grow_is_one_sentence(
    tmp_path: Path,
) -> None:
    writer = ManifestWriter(tmp_path, {})
    (tmp_path / JOURNAL).unlink()
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match="free some space or choose"):
        writer.skip("a.glb", "no reason")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_procedural(tmp_path / "out", 1, SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ProceduralSettings(categories=("dragon",)), "no category dragon"),
        (ProceduralSettings(views=0), "views must be at least 1"),
        (ProceduralSettings(size=0), "size must be at least 1"),
        (ProceduralSettings(fov_range=(50.0, 30.0)), "field of view"),
    ],
)
def test_bad_settings_write_nothing(
    tmp_path: Path, settings: ProceduralSettings, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_procedural(tmp_path / "out", 1, settings)
    assert not (tmp_path / "out").exists()
