"""CO3Dv2: PyTorch3D's cameras by their definition, depths, splits, bad entries."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.format_samples import SIZE, images_of, pictures, pixels_of
from unseen.data import co3d
from unseen.data.co3d import CO3DDataset
from unseen.data.formats import find_reader, open_reader
from unseen.data.pose_error import match_pair
from unseen.errors import UserError

WORLD = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))


def viewpoint(index: int, layout: str) -> dict[str, Any]:
    """A PyTorch3D camera that looks at the origin from distance 6, x left, y up."""
    angle = 0.4 + 0.7 * index
    center = np.array([6 * np.cos(angle), 2.0, 6 * np.sin(angle)])
    forward = -center / np.linalg.norm(center)
    left = np.cross([0, 1, 0], forward)
    left = left / np.linalg.norm(left)
    # Row vectors: the columns of R are the camera's axes in the world.
    rotation = np.stack([left, np.cross(forward, left), forward], axis=1)
    return {
        "R": rotation.tolist(),
        "T": (-center @ rotation).tolist(),
        "focal_length": [2.5, 2.3],
        "principal_point": [0.11, -0.07],
        "intrinsics_format": layout,
    }


def entry(sequence: str, index: int, layout: str = "ndc_isotropic") -> dict[str, Any]:
    place = f"mug/{sequence}"
    return {
        "sequence_name": sequence,
        "frame_number": index,
        "image": {"path": f"{place}/images/{index}.png", "size": list(SIZE)},
        "mask": {"path": f"{place}/masks/{index}.png"},
        "depth": {
            "path": f"{place}/depths/{index}.png",
            "scale_adjustment": 2.0,
            "mask_path": f"{place}/depth_masks/{index}.png",
        },
        "viewpoint": viewpoint(index, layout),
    }


DEPTH = np.linspace(0.3, 9, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float16)
VALID = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 3 > 0).astype(np.uint8)


def write_files(root: Path, entries: list[dict[str, Any]]) -> None:
    depth = DEPTH.copy()
    depth[0, :2] = np.nan, np.inf
    for number, found in enumerate(entries):
        whole = {
            found["image"]["path"]: pictures()[number % 4],
            found["mask"]["path"]: pictures(channels=1)[number % 4, ..., 0],
            found["depth"]["path"]: depth.view(np.uint16),
            found["depth"]["mask_path"]: VALID * 255,
        }
        for path, pixels in whole.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)


def annotate(root: Path, entries: list[dict[str, Any]]) -> Path:
    (root / "mug").mkdir(parents=True, exist_ok=True)
    with gzip.open(root / "mug" / co3d.FRAMES, "wt") as file:
        json.dump(entries, file)
    return root


@pytest.mark.parametrize("layout", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_cameras_project_as_pytorch3d_defines(tmp_path: Path, layout: str) -> None:
    entries = [entry("a", index, layout) for index in range(4)]
    write_files(tmp_path, entries)
    annotate(tmp_path, entries)
    assert find_reader(tmp_path) is CO3DDataset
    dataset = open_reader(tmp_path)
    views = dataset.load(0)
    assert dataset.scene_ids == ["mug/a"] and not dataset.problems
    assert dataset.caption(0) == "mug"
    half = np.array([SIZE[1], SIZE[0]]) / 2
    scale = half if layout == "ndc_norm_image_bounds" else half.min()
    for view, found in enumerate(entries):
        camera = found["viewpoint"]
        local = WORLD.numpy() @ np.array(camera["R"]) + np.array(camera["T"])
        ndc = camera["focal_length"] * local[:, :2] / local[:, 2:]
        pixels = half - scale * (ndc + camera["principal_point"])
        # Only how the world was turned is taken from the reader.
        motion = views.cameras.extrinsics[view].double().numpy() @ np.linalg.inv(
            co3d.convert_camera(found, tmp_path)[0]
        )
        world = torch.from_numpy(WORLD.double().numpy() @ motion[:3, :3].T).float()
        ours = pixels_of(views.cameras, world)[view]
        assert np.abs(ours - pixels).max() < 1e-3
    up = -views.cameras.extrinsics[:, :3, 1].mean(0)
    assert torch.allclose(up / up.norm(), torch.tensor([0.0, 0, 1]), atol=1e-5)
    assert (views.cameras.centers[:, 2] > 0).all()
    assert torch.equal(views.images, images_of(pictures()))
    assert views.cameras.near.eq(0.5).all() and views.cameras.far.eq(40).all()


def test_depths_are_half_floats_with_a_scale_and_a_mask(tmp_path: Path) -> None:
    entries = [entry("a", 0)]
    write_files(tmp_path, entries)
    annotate(tmp_path, entries)
    views = CO3DDataset(tmp_path / "mug").load(0)
    assert views.depths is not None and views.masks is not None
    expected = 2 * DEPTH.astype(np.float32) * VALID
    expected[0, :2] = 0
    assert np.array_equal(views.depths[0].numpy(), expected)
    mask = torch.from_numpy(pictures(channels=1)[0, ..., 0]).float() / 255
    assert torch.equal(views.masks[0], mask)
    assert CO3DDataset(tmp_path, depths=False).load(0).depths is None


def test_bad_frames_are_left_out_and_named(tmp_path: Path) -> None:
    entries = [entry("a", index) for index in range(4)] + [entry("gone", 0)]
    entries[3]["frame_number"] = 7
    write_files(tmp_path, entries[:4])
    (tmp_path / "mug/a/images/0.png").unlink()
    entries[1]["viewpoint"]["T"][1] = float("nan")
    entries[2]["viewpoint"] = None
    # Annotations in any order, and one twice.
    annotate(tmp_path, [entries[3], *entries])
    dataset = CO3DDataset(tmp_path)
    assert dataset.scene_ids == ["mug/a"] and dataset.num_views(0) == 1
    assert list(dataset.frame_numbers(0)) == [3]
    assert torch.equal(dataset.load(0).images, images_of(pictures()[3:]))
    named = {(p.path.name, p.skipped) for p in dataset.problems}
    assert {("0.png", "view"), ("2.png", "view"), ("3.png", "view")} < named
    assert ("gone", "scene") in named and len(dataset.problems) == 5
    assert any("1.png" in p.reason and "finite" in p.reason for p in dataset.problems)


def test_damaged_files_end_in_a_sentence(tmp_path: Path) -> None:
    entries = [entry("a", 0), entry("a", 1)]
    write_files(tmp_path, entries)
    annotate(tmp_path, entries)
    image = tmp_path / "mug/a/images/1.png"
    image.write_bytes(image.read_bytes()[:-40])
    dataset = CO3DDataset(tmp_path)
    assert len(dataset.load(0, [0])) == 1
    with pytest.raises(UserError, match=r"1\.png"):
        dataset.load(0)
    annotations = tmp_path / "mug" / co3d.FRAMES
    annotations.write_bytes(annotations.read_bytes()[:-9])
    with pytest.raises(UserError, match="frame_annotations"):
        CO3DDataset(tmp_path)
    outside = entry("a", 0)
    outside["image"]["path"] = "mug/../../secret.png"
    annotate(tmp_path, [outside])
    with pytest.raises(UserError, match="outside"):
        CO3DDataset(tmp_path)


def test_set_lists_are_splits(tmp_path: Path) -> None:
    entries = [entry(name, 0) for name in "abc"]
    write_files(tmp_path, entries)
    annotate(tmp_path, entries)
    assert CO3DDataset.splits(tmp_path) == ()
    lists = tmp_path / "mug/set_lists"
    lists.mkdir()
    content = {"train": [["a", 0, ""]], "val": [["b", 0, ""]], "test": [["b", 0, ""]]}
    (lists / "set_lists_fewview_dev.json").write_text(json.dumps(content))
    assert CO3DDataset.splits(tmp_path) == ("train", "test")
    assert open_reader(tmp_path, "train").scene_ids == ["mug/a"]
    assert open_reader(tmp_path, "test").scene_ids == ["mug/b"]
    assert len(open_reader(tmp_path)) == 3


def write_apples(root: Path, shared: Path) -> Path:
    """The annotation file around the real frames and their camera arrays."""
    images = root / "mug/seq/images"
    images.mkdir(parents=True)
    with zipfile.ZipFile(shared / "data/posed/co3d_apple.zip") as archive:
        archive.extractall(root / "unpacked")
    truth = np.load(root / "unpacked/gt_cameras.npz")
    entries = []
    for index, file in enumerate(sorted((root / "unpacked").glob("*.jpg"))):
        shutil.move(file, images)
        with Image.open(images / file.name) as image:
            width, height = image.size
        camera = {
            "R": truth["gtR"][index].tolist(),
            "T": truth["gtT"][index].tolist(),
            "focal_length": truth["gtFL"][index].tolist(),
            "principal_point": [0, 0],
            "intrinsics_format": "ndc_isotropic",
        }
        path = f"mug/seq/images/{file.name}"
        about = {"path": path, "size": [height, width]}
        entries.append(
            {
                "sequence_name": "seq",
                "frame_number": index,
                "image": about,
                "viewpoint": camera,
            }
        )
    return annotate(root, entries)


@pytest.mark.shared
def test_matched_features_of_real_apples_lie_on_epipolar_lines(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_apples(tmp_path, shared)
    dataset = CO3DDataset(root)
    assert dataset.num_views(0) == 20 and not dataset.problems
    views = dataset.load(0, [1, 2]).shrink((474, 266))
    pair = match_pair(views, 1, 2)
    assert len(pair.distances) > 30 and pair.distances.median() < 1
    for axes in ([1.0, 1, 1], [-1.0, 1, -1], [1.0, -1, -1]):
        monkeypatch.setattr(co3d, "_OPENCV", np.diag(axes))
        wrong = CO3DDataset(root).load(0, [1, 2])
        flipped = match_pair(type(views)(views.images, wrong.cameras), 1, 2)
        assert flipped.distances.median() > 4
