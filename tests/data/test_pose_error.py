"""Poses are judged by matched features: on a plane, and on the real sets."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unseen.cli.inspect_data import Inspect
from unseen.data.formats import open_reader
from unseen.data.frame_reader import FrameReader, frame_cameras
from unseen.data.pose_error import match_pair, neighbours
from unseen.data.world import focus_point, turn_upright
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.rays import image_rays
from unseen.geometry.trajectories import orbit
from unseen.geometry.views import Views

FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
"""OpenCV's camera axes to OpenGL's: what a reader gets wrong most often."""


def plane_views() -> Views:
    """A plane with a blotchy texture, seen by three cameras."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(1, 3, 24, 24, generator=generator)
    centers = torch.tensor([[0.3, -1.2, 1.9], [-0.25, -1.3, 1.7], [0.0, -0.9, 2.2]])
    intrinsics = intrinsics_from_fov(torch.tensor(0.8)).expand(3, 3, 3)
    poses = look_at(centers, torch.zeros(3).expand(3, 3))
    cameras = Cameras(poses, intrinsics, torch.ones(3), 4 * torch.ones(3))
    origins, directions = image_rays(cameras, (120, 120))
    depth = -origins[..., 2:] / directions[..., 2:]
    places = (origins + depth * directions)[..., :2].reshape(3, 120, 120, 2)
    images = torch.nn.functional.grid_sample(
        noise.expand(3, 3, 24, 24), places, "bicubic", "reflection", False
    )
    return Views(images.clamp(0, 1), cameras)


def with_poses(views: Views, poses: Tensor) -> Views:
    cameras = dataclasses.replace(views.cameras, extrinsics=poses)
    return dataclasses.replace(views, cameras=cameras)


def test_right_poses_have_small_distances_and_wrong_ones_large() -> None:
    views = plane_views()
    right = match_pair(views[:2], 0, 1)
    assert len(right.distances) > 30
    assert float(right.distances.median()) < 0.3
    wrong = match_pair(with_poses(views, views.cameras.extrinsics @ FLIP)[:2], 0, 1)
    assert float(wrong.distances.median()) > 2
    # Distances are pixels of the images as they are.
    large = dataclasses.replace(
        views, images=torch.nn.functional.interpolate(views.images, scale_factor=3.0)
    )
    assert float(match_pair(large[:2], 0, 1).distances.median()) < 1


def test_images_without_features_have_no_matches() -> None:
    views = plane_views()[:2]
    blank = dataclasses.replace(views, images=torch.ones_like(views.images))
    pair = match_pair(blank, 4, 7)
    assert len(pair.distances) == 0 and (pair.first, pair.second) == (4, 7)


def test_neighbours_are_near_but_not_too_near() -> None:
    cameras = orbit(36, 0.4, 3.0, 0.7, 1.0, 5.0)
    for first, second in neighbours(cameras, 4):
        assert abs((first - second + 18) % 36 - 18) == 1
    same = cameras[[0] * 5]
    assert neighbours(same, 3) == []


def test_a_world_is_turned_by_the_smallest_rotation() -> None:
    cameras = orbit(12, 0.5, 2.0, 0.7, 1.0, 5.0)
    poses = cameras.extrinsics.double()
    motion = turn_upright(poses)
    assert motion is not None
    assert torch.allclose(motion, torch.eye(4).double(), atol=1e-6)
    tilt = look_at(torch.zeros(3), torch.tensor([1.0, 2.0, -0.7])).double()
    motion = turn_upright(tilt @ poses)
    assert motion is not None
    assert torch.allclose(motion[:3, :3] @ motion[:3, :3].T, torch.eye(3).double())
    assert float(torch.linalg.det(motion)) == pytest.approx(1)
    up = -(motion @ tilt @ poses)[:, :3, 1].mean(dim=0)
    assert up[:2].abs().max() < 1e-6 and up[2] > 0
    upside_down = turn_upright(
        torch.diag(torch.tensor([1.0, -1, -1, 1])) @ poses.float()
    )
    assert upside_down is not None and float(upside_down[2, 2]) == pytest.approx(-1)


def test_what_cameras_look_at() -> None:
    target = torch.tensor([0.3, -0.2, 0.5])
    centers = torch.tensor([[2.0, 0, 1], [0, 2, 1], [-1, -2, 0.5]])
    poses = look_at(centers, target.expand(3, 3))
    found = focus_point(poses)
    assert found is not None and torch.allclose(found, target, atol=1e-5)
    # Looking away from it, or all the same way, they look at nothing in common.
    assert focus_point(poses @ torch.diag(torch.tensor([-1.0, 1, -1, 1]))) is None
    assert focus_point(torch.eye(4).repeat(3, 1, 1)) is None


def test_inspect_prints_json_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from tests.data.posed_files import write_posed_folder

    views = plane_views()
    grey = dataclasses.replace(views, masks=torch.ones(3, 120, 120))
    (tmp_path / "plane").mkdir()
    write_posed_folder(tmp_path / "plane", grey)
    (tmp_path / "plane/2.png").write_bytes(b"nothing")
    out = tmp_path / "plane.png"
    Inspect(tmp_path / "plane", out=out, json=True).run()
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "posed folder (poses.json)"
    assert found["views"] == 2 and found["sizes"] == {"120x120": 2}
    assert found["poses"]["median_pixels"] < 0.5 and found["poses"]["matches"] > 30
    (problem,) = found["problems"]
    assert problem["skipped"] == "view" and "2.png" in problem["reason"]
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width > 900
    with pytest.raises(UserError, match="exists: choose another"):
        Inspect(tmp_path / "plane", out=out).run()
    with pytest.raises(UserError, match="has no scene 'cup': it has plane"):
        Inspect(tmp_path / "plane", scene="cup").run()
    Inspect(tmp_path / "plane").run()
    text = capsys.readouterr().out
    assert "format:        posed folder" in text and "1 views left out" in text


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("archive", "format_name", "views", "problems"),
    [
        ("fox", "instant-ngp / nerfstudio transforms.json", 50, 17),
        ("nerd_maryrose", "LLFF", 69, 0),
        ("gso_elephant_zero123", "Zero-1-to-3", 25, 0),
        ("lego_srn_layout", "ShapeNet-SRN", 13, 0),
    ],
)
def test_real_sets_have_the_poses_that_their_images_show(
    archive: str,
    format_name: str,
    views: int,
    problems: int,
    shared: Path,
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(shared / f"data/posed/{archive}.zip") as packed:
        packed.extractall(tmp_path)
    dataset = open_reader(tmp_path)
    assert dataset.format_name == format_name
    assert dataset.num_views(0) == views and len(dataset.problems) == problems
    if isinstance(dataset, FrameReader):
        cameras = frame_cameras(list(dataset.frames(0)))
    else:
        cameras = dataset.load(0).cameras
    right, wrong = [], []
    for first, second in neighbours(cameras, 3):
        pair = dataset.load(0, [first, second])
        right.append(match_pair(pair, first, second).distances)
        flipped = with_poses(pair, pair.cameras.extrinsics @ FLIP)
        wrong.append(match_pair(flipped, first, second).distances)
    assert float(torch.cat(right).median()) < 2
    assert float(torch.cat(wrong).median()) > 4
