"""`cameras.npz`: projection matrices by their definition, in all their forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.format_samples import (
    SIZE,
    cameras,
    images_of,
    pictures,
    points,
    world_to_camera,
)
from unseen.data.dvr_layout import DVRDataset
from unseen.data.formats import find_reader, open_reader
from unseen.data.world import OPENCV_CAMERA, Y_UP
from unseen.errors import UserError
from unseen.geometry.projection import project


def shapenet_matrices(inverse: bool) -> dict[str, np.ndarray]:
    """world_mat to the camera and camera_mat to [-1, 1], of a y-up world."""
    found, result = cameras(), {}
    for index, pose in enumerate(world_to_camera(found) @ Y_UP):
        camera = np.eye(4)
        intrinsics = found.intrinsics[index].double().numpy()
        camera[:2, :3] = 2 * intrinsics[:2] - np.array([[0, 0, 1], [0, 0, 1]])
        if inverse:
            result[f"world_mat_inv_{index}"] = np.linalg.inv(pose)
        else:
            result[f"world_mat_{index}"] = pose
        result[f"camera_mat_{index}"] = camera
    return result


def scaled_matrices() -> dict[str, np.ndarray]:
    """world_mat to pixels, of a world that scale_mat maps the unit sphere into."""
    found, result = cameras(), {}
    scale = np.diag([300.0, 300, 300, 1])
    scale[:3, 3] = 10, -20, 600
    to_pixels = np.diag([SIZE[1], SIZE[0], 1.0])
    for index, pose in enumerate(world_to_camera(found) @ OPENCV_CAMERA):
        projection = to_pixels @ found.intrinsics[index].double().numpy() @ pose[:3]
        matrix = np.eye(4)
        # Any factor is the same projection.
        matrix[:3] = -7 * projection @ np.linalg.inv(scale)
        result[f"world_mat_{index}"] = matrix
        result[f"scale_mat_{index}"] = scale
    return result


def write(folder: Path, matrices: dict[str, np.ndarray], masks: int = 4) -> Path:
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True)
    for index in range(4):
        Image.fromarray(pictures()[index]).save(folder / f"image/{index:04d}.png")
    for index in range(masks):
        pixels = pictures(channels=1)[index, ..., 0]
        Image.fromarray(pixels).save(folder / f"mask/{index:04d}.png")
    np.savez(folder / "cameras.npz", **matrices)
    return folder


@pytest.mark.parametrize("kind", ["shapenet", "inverse", "scaled"])
def test_matrices_of_all_kinds(tmp_path: Path, kind: str) -> None:
    scaled = kind == "scaled"
    matrices = scaled_matrices() if scaled else shapenet_matrices(kind == "inverse")
    write(tmp_path / "02958343/a", matrices)
    assert find_reader(tmp_path) is DVRDataset
    dataset = open_reader(tmp_path)
    views = dataset.load(0)
    assert dataset.scene_ids == ["02958343/a"] and not dataset.problems
    assert torch.equal(views.images, images_of(pictures()))
    assert views.masks is not None
    found, truth = views.cameras, cameras()
    assert torch.allclose(found.extrinsics, truth.extrinsics, atol=1e-5)
    assert torch.allclose(found.intrinsics, truth.intrinsics, atol=1e-5)
    bounds = (found.near[0].item(), found.far[0].item())
    assert bounds == pytest.approx((0.1, 5) if scaled else (1.2, 4))
    # By the definition of the file: camera_mat world_mat scale_mat X.
    turn = OPENCV_CAMERA if scaled else Y_UP
    world = np.concatenate([points().numpy(), np.ones((8, 1))], axis=1)
    for index in range(4):
        matrix = np.linalg.inv(turn)
        for name in ("scale_mat", "world_mat", "camera_mat"):
            if f"{name}_inv_{index}" in matrices:
                matrix = np.linalg.inv(matrices[f"{name}_inv_{index}"]) @ matrix
            matrix = matrices.get(f"{name}_{index}", np.eye(4)) @ matrix
        local = world @ matrix.T
        xy = local[:, :2] / local[:, 2:3]
        xy = xy / [SIZE[1], SIZE[0]] if scaled else (xy + 1) / 2
        assert np.abs(project(found, points())[0][index].numpy() - xy).max() < 1e-4


def test_views_are_found_by_their_number(tmp_path: Path) -> None:
    write(tmp_path / "a", shapenet_matrices(True))
    (tmp_path / "a/image/0001.png").unlink()
    (tmp_path / "a/mask/0001.png").unlink()
    assert list(DVRDataset(tmp_path).frame_numbers(0)) == [0, 2, 3]
    views = DVRDataset(tmp_path).load(0)
    assert torch.equal(views.images, images_of(pictures()[[0, 2, 3]]))
    expected = cameras().extrinsics[[0, 2, 3]]
    assert torch.allclose(views.cameras.extrinsics, expected, atol=1e-5)


def test_lists_are_splits(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"02958343/{name}", shapenet_matrices(True))
    (tmp_path / "02958343/softras_train.lst").write_text("a\nb\n")
    (tmp_path / "02958343/softras_test.lst").write_text("c\ngone\n")
    assert DVRDataset.splits(tmp_path) == ("train", "test")
    assert open_reader(tmp_path, "train").scene_ids == ["02958343/a", "02958343/b"]
    test = open_reader(tmp_path, "test")
    assert test.scene_ids == ["02958343/c"]
    assert [p.path.name for p in test.problems] == ["gone"]


def test_bad_scenes_are_left_out_and_named(tmp_path: Path) -> None:
    matrices = shapenet_matrices(True)
    matrices["world_mat_inv_1"][0, 0] = np.nan
    del matrices["world_mat_inv_2"], matrices["camera_mat_2"]
    write(tmp_path / "good", matrices, masks=3)
    write(tmp_path / "torn", shapenet_matrices(False))
    npz = tmp_path / "torn/cameras.npz"
    npz.write_bytes(npz.read_bytes()[:200])
    dataset = DVRDataset(tmp_path)
    assert dataset.scene_ids == ["good"] and dataset.num_views(0) == 2
    assert dataset.load(0).masks is None
    found = {(p.path.parent.name, p.path.name, p.skipped) for p in dataset.problems}
    assert ("torn", "cameras.npz", "scene") in found
    assert ("image", "0002.png", "view") in found and len(found) == 4
    (tmp_path / "good/image/0003.png").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"0003\.png"):
        dataset.load(0)


def test_matrices_with_python_objects_are_refused(tmp_path: Path) -> None:
    matrices = dict.fromkeys(["world_mat_0"], np.array([{"a": 1}], dtype=object))
    write(tmp_path / "a", matrices)
    with pytest.raises(UserError, match="cannot be read"):
        DVRDataset(tmp_path)
