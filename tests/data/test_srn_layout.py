"""The SRN layout: written, read, read from others, and refused when it is broken."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from unseen.data import srn_files
from unseen.data.cameras import object_cameras, sphere_cameras
from unseen.data.manifest import (
    JOURNAL,
    ManifestWriter,
    ObjectRecord,
    read_manifest,
    split_of,
)
from unseen.data.procedural import make_object
from unseen.data.srn_layout import SRNDataset, write_object
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.views import Views


def rendered(views: int = 3, size: int = 24) -> Views:
    cameras = object_cameras(views, torch.Generator().manual_seed(0))
    return make_object("mug", 1).render(cameras, size)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """One object without a manifest."""
    write_object(tmp_path / "set", "mug", rendered())
    return tmp_path / "set"


def test_round_trip(bare: Path) -> None:
    truth = rendered()
    dataset = SRNDataset(bare)
    assert dataset.scene_ids == ["mug"] and dataset.num_views(0) == 3
    views = dataset.load(0)
    assert (views.images - truth.images).abs().max() < 1.5 / 255
    assert torch.allclose(views.cameras.extrinsics, truth.cameras.extrinsics, atol=1e-6)
    assert torch.allclose(views.cameras.intrinsics, truth.cameras.intrinsics, atol=1e-6)


def test_some_views_in_any_order_with_cache_and_without(bare: Path) -> None:
    whole = SRNDataset(bare).load(0)
    for cache in (False, True):
        dataset = SRNDataset(bare, cache=cache)
        for order in ([2, 0], [1], [2, 0]):
            views = dataset.load(0, order)
            assert torch.equal(views.images, whole.images[order])
            assert torch.equal(
                views.cameras.extrinsics, whole.cameras.extrinsics[order]
            )


def test_the_cache_needs_no_files_any_more(bare: Path) -> None:
    dataset = SRNDataset(bare, cache=True)
    first = dataset.load(0)
    shutil.rmtree(bare / "mug")
    assert torch.equal(dataset.load(0).images, first.images)


def test_depths_are_optional(bare: Path) -> None:
    assert SRNDataset(bare, depths=False).load(0).depths is None
    shutil.rmtree(bare / "mug" / "depth")
    assert SRNDataset(bare).load(0).depths is None


def test_files_have_the_published_form(bare: Path) -> None:
    truth = rendered().cameras
    pose = (bare / "mug" / "pose" / "000001.txt").read_text()
    assert pose.count("\n") == 1 and len(pose.split()) == 16
    lines = (bare / "mug" / "intrinsics.txt").read_text().splitlines()
    assert len(lines) == 5 and lines[4] == "24 24"
    focal, cx, cy, zero = (float(word) for word in lines[0].split())
    assert focal == pytest.approx(float(truth.intrinsics[0, 0, 0]) * 24, rel=1e-6)
    assert (cx, cy, zero) == (12, 12, 0)
    with Image.open(bare / "mug" / "rgb" / "000000.png") as image:
        assert image.mode == "RGBA" and image.size == (24, 24)


def test_poses_of_four_lines_and_nested_folders(bare: Path) -> None:
    expected = SRNDataset(bare).load(0)
    for path in (bare / "mug" / "pose").iterdir():
        words = path.read_text().split()
        rows = [" ".join(words[4 * row : 4 * row + 4]) for row in range(4)]
        path.write_text("\n".join(rows) + "\n")
    nested = bare.parent / "chairs_train" / "chairs_2.0_train"
    shutil.copytree(bare, nested)
    for root in (bare, nested, nested.parent, nested / "mug"):
        dataset = SRNDataset(root)
        assert dataset.scene_ids == ["mug"]
        views = dataset.load(0)
        assert torch.equal(views.cameras.extrinsics, expected.cameras.extrinsics)


def test_bounds_come_from_arguments_manifest_or_convention(tmp_path: Path) -> None:
    cameras = object_cameras(2, torch.Generator().manual_seed(0))
    views = make_object("mug", 1).render(cameras, 8)
    distance = cameras.centers.norm(dim=-1)
    write_object(tmp_path, "mug", views)
    bare = SRNDataset(tmp_path).load(0).cameras
    assert torch.allclose(bare.near, distance * (1 - 0.5 / 1.3), atol=1e-5)
    assert torch.allclose(bare.far, distance * (1 + 0.5 / 1.3), atol=1e-5)
    given = SRNDataset(tmp_path, near=0.5, far=9.0).load(0).cameras
    assert given.near.tolist() == [0.5] * 2 and given.far.tolist() == [9.0] * 2
    shutil.rmtree(tmp_path / "mug")
    writer = ManifestWriter(tmp_path, {}, radius=1.5)
    write_object(tmp_path, "mug", views)
    writer.add(ObjectRecord("mug", "mug", "", "mug", "train", 2))
    ours = SRNDataset(tmp_path).load(0).cameras
    assert torch.allclose(ours.near, distance - 1.5, atol=1e-5)
    assert torch.allclose(ours.far, distance + 1.5, atol=1e-5)


def test_images_without_alpha_are_opaque(bare: Path) -> None:
    path = bare / "mug" / "rgb" / "000000.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path)
    views = SRNDataset(bare).load(0)
    assert views.masks is not None and (views.masks[0] == 1).all()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        SRNDataset(tmp_path / "nowhere")


def test_a_folder_without_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no objects"):
        SRNDataset(tmp_path)


def test_a_split_without_a_manifest_is_refused(bare: Path) -> None:
    with pytest.raises(UserError, match="has no manifest"):
        SRNDataset(bare, split="test")


@pytest.mark.parametrize("folder", ["rgb", "depth"])
def test_a_truncated_image_is_named(bare: Path, folder: str) -> None:
    path = bare / "mug" / folder / "000001.png"
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(UserError, match=f"{folder}/000001.png is missing or damaged"):
        SRNDataset(bare).load(0)


def test_a_missing_image_is_named(bare: Path) -> None:
    (bare / "mug" / "rgb" / "000002.png").unlink()
    with pytest.raises(UserError, match=r"000002\.png is missing"):
        SRNDataset(bare).load(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", "no rotation and translation"),
        ("-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "no rotation and translation"),
        ("nan 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "no rotation and translation"),
        ("1 0 0 0 0 1 0 0 0 0 1 0", "holds 12 numbers"),
        ("one two", "not a list of numbers"),
    ],
)
def test_a_bad_pose_is_refused(bare: Path, text: str, message: str) -> None:
    (bare / "mug" / "pose" / "000000.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        SRNDataset(bare).load(0)


def test_bad_intrinsics_are_refused(bare: Path) -> None:
    (bare / "mug" / "intrinsics.txt").write_text("100 12\n")
    with pytest.raises(UserError, match="holds 2 numbers"):
        SRNDataset(bare).load(0)


def test_several_intrinsics_do_not_fit(tmp_path: Path) -> None:
    views = rendered()
    intrinsics = views.cameras.intrinsics.clone()
    intrinsics[1, 0, 0] *= 2
    intrinsics[1, 1, 1] *= 2
    cameras = dataclasses.replace(views.cameras, intrinsics=intrinsics)
    with pytest.raises(UserError, match="one intrinsics per object"):
        write_object(tmp_path, "mug", dataclasses.replace(views, cameras=cameras))
    assert list(tmp_path.iterdir()) == []


def test_depths_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose a larger depth unit"):
        write_object(tmp_path, "mug", rendered(), depth_unit=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(srn_files, "_write_depths", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_object(tmp_path, "mug", rendered())
    assert list(tmp_path.iterdir()) == []


def test_writing_again_replaces(bare: Path) -> None:
    other = make_object("mug", 2).render(rendered().cameras, 24)
    write_object(bare, "mug", other)
    assert (SRNDataset(bare).load(0).images - other.images).abs().max() < 1.5 / 255


def test_the_split_depends_on_the_name_alone() -> None:
    # Pinned: another rule would move test objects into the training set.
    names = [f"crate-{seed}" for seed in range(20)]
    expected = [
        "test" if int(hashlib.sha256(n.encode()).hexdigest(), 16) % 5 == 0 else "train"
        for n in names
    ]
    assert [split_of(name) for name in names] == expected
    assert [n for n in names if split_of(n) == "test"] == [
        "crate-2",
        "crate-5",
        "crate-9",
        "crate-13",
        "crate-14",
        "crate-18",
    ]
    share = sum(split_of(str(k)) == "test" for k in range(5000)) / 5000
    assert share == pytest.approx(0.2, abs=0.02)


def test_the_journal_is_read_and_finished(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path, {"size": (1, 2)}, radius=2.0, depth_unit=0.5)
    records = [
        ObjectRecord(name, name, "", "mug", split_of(name), 1) for name in ("b", "a")
    ]
    for record in records:
        writer.add(record)
    writer.skip("bad.glb", "no faces")
    found = read_manifest(tmp_path)
    assert found is not None and found.objects == tuple(records)
    again = ManifestWriter(tmp_path, {"size": (1, 2)}, radius=2.0, depth_unit=0.5)
    assert again.done == {"a", "b"}
    again.finish()
    assert not (tmp_path / JOURNAL).exists()
    found = read_manifest(tmp_path)
    assert found is not None
    assert [record.id for record in found.objects] == ["a", "b"]
    assert found.skipped == (("bad.glb", "no faces"),)
    assert (found.radius, found.depth_unit) == (2.0, 0.5)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"version": 9}'])
def test_a_foreign_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="not a manifest of this program"):
        SRNDataset(tmp_path)


def hull_agreement(cameras: Cameras, masks: Tensor) -> float:
    """Carve a grid by all masks; mean IoU of its projections with the masks."""
    size = 50
    line = torch.linspace(-1.3, 1.3, 64)
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)
    points = grid.reshape(-1, 3)
    xy, _ = project(cameras, points)
    pixels = (xy * size).floor().long()
    small = torch.nn.functional.interpolate(masks[:, None], (size, size), mode="area")
    small = small[:, 0] > 0.5
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    pixels = pixels.clamp(0, size - 1)
    view = torch.arange(len(masks))[:, None]
    kept = (inside & small[view, pixels[..., 1], pixels[..., 0]]).all(0)
    image = torch.zeros_like(small)
    image[view, pixels[:, kept, 1], pixels[:, kept, 0]] = True
    union = (image | small).sum(dim=(1, 2)).clamp_min(1)
    return float(((image & small).sum(dim=(1, 2)) / union).mean())


def test_poses_agree_with_the_silhouettes(tmp_path: Path) -> None:
    angles = torch.tensor([[a, 20 + 0.1 * a] for a in range(0, 360, 30)]).deg2rad()
    fov = torch.tensor(40.0).deg2rad()
    cameras = sphere_cameras(angles[:, 0], angles[:, 1], fov)
    write_object(tmp_path, "truck", make_object("truck", 0).render(cameras, 100))
    views = SRNDataset(tmp_path).load(0)
    assert views.masks is not None
    assert hull_agreement(views.cameras, views.masks) > 0.8


@pytest.mark.shared
def test_a_real_object_has_opencv_poses(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared / "data/posed/lego_srn_layout.zip") as archive:
        archive.extractall(tmp_path / "lego")
    dataset = SRNDataset(tmp_path / "lego")
    assert dataset.scene_ids == ["lego"] and dataset.num_views(0) == 13
    views = dataset.load(0)
    assert views.size == (800, 800) and views.masks is not None
    assert hull_agreement(views.cameras, views.masks) > 0.85
    # The same test tells wrong axes (OpenGL's, a mirrored world) from right ones.
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0]))
    poses = views.cameras.extrinsics
    for wrong in (poses @ flip, mirror @ poses @ mirror):
        cameras = dataclasses.replace(views.cameras, extrinsics=wrong)
        assert hull_agreement(cameras, views.masks) < 0.6
