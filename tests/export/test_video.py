"""Orbits and videos."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from tests.analytic_scene import ball, sky
from unseen.errors import UserError
from unseen.export import video
from unseen.export.colormap import colorize, to_bytes
from unseen.export.video import (
    orbit_cameras,
    render_frames,
    write_animation,
    write_video,
)
from unseen.geometry.projection import project


def moving_square(height: int, width: int, count: int = 7) -> torch.Tensor:
    frames = torch.full((count, 3, height, width), 230, dtype=torch.uint8)
    for i in range(count):
        frames[i, :, 8:24, 4 * i : 4 * i + 16] = torch.tensor([200, 40, 30])[
            :, None, None
        ].to(torch.uint8)
    return frames


@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_imageio_reads_the_video(tmp_path: Path, size: tuple[int, int]):
    frames = moving_square(*size)
    write_video(frames, tmp_path / "a.mp4", fps=12)
    found = imageio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    height, width = size
    assert found.shape == (7, height + height % 2, width + width % 2, 3)
    properties = imageio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")
    assert properties["fps"] == 12 and properties["codec"] == "h264"
    assert properties["pix_fmt"].startswith("yuv420p")
    expected = frames.permute(0, 2, 3, 1).numpy()
    error = np.abs(found[:, :height, :width].astype(int) - expected)
    # Edges are softer, because colour has half the resolution.
    assert error[0, 12:20, 4:12].max() <= 6 and error[:, 28:, :].max() <= 6
    assert error.mean() < 4


def test_the_index_comes_first(tmp_path: Path):
    write_video(moving_square(32, 64), tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    "message, reason", [("x: No space left on device", "disk is full"), ("Boo", "boo")]
)
def test_a_failing_encoder_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, reason: str
):
    def fail(command, **_):
        Path(command[-1]).write_bytes(b"half")
        return subprocess.CompletedProcess(command, 1, b"", message.encode())

    monkeypatch.setattr(video.subprocess, "run", fail)
    with pytest.raises(UserError, match=reason):
        write_video(moving_square(32, 64), tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == []


def test_the_orbit_starts_at_the_input_and_holds_the_unit_sphere():
    cameras = orbit_cameras(8, fov=40.0, elevation=20.0)
    distance = 1.05 / math.sin(math.radians(20))
    low, high = math.cos(math.radians(20)), math.sin(math.radians(20))
    first = torch.tensor([distance * low, 0, distance * high])
    torch.testing.assert_close(cameras.centers[0], first)
    second = torch.tensor([distance * low, distance * low, distance * high])
    second[:2] *= math.sqrt(0.5)
    torch.testing.assert_close(cameras.centers[1], second)
    torch.testing.assert_close(cameras.near, torch.full((8,), distance - 1))
    torch.testing.assert_close(cameras.far, torch.full((8,), distance + 1))
    sphere = torch.nn.functional.normalize(
        torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    xy, depth = project(cameras, sphere.expand(8, -1, -1))
    assert bool(((xy > 0) & (xy < 1)).all()) and bool((depth > 0).all())


def test_frames_are_the_renderings(monkeypatch: pytest.MonkeyPatch):
    scene, cameras = ball(0.2), orbit_cameras(5, 40.0, 20.0)
    monkeypatch.setattr(video, "RAYS_AT_ONCE", 2 * 16 * 16)
    done = []
    frames = render_frames(scene, cameras, (16, 16), done.append)
    assert done == [2, 2, 1]
    expected = (scene.render(cameras, (16, 16)).color * 255).round().to(torch.uint8)
    assert torch.equal(frames.color, expected)


def test_nearer_is_lighter_and_the_background_black():
    cameras = orbit_cameras(2, 40.0, 0.0)
    frames = render_frames(ball(0.35, radius=0.4), cameras, (17, 17))
    assert frames.depth is not None
    near, far = frames.depth[:, :, 8, 8].float().sum(-1)
    assert near > far + 50
    assert int(frames.depth[:, :, 0, 0].max()) < 3


def test_scenes_without_depth_or_opacity():
    cameras = orbit_cameras(2, 40.0, 0.0)
    assert render_frames(sky(), cameras, (8, 8)).depth is None
    # One depth everywhere, with nothing that would mask it.
    near = float(cameras.near[0])
    flat = render_frames(sky(distance=near), cameras, (8, 8)).depth
    assert flat is not None
    lightest = to_bytes(colorize(torch.ones(2, 8, 8)))
    assert torch.equal(flat, lightest)


@pytest.mark.parametrize("suffix, tolerance", [(".gif", 12), (".webp", 25)])
def test_animations_are_read_back(tmp_path: Path, suffix: str, tolerance: int):
    frames = moving_square(32, 64)
    write_animation(frames, tmp_path / f"a{suffix}", fps=20)
    found = imageio.imread(tmp_path / f"a{suffix}", index=...)[..., :3]
    assert found.shape == (7, 32, 64, 3)
    error = np.abs(found.astype(int) - frames.permute(0, 2, 3, 1).numpy())
    assert error.mean() < 2 and np.quantile(error, 0.98) <= tolerance
    with Image.open(tmp_path / f"a{suffix}") as picture:
        picture.load()
        assert picture.info["loop"] == 0 and picture.info["duration"] == 50


def test_animations_have_two_suffixes(tmp_path: Path):
    with pytest.raises(ValueError, match=r"not \.png"):
        write_animation(moving_square(32, 64), tmp_path / "a.png")
