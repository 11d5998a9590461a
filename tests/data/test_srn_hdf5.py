"""SRN objects in HDF5: the same as from folders, and refused when broken."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from unseen.data.cameras import object_cameras
from unseen.data.formats import find_reader, open_reader
from unseen.data.procedural import make_object
from unseen.data.srn_hdf5 import HDF5Dataset
from unseen.data.srn_layout import SRNDataset, write_object
from unseen.errors import UserError

h5py = pytest.importorskip("h5py")


def write_folders(root: Path) -> Path:
    for index, name in enumerate(("mug", "crate")):
        cameras = object_cameras(3, torch.Generator().manual_seed(index))
        write_object(root, name, make_object(name, 1).render(cameras, 16))
    return root


def pack(root: Path, path: Path) -> Path:
    """Every file's bytes under its path, as the released files have it."""
    with h5py.File(path, "w") as file:
        for item in sorted(root.rglob("*")):
            if item.is_file() and "depth" not in item.parts:
                content = np.frombuffer(item.read_bytes(), np.uint8)
                file[item.relative_to(root).as_posix()] = content
    return path


def test_the_same_as_from_folders(tmp_path: Path) -> None:
    folders = SRNDataset(write_folders(tmp_path / "set"), depths=False)
    path = pack(tmp_path / "set", tmp_path / "cars_train.hdf5")
    assert find_reader(path) is HDF5Dataset
    for dataset in (open_reader(path), pickle.loads(pickle.dumps(open_reader(path)))):
        assert dataset.scene_ids == folders.scene_ids and not dataset.problems
        for index in (0, 1):
            ours, theirs = dataset.load(index, [2, 0]), folders.load(index, [2, 0])
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.masks, theirs.masks)
            for name in ("extrinsics", "intrinsics", "near", "far"):
                one, other = getattr(ours.cameras, name), getattr(theirs.cameras, name)
                assert torch.allclose(one, other, rtol=1e-6, atol=1e-7), name


def test_arrays_instead_of_files_and_a_fifth_line(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["car/rgb/000000.png"] = pixels
        pose = np.eye(4)
        pose[2, 3] = -2
        file["car/pose/000000.txt"] = pose
        text = b"10 4 4 0.\n0. 0. 0.\n1.\n8 8\n0\n"
        file["car/intrinsics.txt"] = np.frombuffer(text, np.uint8)
    views = HDF5Dataset(tmp_path / "a.h5").load(0)
    expected = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    assert torch.equal(views.images[0], expected) and views.masks is None
    assert views.cameras.intrinsics[0, 0, 0] == 1.25


def test_bad_entries_are_left_out_and_named(tmp_path: Path) -> None:
    path = pack(write_folders(tmp_path / "set"), tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["mug/rgb/000000.png"]
        del file["mug/pose/000001.txt"]
        file["mug/pose/000001.txt"] = np.frombuffer(b"nan " * 16, np.uint8)
        del file["crate/intrinsics.txt"]
        image = file["mug/rgb/000002.png"][()][:-60]
        del file["mug/rgb/000002.png"]
        file["mug/rgb/000002.png"] = image
    dataset = HDF5Dataset(path)
    assert dataset.scene_ids == ["mug"] and dataset.num_views(0) == 1
    assert list(dataset.frame_numbers(0)) == [2]
    assert [p.skipped for p in dataset.problems] == ["scene", "view", "view"]
    with pytest.raises(UserError, match=r"mug/rgb/000002\.png"):
        dataset.load(0)
    torn = tmp_path / "torn.hdf5"
    torn.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="no HDF5 file"):
        HDF5Dataset(torn)
