"""What is wrong with data is found, said once with the file's name, and left out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.posed_files import (
    VIEWS,
    make_views,
    write_llff,
    write_posed_folder,
    write_transforms,
    write_zero123,
)
from unseen.data.formats import open_dataset
from unseen.data.inspection import check, summarize_problems, survey_scene
from unseen.data.srn_layout import write_object
from unseen.errors import UserError
from unseen.geometry.views import Views


@pytest.fixture(scope="module")
def truth() -> Views:
    return make_views()


def spoil_pose(root: Path, number: int, pose: object) -> None:
    path = root / "poses.json"
    content = json.loads(path.read_text())
    content["frames"][number]["extrinsics"] = pose
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("rotation", "reason"),
    [
        (np.diag([1.0, 1.0, -1.0]), "mirrored"),
        (np.diag([2.0, 2.0, 2.0]), "not orthonormal"),
        (np.array([[1.0, 0.1, 0], [0, 1, 0], [0, 0, 1]]), "not orthonormal"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_a_bad_pose_leaves_its_view_out(
    truth: Views, tmp_path: Path, rotation: np.ndarray, reason: str
) -> None:
    write_posed_folder(tmp_path, truth)
    pose = np.eye(4)
    pose[:3, :3] = rotation
    spoil_pose(tmp_path, 1, pose.tolist())
    dataset = open_dataset(tmp_path)
    assert dataset.num_views(0) == VIEWS - 1
    (problem,) = dataset.problems
    assert problem.path == tmp_path / "1.png" and problem.skipped == "view"
    assert reason in problem.reason and str(problem.path) in problem.reason
    assert list(dataset.frame_numbers(0)) == [0, 2, 3, 4]
    # The others are what they were, near and far included.
    kept = dataset.load(0)
    members = [0, 2, 3, 4]
    assert torch.allclose(
        kept.cameras.extrinsics, truth.cameras.extrinsics[members], atol=1e-6
    )
    assert (kept.images - truth.images[members]).abs().max() < 1.5 / 255


def test_frames_without_a_file_or_listed_twice(truth: Views, tmp_path: Path) -> None:
    write_transforms(tmp_path, truth)
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"] += [content["frames"][0], {"file_path": "images/9.png"}]
    content["frames"].append({**content["frames"][0], "file_path": "images/gone.png"})
    path.write_text(json.dumps(content))
    (tmp_path / "images/3.png").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.num_views(0) == VIEWS - 1
    found = {p.path.name: p.reason for p in dataset.problems}
    assert len(dataset.problems) == 4 and all(
        p.skipped == "view" for p in dataset.problems
    )
    assert "no such file" in found["3.png"] and "no such file" in found["gone.png"]
    assert "twice" in found["0.png"]
    assert "transform_matrix" in found["transforms.json"]
    summary = summarize_problems(dataset.problems)
    assert summary.startswith("4 views left out; the first: ")


def test_bounds_that_are_wrong(truth: Views, tmp_path: Path) -> None:
    write_llff(tmp_path, truth)
    path = tmp_path / "poses_bounds.npy"
    rows = np.load(path)
    rows[0, 15:] = rows[0, [16, 15]]
    rows[1, 15] = -1
    np.save(path, rows)
    dataset = open_dataset(tmp_path)
    assert dataset.num_views(0) == VIEWS - 2
    assert [p.path.name for p in dataset.problems] == ["IMG_0.png", "IMG_1.png"]
    assert all("0 < near < far" in p.reason for p in dataset.problems)


def test_poses_without_their_images_leave_the_scene_out(
    truth: Views, tmp_path: Path
) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        write_llff(tmp_path / name, truth)
    (tmp_path / "bad/images_4/IMG_0.png").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.scene_ids == ["good"] and dataset.num_views(0) == VIEWS
    (problem,) = dataset.problems
    assert problem.skipped == "scene" and "5 poses" in problem.reason
    with pytest.raises(UserError, match="no usable scene of the format LLFF"):
        open_dataset(tmp_path / "bad")


def test_numpy_files_that_hold_no_pose(truth: Views, tmp_path: Path) -> None:
    write_zero123(tmp_path, truth)
    np.save(tmp_path / "001.npy", np.zeros(5))
    (tmp_path / "002.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "003.png").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.num_views(0) == 2
    names = sorted(p.path.name for p in dataset.problems)
    assert names == ["001.npy", "002.npy", "003.png"]


@pytest.mark.parametrize("content", ["{", "[]", '{"frames": 3}', "{}"])
def test_a_list_that_is_none_is_refused(
    truth: Views, tmp_path: Path, content: str
) -> None:
    for name in ("transforms.json", "poses.json"):
        place = tmp_path / name.split(".")[0]
        place.mkdir()
        (place / name).write_text(content)
        with pytest.raises(UserError, match=f"{name} is damaged"):
            open_dataset(place)


def test_a_truncated_image_is_found_by_looking(truth: Views, tmp_path: Path) -> None:
    write_posed_folder(tmp_path, truth)
    path = tmp_path / "2.png"
    path.write_bytes(path.read_bytes()[:80])
    dataset = open_dataset(tmp_path)
    # Opening decodes nothing, and reading names the file.
    assert dataset.problems == () and check(dataset, images=False) == ()
    with pytest.raises(UserError, match=r"2\.png is missing or damaged"):
        dataset.load(0)
    (problem,) = check(dataset)
    assert problem.skipped == "view" and str(path) in problem.reason
    survey = survey_scene(dataset, 0)
    assert survey.views == (0, 1, 3, 4) and survey.problems == (problem,)


def test_mixed_sizes_need_one_side(truth: Views, tmp_path: Path) -> None:
    write_posed_folder(tmp_path, truth)
    with Image.open(tmp_path / "4.png") as image:
        image.resize((48, 36)).save(tmp_path / "4.png")
    dataset = open_dataset(tmp_path)
    (problem,) = check(dataset)
    assert problem.skipped is None and "view 4 is 36x48" in problem.reason
    with pytest.raises(UserError, match="different sizes"):
        dataset.load(0)
    assert dataset.load(0, [0, 1]).size == (24, 24)
    assert open_dataset(tmp_path, side=16).load(0).size == (16, 16)


def test_cameras_at_one_place_or_looking_apart(truth: Views, tmp_path: Path) -> None:
    poses = torch.eye(4).repeat(VIEWS, 1, 1)
    same = dataclasses.replace(truth.cameras, extrinsics=poses)
    write_posed_folder(tmp_path, dataclasses.replace(truth, cameras=same))
    with pytest.raises(UserError, match="its cameras do not tell"):
        open_dataset(tmp_path)
    # Parallel cameras: near and far can only be guessed, which is said.
    poses = poses.clone()
    poses[:, 0, 3] = torch.arange(VIEWS)
    apart = dataclasses.replace(truth.cameras, extrinsics=poses)
    write_posed_folder(tmp_path, dataclasses.replace(truth, cameras=apart))
    dataset = open_dataset(tmp_path)
    assert [p.skipped for p in dataset.problems] == [None]
    assert "guesses" in dataset.problems[0].reason
    cameras = dataset.load(0).cameras
    assert torch.allclose(cameras.near, torch.tensor(0.2).expand(VIEWS))
    assert torch.allclose(cameras.far, torch.tensor(20.0).expand(VIEWS))


def test_all_bad_poses_of_the_srn_layout_are_listed(
    truth: Views, tmp_path: Path
) -> None:
    write_object(tmp_path, "mug", truth)
    for number in (1, 3):
        (tmp_path / f"mug/pose/00000{number}.txt").write_text("nan " * 16)
    found = check(open_dataset(tmp_path))
    assert [p.skipped for p in found] == ["view", "view"]
    assert "000001.txt" in found[0].reason and "000003.txt" in found[1].reason
