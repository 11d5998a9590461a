"""Every reader, on a scene written by the format's own description."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.posed_files import (
    POINTS,
    VIEWS,
    make_views,
    save_image,
    write_colmap_binary,
    write_colmap_text,
    write_llff,
    write_nerf_synthetic,
    write_posed_folder,
    write_transforms,
    write_zero123,
)
from unseen.data.formats import find_reader, has_split, open_dataset, open_reader
from unseen.data.lens import Lens
from unseen.errors import UserError
from unseen.geometry.projection import world_to_camera
from unseen.geometry.views import Views

Write = Callable[..., None]

WRITERS: dict[str, tuple[Write, bool]] = {
    "Zero-1-to-3": (write_zero123, True),
    "NeRF-synthetic": (write_nerf_synthetic, True),
    "instant-ngp / nerfstudio transforms.json": (write_transforms, True),
    "LLFF": (write_llff, False),
    "COLMAP": (write_colmap_text, False),
    "posed folder (poses.json)": (write_posed_folder, True),
}
"""Per format: what writes it, and whether its world is upright already."""


@pytest.fixture(scope="module")
def truth() -> Views:
    return make_views()


@pytest.mark.parametrize("name", WRITERS)
def test_a_scene_is_read_back(name: str, truth: Views, tmp_path: Path) -> None:
    write, upright = WRITERS[name]
    root = tmp_path / "mug"
    root.mkdir()
    write(root, truth)
    dataset = open_reader(root)
    assert dataset.format_name == name and dataset.problems == ()
    assert dataset.scene_ids == ["mug"] and dataset.num_views(0) == VIEWS
    views = dataset.load(0)
    assert (views.images - truth.images).abs().max() < 1.5 / 255
    assert views.masks is not None and truth.masks is not None
    assert (views.masks - truth.masks).abs().max() < 1 / 255
    # The world may have been turned, by one rotation for all cameras.
    found, known = views.cameras.extrinsics, truth.cameras.extrinsics
    motion = found[0] @ torch.linalg.inv(known[0])
    assert torch.allclose(found, motion @ known, atol=1e-5)
    if upright:
        assert torch.allclose(motion, torch.eye(4), atol=1e-5)
    else:
        assert torch.allclose(motion[:3, 3], torch.zeros(3), atol=1e-5)
        up = torch.nn.functional.normalize(-found[:, :3, 1].mean(dim=0), dim=0)
        assert torch.allclose(up, torch.tensor([0.0, 0.0, 1.0]), atol=1e-4)
    # All formats but Zero-1-to-3, whose field of view is fixed, state intrinsics.
    if name == "Zero-1-to-3":
        fov = 2 * math.degrees(
            math.atan(0.5 / float(views.cameras.intrinsics[0, 0, 0]))
        )
        assert fov == pytest.approx(49.134, abs=1e-3)
    else:
        expected = truth.cameras.intrinsics
        assert torch.allclose(views.cameras.intrinsics, expected, atol=1e-5)
    assert (views.cameras.near > 0).all()
    assert (views.cameras.far > views.cameras.near).all()


@pytest.mark.parametrize("name", WRITERS)
def test_a_root_of_scenes_and_some_views(
    name: str, truth: Views, tmp_path: Path
) -> None:
    write, _ = WRITERS[name]
    for scene in ("b", "a"):
        (tmp_path / scene).mkdir()
        write(tmp_path / scene, truth)
    (tmp_path / "__MACOSX").mkdir()
    plain, cached = open_dataset(tmp_path), open_dataset(tmp_path, cache=True)
    assert plain.scene_ids == ["a", "b"]
    whole = plain.load(1)
    for _ in range(2):
        some = cached.load(1, [3, 0])
        assert torch.equal(some.images, whole.images[[3, 0]])
        assert torch.equal(some.cameras.extrinsics, whole.cameras.extrinsics[[3, 0]])


def test_binary_and_text_models_of_colmap_agree(truth: Views, tmp_path: Path) -> None:
    for kind, write in (("text", write_colmap_text), ("binary", write_colmap_binary)):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind, truth)
    text, binary = (open_dataset(tmp_path / kind) for kind in ("text", "binary"))
    one, other = text.load(0).cameras, binary.load(0).cameras
    for field in dataclasses.fields(one):
        name = field.name
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-6), name


def test_bounds_of_colmap_come_from_its_points(truth: Views, tmp_path: Path) -> None:
    write_colmap_text(tmp_path, truth)
    cameras = open_dataset(tmp_path).load(0).cameras
    points = torch.from_numpy(POINTS).float().expand(VIEWS, -1, -1)
    depths = world_to_camera(truth.cameras, points)[..., 2]
    low, high = (torch.quantile(depths, q, dim=1) for q in (0.01, 0.99))
    # The last image observed none, and gets all points that are before it.
    assert torch.allclose(cameras.near, 0.9 * low, atol=1e-4)
    assert torch.allclose(cameras.far, 1.1 * high, atol=1e-4)
    (tmp_path / "sparse/0/points3D.txt").unlink()
    cameras = open_dataset(tmp_path).load(0).cameras
    distance = truth.cameras.centers.norm(dim=1)
    assert torch.allclose(0.5 * (cameras.near + cameras.far), distance, atol=0.05)


def test_bounds_that_are_stated_or_follow_from_the_cameras(
    truth: Views, tmp_path: Path
) -> None:
    distance = truth.cameras.centers.norm(dim=1)
    for name, (write, _) in WRITERS.items():
        place = tmp_path / name.split()[0]
        place.mkdir()
        write(place, truth)
        cameras = open_dataset(place).load(0).cameras
        middle, radius = 0.5 * (cameras.near + cameras.far), cameras.far - cameras.near
        if name == "LLFF":
            assert torch.allclose(cameras.near, truth.cameras.near, atol=1e-5)
            assert torch.allclose(cameras.far, truth.cameras.far, atol=1e-5)
        elif name == "Zero-1-to-3":
            assert torch.allclose(middle, distance, atol=1e-4)
            assert torch.allclose(radius, torch.full((VIEWS,), math.sqrt(3)), atol=1e-4)
        elif name == "NeRF-synthetic":
            assert torch.allclose(middle, distance, atol=1e-3)
            expected = distance.mean().expand(VIEWS)
            assert torch.allclose(radius, expected, atol=1e-3)


def test_the_parts_of_nerf_synthetic(truth: Views, tmp_path: Path) -> None:
    write_nerf_synthetic(tmp_path, truth)
    counts = [open_dataset(tmp_path, s).num_views(0) for s in ("train", "test", None)]
    assert counts == [3, 2, 5]
    assert has_split(tmp_path, "test")
    (tmp_path / "transforms_test.json").unlink()
    assert not has_split(tmp_path, "test") and has_split(tmp_path, "train")


def test_the_box_of_a_capture_bounds_it(truth: Views, tmp_path: Path) -> None:
    write_transforms(tmp_path, truth, aabb_scale=1)
    cameras = open_dataset(tmp_path).load(0).cameras
    # A cube of side 1 / 0.33 around the origin; its corners in the cameras' depth.
    half = 0.5 / 0.33
    signs = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = (half * signs).expand(VIEWS, -1, -1)
    depths = world_to_camera(truth.cameras, corners)[..., 2]
    far = depths.amax(dim=1)
    assert torch.allclose(cameras.far, far, atol=1e-4)
    near = torch.maximum(depths.amin(dim=1), 0.02 * far)
    assert torch.allclose(cameras.near, near, atol=1e-4)
    write_transforms(tmp_path, truth, aabb=[[1, 1, 1], [0, 0, 0]])
    with pytest.raises(UserError, match="states a box"):
        open_dataset(tmp_path)


def test_nerfstudio_leaves_up_to_the_reader(truth: Views, tmp_path: Path) -> None:
    tilt = torch.eye(4)
    tilt[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    tilted = dataclasses.replace(truth, cameras=truth.cameras.transform(tilt))
    write_transforms(tmp_path, tilted)
    left = open_reader(tmp_path)
    assert torch.allclose(
        left.load(0).cameras.extrinsics, tilted.cameras.extrinsics, atol=1e-5
    )
    write_transforms(tmp_path, tilted, camera_model="OPENCV")
    turned = open_reader(tmp_path)
    up = -turned.load(0).cameras.extrinsics[:, :3, 1].mean(dim=0)
    assert up[:2].abs().max() < 1e-4 and up[2] > 0
    assert any("turned" in note for note in turned.notes)


def test_intrinsics_and_distortion_per_frame(truth: Views, tmp_path: Path) -> None:
    write_transforms(tmp_path, truth)
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"][2] |= {"fl_x": 48, "cx": 6, "k1": 0.1}
    path.write_text(json.dumps(content))
    dataset = open_reader(tmp_path)
    cameras = dataset.load(0).cameras
    assert cameras.intrinsics[2, 0].tolist() == pytest.approx([2, 0, 0.25])
    assert cameras.intrinsics[1, 0, 2] == pytest.approx(0.5)
    assert any("undistorted" in note for note in dataset.notes)


def test_masks_beside_photographs(truth: Views, tmp_path: Path) -> None:
    write_llff(tmp_path, truth)
    white = torch.zeros(VIEWS, 3, *truth.size)
    white[:, :, 4:8] = 1
    masks = dataclasses.replace(truth, images=white, masks=None)
    for index in range(VIEWS):
        save_image(truth, index, tmp_path / f"images_4/IMG_{index}.png", alpha=False)
        save_image(masks, index, tmp_path / f"masks_4/IMG_{index}_mask.png")
    found = open_dataset(tmp_path).load(0)
    assert found.masks is not None and torch.equal(found.masks, white[:, 0])
    assert (found.images - truth.images).abs().max() < 1 / 255
    # Some masks without others are of no use, which is said.
    (tmp_path / "masks_4/IMG_1_mask.png").unlink()
    partial = open_dataset(tmp_path)
    assert partial.load(0).masks is None
    assert [p.skipped for p in partial.problems] == [None]
    assert "IMG_1.png" in partial.problems[0].reason


def test_colmap_models_with_distortion(truth: Views, tmp_path: Path) -> None:
    write_colmap_text(tmp_path, truth)
    cameras = tmp_path / "sparse/0/cameras.txt"
    cases = {
        "PINHOLE 24 24 30 31 12 13": Lens(),
        "SIMPLE_RADIAL 24 24 30 12 13 0.1": Lens(0.1),
        "RADIAL 24 24 30 12 13 0.1 0.2": Lens(0.1, 0.2),
        "OPENCV 24 24 30 31 12 13 0.1 0.2 0.3 0.4": Lens(0.1, 0.2, 0.3, 0.4),
    }
    for line, lens in cases.items():
        cameras.write_text(f"7 {line}\n")
        reader = open_reader(tmp_path)
        frame = reader.frames(0)[0]  # type: ignore[attr-defined]
        assert frame.lens == lens
        fy = 30 if lens.k1 and not lens.p1 else 31
        expected = np.array([[30 / 24, 0, 0.5], [0, fy / 24, 13 / 24], [0, 0, 1]])
        assert np.allclose(frame.intrinsics.numpy(), expected)
    cameras.write_text("7 OPENCV_FISHEYE 24 24 30 31 12 13 0 0 0 0\n")
    with pytest.raises(UserError, match="model OPENCV_FISHEYE"):
        open_dataset(tmp_path)


def test_a_truncated_model_is_refused(truth: Views, tmp_path: Path) -> None:
    write_colmap_binary(tmp_path, truth)
    path = tmp_path / "sparse/images.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"images\.bin is damaged"):
        open_dataset(tmp_path)


def test_pixel_intrinsics_of_a_posed_folder(truth: Views, tmp_path: Path) -> None:
    pixels = {"fx": 30, "fy": 36, "cx": 12, "cy": 6, "width": 24, "height": 24}
    write_posed_folder(tmp_path, truth, intrinsics=pixels, near=0.5, far=9)
    cameras = open_dataset(tmp_path).load(0).cameras
    expected = torch.tensor([[1.25, 0, 0.5], [0, 1.5, 0.25], [0, 0, 1]])
    assert torch.allclose(cameras.intrinsics, expected.expand(VIEWS, 3, 3))
    assert cameras.near.tolist() == [0.5] * VIEWS
    assert cameras.far.tolist() == [9.0] * VIEWS
    bare = {name: pixels[name] * 10 for name in ("fx", "fy", "cx", "cy")}
    write_posed_folder(tmp_path, truth, intrinsics=bare)
    with pytest.raises(UserError, match="need width and height"):
        open_dataset(tmp_path)
    write_posed_folder(tmp_path, truth, camera_to_world="opengl")
    with pytest.raises(UserError, match='must be "opencv"'):
        open_dataset(tmp_path)


def test_what_nothing_recognises_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"known are .*COLMAP.*ShapeNet-SRN"):
        find_reader(tmp_path)
    archive = tmp_path / "fox.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(UserError, match="unpack it first"):
        find_reader(archive)
    with pytest.raises(UserError, match="There is no folder"):
        find_reader(tmp_path / "nowhere")


def test_objects_that_an_index_names(truth: Views, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_zero123(tmp_path / name, truth)
    (tmp_path / "valid_paths.json").write_text(json.dumps(["b", "gone"]))
    dataset = open_dataset(tmp_path)
    assert dataset.scene_ids == ["b"]
    assert [(p.path.name, p.skipped) for p in dataset.problems] == [("gone", "scene")]
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(UserError, match="no usable scene"):
        open_dataset(tmp_path)
