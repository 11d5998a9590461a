"""RealEstate10K: rows by their definition, frames by timestamp in all three forms."""

from __future__ import annotations

import zipfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from tests.data.format_samples import (
    SIZE,
    cameras,
    images_of,
    pictures,
    pixels_of,
    points,
    world_to_camera,
)
from unseen.data import realestate10k
from unseen.data.formats import find_reader, open_reader
from unseen.data.pose_error import match_pair
from unseen.data.realestate10k import RealEstate10KDataset
from unseen.data.world import OPENCV_CAMERA
from unseen.errors import UserError
from unseen.geometry.views import Views

STAMPS = [166000000, 166033333, 166066666, 5]


def rows() -> np.ndarray:
    """Four rows of 19 numbers: timestamp, intrinsics, distortion, world to camera."""
    found = cameras()
    result = np.zeros((4, 19))
    result[:, 0] = STAMPS
    for column, (i, j) in enumerate([(0, 0), (1, 1), (0, 2), (1, 2)]):
        result[:, 1 + column] = found.intrinsics[:, i, j]
    # Into a world of an upright camera: the inverse of what the reader does.
    result[:, 7:] = (world_to_camera(found) @ OPENCV_CAMERA)[:, :3].reshape(4, 12)
    return result


def write_poses(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        " ".join([f"{row[0]:.0f}", *(f"{number:.9f}" for number in row[1:])])
        for row in table
    ]
    path.write_text("\n".join(["https://www.youtube.com/watch?v=a", *lines, ""]))


def write_frames(folder: Path, skip: tuple[int, ...] = ()) -> None:
    folder.mkdir(parents=True)
    for index, stamp in enumerate(STAMPS):
        if index not in skip:
            Image.fromarray(pictures()[index]).save(folder / f"{stamp}.png")


def test_rows_project_as_the_release_defines(tmp_path: Path) -> None:
    write_poses(tmp_path / "clip.txt", rows())
    write_frames(tmp_path / "clip")
    assert find_reader(tmp_path) is RealEstate10KDataset
    dataset = open_reader(tmp_path)
    views = dataset.load(0)
    assert dataset.scene_ids == ["clip"] and not dataset.problems
    assert torch.equal(views.images, images_of(pictures()))
    assert torch.allclose(views.cameras.extrinsics, cameras().extrinsics, atol=1e-6)
    # x = K (R X + t) with the file's numbers; z up is y down in the file's world.
    world = points()
    theirs = np.stack([world[:, 0], -world[:, 2], world[:, 1]], axis=1)
    for index, row in enumerate(rows()):
        matrix = row[7:].reshape(3, 4)
        local = theirs @ matrix[:, :3].T + matrix[:, 3]
        xy = row[1:3] * local[:, :2] / local[:, 2:] + row[3:5]
        expected = xy * [SIZE[1], SIZE[0]]
        assert np.abs(pixels_of(views.cameras, world)[index] - expected).max() < 1e-3
    assert views.cameras.near[0] == pytest.approx(0.7) and views.cameras.far[0] == 10


def test_frames_are_found_by_timestamp_and_never_by_position(tmp_path: Path) -> None:
    write_poses(tmp_path / "train/clip.txt", rows())
    write_frames(tmp_path / "train/clip", skip=(0, 2))
    Image.fromarray(pictures()[0]).save(tmp_path / "train/clip/7.png")
    dataset = open_reader(tmp_path, "train")
    views = dataset.load(0)
    assert torch.equal(views.images, images_of(pictures()[[1, 3]]))
    expected = cameras().extrinsics[[1, 3]]
    assert torch.allclose(views.cameras.extrinsics, expected, atol=1e-6)
    assert list(dataset.frame_numbers(0)) == [1, 3]
    (problem,) = dataset.problems
    assert problem.skipped == "view" and "2 of 4" in problem.reason
    assert str(STAMPS[0]) in problem.reason


def test_mat_files_of_dfm(tmp_path: Path) -> None:
    for split, clip in (("train", "0a"), ("test", "b")):
        scipy.io.savemat(tmp_path / f"{split}.mat", {clip: rows()})
        write_frames(tmp_path / split / clip)
    assert RealEstate10KDataset.splits(tmp_path) == ("train", "test")
    assert open_reader(tmp_path).scene_ids == ["0a", "b"]
    dataset = open_reader(tmp_path, "test")
    assert dataset.scene_ids == ["b"]
    poses = dataset.load(0).cameras.extrinsics
    assert torch.allclose(poses, cameras().extrinsics, atol=1e-6)
    (tmp_path / "test.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match=r"test\.mat"):
        open_reader(tmp_path)


def write_video(path: Path, count: int) -> None:
    """Frames of one grey each, 40 steps apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = imageio_ffmpeg.write_frames(str(path), (32, 32), macro_block_size=1)
    writer.send(None)
    for index in range(count):
        writer.send(np.full((32, 32, 3), 40 * (index + 1), np.uint8))
    writer.close()


def test_videos_hold_one_frame_per_pose(tmp_path: Path) -> None:
    for clip, count in (("whole", 4), ("short", 3)):
        write_poses(tmp_path / f"pose_files/{clip}.txt", rows())
        write_video(tmp_path / f"videos/{clip}.mp4", count)
    dataset = open_reader(tmp_path, cache=True)
    assert dataset.scene_ids == ["whole"]
    (problem,) = dataset.problems
    assert problem.path.name == "short.mp4" and problem.skipped == "scene"
    assert list(dataset.frame_numbers(0)) == [0, 1, 2, 3]
    for order in ([3, 0], [1]):
        means = dataset.load(0, order).images.mean((1, 2, 3)) * 255
        assert (means - torch.tensor([40.0 * (k + 1) for k in order])).abs().max() < 4


def test_bad_rows_are_left_out_and_named(tmp_path: Path) -> None:
    table = rows()
    table[1, 9] = np.nan
    table[2, 7:10] *= 1.5
    table = np.concatenate([table, table[:1]])
    write_poses(tmp_path / "bad.txt", table)
    write_frames(tmp_path / "bad")
    write_poses(tmp_path / "lonely.txt", rows())
    distorted = rows()
    distorted[0, 5] = 0.1
    write_poses(tmp_path / "bent.txt", distorted)
    write_frames(tmp_path / "bent")
    (tmp_path / "torn.txt").write_text("https://a\n1 2 3\n")
    dataset = RealEstate10KDataset(tmp_path)
    assert dataset.scene_ids == ["bad"] and dataset.num_views(0) == 2
    assert torch.equal(dataset.load(0).images, images_of(pictures()[[0, 3]]))
    assert list(dataset.frame_numbers(0)) == [0, 3]
    found = sorted((p.path.stem, p.skipped) for p in dataset.problems)
    scenes = [("bent", "scene"), ("lonely", "scene"), ("torn", "scene")]
    assert found == sorted([("bad", "view")] * 3 + scenes)
    image = tmp_path / "bad" / f"{STAMPS[0]}.png"
    image.write_bytes(image.read_bytes()[:-30])
    with pytest.raises(UserError, match=str(STAMPS[0])):
        dataset.load(0, [0])


@pytest.mark.shared
def test_matched_features_of_real_clips_lie_on_epipolar_lines(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(shared / "data/posed/realestate10k_clips.zip") as archive:
        archive.extractall(tmp_path)
    dataset = open_reader(tmp_path)
    assert len(dataset) == 5 and not dataset.problems
    assert [dataset.num_views(index) for index in range(5)] == [16] * 5
    for index in range(5):
        views = dataset.load(index, [2, 9])
        assert views.size == (256, 384)
        assert match_pair(views, 2, 9).distances.median() < 2
        # Upright: the cameras' y axes point down in the world.
        assert (views.cameras.extrinsics[:, 2, 1] < -0.9).all()
    views = dataset.load(2, [2, 9])
    convert = realestate10k.convert_rows

    def flipped(table: np.ndarray):
        extrinsics, intrinsics = convert(table)
        return extrinsics @ np.diag([1.0, -1, -1, 1]), intrinsics

    monkeypatch.setattr(realestate10k, "convert_rows", flipped)
    wrong = open_reader(tmp_path).load(2, [2, 9]).cameras
    assert match_pair(Views(views.images, wrong), 2, 9).distances.median() > 4
