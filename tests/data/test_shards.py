"""Shards: read back exactly, by us and by webdataset; whole after a kill; streamed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from tests.data.test_realestate10k import rows, write_frames, write_poses
from unseen.cli.main import parse
from unseen.data.dataset import PosedReader
from unseen.data.formats import find_reader, has_split, open_dataset, open_reader
from unseen.data.procedural_dataset import ProceduralSettings, write_procedural
from unseen.data.shard_dataset import ShardDataset
from unseen.data.shard_writer import ShardSettings, write_shards
from unseen.data.shards import FINAL, JOURNAL, read_journal, read_shard_manifest
from unseen.data.streaming import ExampleStream
from unseen.errors import UserError
from unseen.geometry.views import Views

SMALL = ShardSettings(size_mb=0.02)
"""So few bytes that a shard has a few scenes only."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 objects of the procedural world: masks, depths, train and test."""
    root = tmp_path_factory.mktemp("source") / "set"
    write_procedural(root, 12, ProceduralSettings(4, 16))
    return root


@pytest.fixture(scope="module")
def shards(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards") / "out"
    parse(["data", "shard", str(source), str(root), "--size-mb", "0.02"]).run()
    return root


def same_cameras(one: Views, other: Views) -> bool:
    names = ("extrinsics", "intrinsics", "near", "far")
    pairs = [(getattr(one.cameras, n), getattr(other.cameras, n)) for n in names]
    return all(torch.equal(a, b) for a, b in pairs)


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_shards_read_back(source: Path, shards: Path) -> None:
    assert find_reader(shards) is ShardDataset
    truth, found = open_reader(source), open_reader(shards)
    assert found.scene_ids == truth.scene_ids and not found.problems
    assert len(list(shards.glob("*.tar"))) > 2 and sum(found.runs) == 12
    for index in (0, 7, 11):
        whole, views = truth.load(index), found.load(index)
        assert found.num_views(index) == 4 and same_cameras(whole, views)
        # Colours under partial alpha are rounded once more.
        assert (views.images - whole.images).abs().max() <= 0.5001 / 255
        assert torch.equal(views.masks, whole.masks)
        assert whole.depths is not None and views.depths is not None
        step = whole.depths.max() / 65535
        assert (views.depths - whole.depths).abs().max() <= 0.51 * step
        for cache in (False, True):
            some = open_reader(shards, cache=cache)
            for order in ([2, 0, 2], [3], [0, 2]):
                part = some.load(index, order)
                assert same_cameras(part, views[order])
                assert torch.equal(part.images, views.images[order])
    assert open_reader(shards, depths=False).load(0).depths is None


def test_splits_survive(source: Path, shards: Path) -> None:
    for split in ("train", "test"):
        assert has_split(shards, split) == has_split(source, split)
        ids = open_reader(source, split).scene_ids
        packed = open_reader(shards, split)
        assert packed.scene_ids == ids
        for index, name in enumerate(ids):
            assert packed.caption(index) == name.split("-")[0]


def test_webdataset_reads_the_shards(shards: Path) -> None:
    dataset = open_reader(shards)
    files = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("pil"))
    assert len(samples) == len(dataset)
    for index in (0, 11):
        sample, views = samples[index], dataset.load(index)
        assert sample["cameras.json"]["scene"] == dataset.scene_ids[index]
        poses = torch.tensor(sample["cameras.json"]["extrinsics"]).reshape(-1, 4, 4)
        assert torch.equal(poses, views.cameras.extrinsics)
        for view in range(4):
            pixels = torch.from_numpy(np.array(sample[f"{view:04d}.png"]))
            ours = views.images[view].permute(1, 2, 0)
            assert torch.equal(pixels.float() / 255, ours)
            mask = torch.from_numpy(np.array(sample[f"{view:04d}.mask.png"]))
            # webdataset's "pil" makes every image RGB.
            assert views.masks is not None
            assert torch.equal(mask[..., 0].float() / 255, views.masks[view])


def test_framed_shards_are_what_training_frames(source: Path, tmp_path: Path) -> None:
    """The same bits from the data set and from its shards, whatever the workers."""
    for name, workers in (("a", 0), ("b", 2)):
        settings = ShardSettings(0.02, side=8)
        write_shards(open_reader(source), tmp_path / name, settings, workers=workers)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    folder = open_dataset(source, depths=False, side=8)
    sharded = open_dataset(tmp_path / "a", depths=False, side=8)
    for rank in (0, 1):
        streams = [
            ExampleStream([d], 1, 2, 5, rank, 2, buffer=3 if d is sharded else None)
            for d in (folder, sharded)
        ]
        plain = ExampleStream([sharded], 1, 2, 5, rank, 2)
        for index in (0, 5, 17):
            ours, theirs = plain.example(index), streams[0].example(index)
            assert torch.equal(ours.target.images, theirs.target.images)
            assert same_cameras(ours.target, theirs.target)
            assert torch.equal(ours.objects, theirs.objects)
    numbers = [streams[1].example(k).objects for k in range(12)]
    epochs = [int(number) for number in numbers if number is not None]
    assert epochs != sorted(epochs)


def write_until(source: Path, out: Path, last: int, reached) -> None:
    # Threads of torch do not survive a fork, and a child that waits for them hangs.
    torch.set_num_threads(1)

    def pause(done: int) -> None:
        if done == last:
            reached.set()
            time.sleep(60)

    write_shards(open_reader(source), out, SMALL, on_progress=pause)


@pytest.mark.parametrize("last", [1, 5, 12])
def test_a_kill_changes_nothing(source: Path, tmp_path: Path, last: int) -> None:
    """SIGKILL after `last` scenes, within a shard; then the same bytes as without."""
    write_shards(open_reader(source), tmp_path / "whole", SMALL)
    out, fork = tmp_path / "killed", multiprocessing.get_context("fork")
    reached = fork.Event()
    child = fork.Process(target=write_until, args=(source, out, last, reached))
    child.start()
    assert reached.wait(60)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (out / FINAL).exists() and list(out.glob(".partial-*.tar"))
    journal = read_journal(out)
    assert journal is not None
    kept = journal.shards
    assert {p.name for p in out.glob("[0-9]*.tar")} == {shard.name for shard in kept}
    with pytest.raises(UserError, match="not finished"):
        open_reader(out)
    times = {shard.name: (out / shard.name).stat().st_mtime_ns for shard in kept}
    write_shards(open_reader(source), out, SMALL)
    assert content(out) == content(tmp_path / "whole")
    for name, before in times.items():
        assert (out / name).stat().st_mtime_ns == before


def test_a_torn_journal_and_a_shard_without_record_are_made_again(
    source: Path, tmp_path: Path
) -> None:
    write_shards(open_reader(source), tmp_path / "whole", SMALL)
    out, fork = tmp_path / "out", multiprocessing.get_context("fork")
    reached = fork.Event()
    child = fork.Process(target=write_until, args=(source, out, 12, reached))
    child.start()
    assert reached.wait(60)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    journal = out / JOURNAL
    journal.write_text(journal.read_text()[:-25])
    # The last recorded shard now has no record, and an earlier one is cut short.
    first = out / "000000.tar"
    first.write_bytes(first.read_bytes()[:-512])
    write_shards(open_reader(source), out, SMALL)
    assert content(out) == content(tmp_path / "whole")


def test_other_settings_and_foreign_folders_are_refused(
    source: Path, shards: Path, tmp_path: Path
) -> None:
    before = content(shards)
    dataset = open_reader(source)
    with pytest.raises(UserError, match="size_mb"):
        write_shards(dataset, shards, ShardSettings(1.0))
    with pytest.raises(UserError, match="other data"):
        write_shards(open_reader(source, "test"), shards, SMALL)
    write_shards(dataset, shards, SMALL)
    assert content(shards) == before
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="no shards"):
        write_shards(dataset, tmp_path, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(UserError, match="positive"):
        ShardSettings(0.0)


def test_damage_is_found(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(shards, tmp_path / "out"))
    parse(["data", "shard", str(out), "--verify"]).run()
    assert "as they were written" in capsys.readouterr().out
    names = sorted(path.name for path in out.glob("*.tar"))
    changed, missing = out / names[1], out / names[0]
    data = bytearray(changed.read_bytes())
    data[2000:2100] = bytes(100)
    changed.write_bytes(bytes(data))
    missing.unlink()
    with pytest.raises(UserError, match="2 of"):
        parse(["data", "shard", str(out), "--verify"]).run()
    printed = capsys.readouterr().out
    assert f"{missing} is missing" in printed
    assert f"{changed} has other bytes" in printed
    dataset = ShardDataset(out)
    assert [p.path for p in dataset.problems] == [missing]
    lost = read_shard_manifest(out).shards[0].scenes
    assert dataset.scene_ids == open_reader(shards).scene_ids[len(lost) :]
    with pytest.raises(UserError, match=changed.name):
        dataset.load(0)
    checked = ShardDataset(out, verify=True)
    assert [p.path for p in checked.problems] == [missing, changed]
    assert len(checked) < len(dataset)


def test_scenes_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    for name in ("b c", "torn", "x"):
        write_poses(tmp_path / f"set/{name}.txt", rows())
        write_frames(tmp_path / "set" / name)
    image = next((tmp_path / "set/torn").glob("*.png"))
    image.write_bytes(image.read_bytes()[:-60])
    dataset = open_reader(tmp_path / "set")
    manifest = write_shards(dataset, tmp_path / "out", ShardSettings())
    (shard,) = manifest.shards
    assert [scene.id for scene in shard.scenes] == ["b c", "x"]
    assert shard.skipped[0][0] == "torn" and image.name in shard.skipped[0][1]
    found = open_reader(tmp_path / "out")
    for index, original in ((0, 0), (1, 2)):
        assert torch.equal(found.load(index).images, dataset.load(original).images)
    with pytest.raises(UserError, match=r"20x12|12x20"):
        write_shards(dataset, tmp_path / "large", ShardSettings(side=64))


def test_images_of_two_sizes_need_a_side(tmp_path: Path) -> None:
    write_poses(tmp_path / "set/a.txt", rows())
    write_frames(tmp_path / "set/a")
    image = next((tmp_path / "set/a").glob("*.png"))
    Image.new("RGB", (30, 30)).save(image)
    dataset: PosedReader = open_reader(tmp_path / "set")
    with pytest.raises(UserError, match="different sizes"):
        write_shards(dataset, tmp_path / "out", ShardSettings())
    write_shards(dataset, tmp_path / "framed", ShardSettings(side=12))
    assert open_reader(tmp_path / "framed").load(0).size == (12, 12)
