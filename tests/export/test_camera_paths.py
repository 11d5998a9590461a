"""Camera paths around scenes, and files of them that others read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from tests.analytic_scene import ball, sky
from tests.gaussian_scenes import random_gaussians
from unseen.errors import UserError
from unseen.export.camera_paths import named_path, read_cameras, write_cameras
from unseen.export.frames import write_frames
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project

SCENE = ball(0.1)


def path(num: int = 5) -> Cameras:
    return named_path("spiral", SCENE, num, fov=40.0, elevation=20.0)


@pytest.mark.parametrize("name", ["orbit", "spiral"])
def test_paths_see_the_whole_scene(name):
    cameras = named_path(name, SCENE, 7, fov=40.0, elevation=20.0)
    points = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1)
    xy, depth = project(cameras, points)
    assert float(xy.min()) >= 0 and float(xy.max()) <= 1
    assert (depth >= cameras.near[:, None]).all()
    assert (depth <= cameras.far[:, None]).all()
    assert len(cameras) == 7


def test_transforms_are_opengl(tmp_path: Path):
    cameras = path()
    names = [f"{i}.png" for i in range(5)]
    write_cameras(cameras, (30, 40), tmp_path / "a.json", {"file_path": names})
    document = json.loads((tmp_path / "a.json").read_text())
    for index, frame in enumerate(document["frames"]):
        matrix = np.array(frame["transform_matrix"])
        expected = cameras.extrinsics[index].numpy()
        # OpenGL's camera looks along -z with y up.
        np.testing.assert_allclose(matrix[:3, 0], expected[:3, 0], atol=1e-6)
        np.testing.assert_allclose(matrix[:3, 1], -expected[:3, 1], atol=1e-6)
        np.testing.assert_allclose(matrix[:3, 2], -expected[:3, 2], atol=1e-6)
        np.testing.assert_allclose(matrix[:3, 3], expected[:3, 3], atol=1e-6)
        assert matrix[2, 1] > 0  # Up.
        assert frame["file_path"] == f"{index}.png"
    focal = 0.5 * 40 / math.tan(math.radians(20))
    assert document["fl_x"] == pytest.approx(focal, rel=1e-5)
    assert document["camera_angle_x"] == pytest.approx(math.radians(40), rel=1e-5)
    assert (document["w"], document["h"]) == (40, 30)
    assert (document["cx"], document["cy"]) == pytest.approx((20, 15))


def test_cameras_come_back(tmp_path: Path):
    cameras = path()
    write_cameras(cameras, (30, 40), tmp_path / "a.json", {})
    found = read_cameras(tmp_path / "a.json", SCENE)
    for name in ("extrinsics", "intrinsics", "near", "far"):
        torch.testing.assert_close(getattr(found, name), getattr(cameras, name))


def test_a_file_of_instant_ngp_is_read(tmp_path: Path):
    """One angle for all frames, no near and far."""
    cameras = path(3)
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    frames = [{"transform_matrix": m.tolist()} for m in cameras.extrinsics @ flip]
    document = {"camera_angle_x": math.radians(40), "w": 64, "h": 64, "frames": frames}
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = read_cameras(tmp_path / "a.json", SCENE)
    torch.testing.assert_close(found.intrinsics, cameras.intrinsics)
    torch.testing.assert_close(found.near, cameras.near)
    torch.testing.assert_close(found.far, cameras.far)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda d: d.pop("frames"), "has no frames"),
        (lambda d: d["frames"][0].pop("transform_matrix"), "is missing"),
        (lambda d: d["frames"][0].update(transform_matrix=[[1.0]]), "no camera path"),
        (lambda d: d["frames"][1].update(near=9.0), "near < far"),
        (lambda d: d.update(k1=0.1), "distort"),
        (lambda d: d.update(camera_model="OPENCV_FISHEYE"), "pinhole"),
        (lambda d: d["frames"][0]["transform_matrix"][0].__setitem__(0, 3.0), "rigid"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, change, reason: str):
    write_cameras(path(2), (8, 8), tmp_path / "a.json", {})
    document = json.loads((tmp_path / "a.json").read_text())
    change(document)
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=reason) as caught:
        read_cameras(tmp_path / "a.json", SCENE)
    assert "\n" not in str(caught.value)


def test_depth_is_read_back(tmp_path: Path):
    scene, cameras = random_gaussians(), path(2)
    done = []
    write_frames(scene, cameras, (12, 16), tmp_path / "out", True, done.append)
    document = json.loads((tmp_path / "out" / "transforms.json").read_text())
    unit = document["depth_unit_scale_factor"]
    rendered = scene.render(cameras, (12, 16))
    assert rendered.depth is not None and rendered.opacity is not None
    floats = np.load(tmp_path / "out" / "depth.npz")
    np.testing.assert_array_equal(floats["depth"], rendered.depth)
    np.testing.assert_array_equal(floats["opacity"], rendered.opacity)
    for index, frame in enumerate(document["frames"]):
        picture = imageio.imread(tmp_path / "out" / frame["depth_file_path"])
        assert picture.dtype == np.uint16 and unit == 1e-3
        seen = (rendered.opacity[index] >= 0.5).numpy()
        assert 0 < seen.mean() < 1 and not picture[~seen].any()
        expected = rendered.depth[index].numpy()[seen]
        np.testing.assert_allclose(picture[seen] * unit, expected, atol=0.51 * unit)
        color = imageio.imread(tmp_path / "out" / frame["file_path"]) / 255
        truth = rendered.color[index].movedim(0, -1)
        np.testing.assert_allclose(color, truth, atol=0.51 / 255)
    assert done == [1, 1]


def test_scenes_without_depth_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="renders no depth"):
        write_frames(sky(), path(2), (4, 4), tmp_path / "out", True, lambda n: None)
    assert not (tmp_path / "out" / "transforms.json").exists()
