"""pixelSplat's chunks: the cameras of RealEstate10K, images that stay encoded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from tests.data.format_samples import cameras, images_of, pictures, png
from tests.data.test_realestate10k import STAMPS, rows
from unseen.data.formats import find_reader, open_reader
from unseen.data.pixelsplat_chunks import PixelSplatDataset
from unseen.errors import UserError


def clip(key: str) -> dict:
    images = [
        torch.frombuffer(bytearray(png(p)), dtype=torch.uint8) for p in pictures()
    ]
    return {
        "key": key,
        "url": "https://a",
        "cameras": torch.from_numpy(rows()[:, 1:]).float(),
        "timestamps": torch.tensor(STAMPS),
        "images": images,
    }


def write(path: Path, clips: list, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(clips, path, **options)


def test_chunks_read_back(tmp_path: Path) -> None:
    write(tmp_path / "train/000000.torch", [clip("b"), clip("a")])
    # The format of torch before 1.6, which cannot be mapped into memory.
    old = {"_use_new_zipfile_serialization": False}
    write(tmp_path / "test/000000.torch", [clip("c")], **old)
    assert find_reader(tmp_path) is PixelSplatDataset
    dataset = open_reader(tmp_path)
    assert dataset.scene_ids == ["a", "b", "c"] and not dataset.problems
    for index in (0, 2):
        views = pickle.loads(pickle.dumps(dataset)).load(index, [3, 1])
        assert torch.equal(views.images, images_of(pictures()[[3, 1]]))
        expected = cameras()[[3, 1]]
        found = views.cameras
        assert torch.allclose(found.extrinsics, expected.extrinsics, atol=1e-5)
        assert torch.allclose(found.intrinsics, expected.intrinsics, atol=1e-6)
    assert PixelSplatDataset.splits(tmp_path) == ("train", "test")
    assert open_reader(tmp_path, "test").scene_ids == ["c"]


def test_bad_chunks_and_clips_are_left_out_and_named(tmp_path: Path) -> None:
    short, twice, nan = clip("short"), clip("twice"), clip("nan")
    short["images"] = short["images"][:3]
    twice["timestamps"][2] = STAMPS[0]
    nan["cameras"][1, 7] = float("nan")
    nan["images"][0] = nan["images"][0][:50].clone()
    write(tmp_path / "000000.torch", [short, twice, nan, {"key": "empty"}])
    (tmp_path / "000001.torch").write_bytes(b"cut short")
    index = {"twice": "000000.torch", "lost": "000001.torch"}
    (tmp_path / "index.json").write_text(json.dumps(index))
    dataset = PixelSplatDataset(tmp_path)
    assert dataset.scene_ids == ["nan", "twice"]
    assert [dataset.num_views(k) for k in (0, 1)] == [3, 3]
    assert [list(dataset.frame_numbers(k)) for k in (0, 1)] == [[0, 2, 3], [0, 1, 3]]
    found = sorted((p.path.name, p.skipped) for p in dataset.problems)
    assert found == [
        *[("000000.torch", "scene")] * 2,
        *[("000000.torch", "view")] * 2,
        ("000001.torch", "scene"),
        ("index.json", "scene"),
    ]
    with pytest.raises(UserError, match=r"0 of nan in .*000000"):
        dataset.load(0, [0])


def test_what_runs_code_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "000000.torch", [{"key": Path("/"), "cameras": print}])
    with pytest.raises(UserError, match="damaged or no file of tensors"):
        PixelSplatDataset(tmp_path)
