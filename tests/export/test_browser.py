"""Splats and meshes in another program: viser's WebGL client in Chromium."""

from __future__ import annotations

import contextlib
import io
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.analytic_scene import ball
from tests.gaussian_scenes import random_gaussians
from unseen.export.glb import write_glb
from unseen.export.mesh import extract_mesh
from unseen.export.mesh_rendering import render_mesh
from unseen.export.splat_files import read_splat_file, write_splat_ply
from unseen.export.texture import bake_texture
from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import orbit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHROMIUM = Path("/usr/bin/chromium")
SIDE = 200
WIDTH = 1000
"""Of the page: wide enough that viser's panel does not cover the middle."""
CAMERA = orbit(1, 0.4, 3.0, 0.7, 2.0, 4.0, azimuth_start=0.6)


@pytest.fixture(scope="module")
def browser() -> Iterator[tuple[Any, Any, Any]]:
    """A viser server, its client in a headless Chromium, and the client's page."""
    viser = pytest.importorskip("viser")
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    server.scene.set_up_direction("+z")
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        driver = stack.enter_context(playwright.sync_playwright())
        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
        chromium = driver.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[*arguments, "--enable-unsafe-swiftshader"],
        )
        stack.callback(chromium.close)
        page = chromium.new_page(viewport={"width": WIDTH, "height": SIDE})
        page.goto(f"http://127.0.0.1:{server.get_port()}", timeout=600_000)
        deadline = time.monotonic() + 600
        while not server.get_clients() and time.monotonic() < deadline:
            page.wait_for_timeout(500)
        yield server, next(iter(server.get_clients().values())), page


def picture(browser: tuple[Any, Any, Any], camera: Cameras) -> Tensor:
    """What the page shows to one camera (square), on white: the middle of it."""
    _, client, page = browser
    pose = camera.extrinsics[0].double().numpy()
    with client.atomic():
        client.camera.position = pose[:3, 3]
        client.camera.look_at = pose[:3, 3] + 3 * pose[:3, 2]
        client.camera.up_direction = np.array([0.0, 0.0, 1.0])
        client.camera.fov = 2 * math.atan(0.5 / float(camera.intrinsics[0, 1, 1]))
    # Scenes reach the client a little later than the calls return.
    page.wait_for_timeout(1000 * float(os.environ.get("UNSEEN_BROWSER_WAIT", 20)))
    shot = Image.open(io.BytesIO(page.screenshot(timeout=600_000))).convert("RGB")
    image = torch.from_numpy(np.asarray(shot).copy()).float() / 255
    left = (WIDTH - SIDE) // 2
    return image[:, left : left + SIDE].movedim(-1, 0)


def compare(name: str, shown: Tensor, ours: Tensor, folder: Path) -> float:
    """PSNR in dB; both pictures are left side by side in the folder, to look at."""
    folder = Path(os.environ.get("UNSEEN_BROWSER_PICTURES", folder))
    both = torch.cat([ours, shown], dim=-1).movedim(0, -1)
    Image.fromarray((both * 255).round().byte().numpy()).save(folder / f"{name}.png")
    found = float(-10 * (shown - ours).square().mean().log10())
    print(f"{name}: {found:.1f} dB")
    return found


def test_splats(browser: tuple[Any, Any, Any], tmp_path: Path):
    server, _, _ = browser
    write_splat_ply(random_gaussians(200), tmp_path / "a.ply")
    scene = read_splat_file(tmp_path / "a.ply")
    axes = scene.axes() * scene.log_scales.exp()[:, None]
    handle = server.scene.add_gaussian_splats(
        "/splats",
        centers=scene.means.numpy(),
        covariances=(axes @ axes.transpose(1, 2)).numpy(),
        rgbs=scene.base_colors.clamp(0, 1).numpy(),
        opacities=scene.opacity_logits.sigmoid()[:, None].numpy(),
    )
    shown = picture(browser, CAMERA)
    handle.remove()
    ours = scene.render(CAMERA, (SIDE, SIDE)).color[0]
    assert compare("splats", shown, ours, tmp_path) > 25


@pytest.mark.parametrize("kind", ["vertex", "texture"])
def test_meshes(browser: tuple[Any, Any, Any], tmp_path: Path, kind: str):
    server, _, _ = browser
    scene = ball(0.1, radius=0.6, sharpness=150.0)
    mesh: Any = extract_mesh(scene, 24)
    if kind == "texture":
        mesh = bake_texture(scene, mesh)
    write_glb(mesh, tmp_path / "a.glb")
    # viser shows a file's axes as they are: glTF's y is turned up by this quaternion.
    handle = server.scene.add_glb(
        "/mesh", (tmp_path / "a.glb").read_bytes(), wxyz=(0.5, 0.5, 0.5, 0.5)
    )
    shown = picture(browser, CAMERA)
    handle.remove()
    ours = render_mesh(mesh, CAMERA, (SIDE, SIDE), torch.ones(3))[0]
    # viser's tone mapping makes colours paler, so their agreement has a limit.
    assert compare(f"mesh_{kind}", shown, ours, tmp_path) > 22
    silhouettes = [(image < 0.97).any(dim=0) for image in (shown, ours)]
    assert float((silhouettes[0] != silhouettes[1]).float().mean()) < 0.01
