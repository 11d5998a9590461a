"""Path tracing against analytic truth: coverage, depth, colour, light."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from tests.data.mesh_samples import QUADRANTS, textured_quad, write_glb
from unseen.data.cameras import object_cameras, sphere_cameras
from unseen.data.mesh_files import find_meshes
from unseen.data.mesh_materials import Material, linear_to_srgb
from unseen.data.meshes import Surface, load_mesh, normalize_mesh
from unseen.data.mitsuba_scene import Lighting, load_mitsuba
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays

pytest.importorskip("mitsuba")

from unseen.data.mesh_renderer import MeshRenderer

SKY_ONLY = Lighting(sky=1.0, sun=0.0)


def _box(half: tuple[float, float, float], material: Material) -> Surface:
    corners = np.array(
        [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float
    )
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4]]
    faces = np.array(
        [
            [a, *pair]
            for a, b, c, d in [*sides, [1, 5, 7, 3]]
            for pair in ([b, c], [c, d])
        ]
    )
    return Surface(corners * half, faces, material)


def _quad(y: float, material: Material, half: float = 0.6) -> Surface:
    """A square that is seen from -y."""
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]) * half
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Surface(corners + np.array([0, y, 0]), faces, material, uv=uv)


def _front(distance_fov: float = 40.0) -> Cameras:
    """One camera on the -y axis."""
    angle = torch.tensor([-torch.pi / 2])
    fov = torch.deg2rad(torch.tensor(distance_fov))
    return sphere_cameras(angle, torch.zeros(1), fov)


def _box_depth(
    cameras: Cameras, size: tuple[int, int], half: tuple[float, float, float]
) -> tuple[Float[Tensor, "view height width"], Bool[Tensor, "view height width"]]:
    """Slab test: depth (0 = miss), and which pixels graze no edge of the box."""

    def hit(scale: float) -> Float[Tensor, "view ray"]:
        origins, directions = (x.double() for x in image_rays(cameras, size))
        bound = torch.tensor(half, dtype=torch.float64) * scale
        a, b = (-bound - origins) / directions, (bound - origins) / directions
        near = torch.minimum(a, b).amax(-1)
        far = torch.maximum(a, b).amin(-1)
        return torch.where(near < far, near, 0.0)

    depth, inner, outer = hit(1), hit(1 - 1e-4), hit(1 + 1e-4)
    sure = (inner > 0) == (outer > 0)
    shape = (len(cameras), *size)
    return depth.reshape(shape).float(), sure.reshape(shape)


def test_depth_and_coverage_of_a_box(generator: torch.Generator) -> None:
    half, size = (0.3, 0.5, 0.7), (40, 48)
    cameras = object_cameras(3, generator)
    # Shift the principal point, and keep the pixels square.
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 1, 1] *= size[1] / size[0]
    intrinsics[:, :2, 2] += torch.tensor([0.07, -0.05])
    cameras = dataclasses.replace(cameras, intrinsics=intrinsics)
    views = MeshRenderer([_box(half, Material("m"))]).render(cameras, size, samples=36)
    truth, sure = _box_depth(cameras, size, half)
    assert views.depths is not None and views.masks is not None
    assert sure.float().mean() > 0.98 and 0.1 < (truth > 0).float().mean() < 0.6
    torch.testing.assert_close(views.depths[sure], truth[sure], atol=2e-5, rtol=0)
    # Coverage: exact inside and outside (but for the tip of a corner, which the grid
    # of the truth may miss), and the sub-pixel mean at the outline.
    times = 5
    fine, _ = _box_depth(cameras, (size[0] * times, size[1] * times), half)
    cover = (fine > 0).float()[:, None]
    cover = torch.nn.functional.avg_pool2d(cover, times)[:, 0]
    whole = (cover == 0) | (cover == 1)
    close = torch.nn.functional.max_pool2d((~whole).float(), 3, 1, 1) == 0
    torch.testing.assert_close(views.masks[close], cover[close], atol=0.06, rtol=0)
    assert (views.masks - cover)[~whole].abs().mean() < 0.05
    assert (views.masks - cover).abs().max() < 0.25


def test_colors_of_a_textured_quad(tmp_path: Path) -> None:
    """From the file on: upright, not mirrored, and the texture's sRGB colours."""
    write_glb(tmp_path / "quad.glb", textured_quad())
    (mesh,) = find_meshes(tmp_path)
    surfaces = normalize_mesh(load_mesh(mesh))
    renderer = MeshRenderer(surfaces, SKY_ONLY)
    views = renderer.render(_front(), (32, 32), samples=64)
    image, truth = views.images[0], torch.from_numpy(QUADRANTS).float() / 255
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        # The mean of 36 pixels well inside of the quadrant.
        patch = image[
            :, 8 + 10 * row : 14 + 10 * row, 8 + 10 * column : 14 + 10 * column
        ]
        mean = patch.mean((-1, -2))
        torch.testing.assert_close(mean, truth[row, column], atol=0.02, rtol=0)


def test_outline_keeps_the_color_of_the_object() -> None:
    """Composite over white is exact: no dark or bright fringe."""
    color = (0.2, 0.05, 0.01)
    material = Material("m", (*color, 1.0))
    renderer = MeshRenderer([_quad(0, material)], SKY_ONLY)
    cameras = object_cameras(4, torch.Generator().manual_seed(3))
    views = renderer.render(cameras, (24, 24), samples=256)
    assert views.masks is not None
    mask = views.masks[:, None]
    straight = (views.images - (1 - mask)) / mask.clamp_min(1e-6)
    outline = ((mask > 0.15) & (mask < 0.85)).expand_as(straight)
    truth = torch.from_numpy(linear_to_srgb(np.array(color))).float()
    truth = truth[:, None, None].expand_as(straight)
    assert outline.sum() > 60
    error = (straight - truth)[outline].abs()
    assert error.mean() < 0.015 and error.max() < 0.06
    assert (views.images[(mask == 0).expand_as(straight)] == 1).all()


def test_the_sun_stands_still_in_the_world() -> None:
    light = Lighting(sky=0.5, sun=0.5, sun_direction=(0.0, -1.0, 0.0))
    renderer = MeshRenderer([_box((0.4, 0.4, 0.4), Material("m", (0.5,) * 4))], light)
    azimuths = torch.tensor([-torch.pi / 2, torch.pi / 2])
    cameras = sphere_cameras(azimuths, torch.zeros(2), torch.tensor(0.6))
    images = renderer.render(cameras, (16, 16), samples=144).images
    middle = images[:, :, 6:10, 6:10].mean((1, 2, 3))
    expected = linear_to_srgb(np.array([0.5 * 1.0, 0.5 * 0.5]))
    np.testing.assert_allclose(middle, expected, atol=0.015)


def test_metal_is_not_black_and_back_sides_are_lit(tmp_path: Path) -> None:
    quad = textured_quad(metallicFactor=1.0, roughnessFactor=0.0)
    write_glb(tmp_path / "quad.glb", quad)
    (mesh,) = find_meshes(tmp_path)
    renderer = MeshRenderer(normalize_mesh(load_mesh(mesh)))
    azimuths = torch.tensor([-torch.pi / 2, torch.pi / 2])
    cameras = sphere_cameras(azimuths, torch.zeros(2), torch.tensor(0.6))
    images = renderer.render(cameras, (16, 16), samples=64).images
    means = images[:, :, 5:11, 5:11].mean((1, 2, 3))
    assert (means > 0.3).all()


def test_holes_show_what_is_behind() -> None:
    """A cut-out's left half is a hole: colour, coverage and depth see through it."""
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:, :4, 3] = 100
    cut = Material("cut", texture=Image.fromarray(pixels), opaque=False, cutoff=0.5)
    red = Material("red", (0.6, 0.0, 0.0, 1.0))
    cameras = _front()
    distance = float(cameras.centers.norm())
    back = _quad(0.4, red, half=0.3)
    views = MeshRenderer([_quad(-0.4, cut), back], SKY_ONLY).render(cameras, (32, 32))
    assert views.depths is not None and views.masks is not None
    left, right = (16, 13), (16, 19)
    assert float(views.depths[0][left]) == pytest.approx(distance + 0.4, abs=1e-4)
    assert float(views.depths[0][right]) == pytest.approx(distance - 0.4, abs=1e-4)
    # Beside the red square there is nothing behind the hole.
    assert views.depths[0][16, 8] == 0 and views.masks[0][16, 8] == 0
    color = views.images[0][:, 16, 13]
    assert color[0] > 0.4 and color[1:].max() < 0.05


def test_glass_covers_in_part() -> None:
    glass = Material("glass", (0.5, 0.5, 0.5, 0.3), opaque=False)
    views = MeshRenderer([_quad(0, glass)], SKY_ONLY).render(_front(), (16, 16), 256)
    assert views.masks is not None and views.depths is not None
    inside = views.masks[0, 6:10, 6:10]
    assert float(inside.mean()) == pytest.approx(0.3, abs=0.03)
    assert (views.depths[0] == 0).all()


def test_vertex_colors_and_emission() -> None:
    quad = dataclasses.replace(
        _quad(0, Material("m", emission=(0.0, 0.3, 0.0))), uv=None
    )
    colors = np.tile([0.5, 0.1, 0.2], (4, 1))
    quad = dataclasses.replace(quad, colors=colors)
    image = MeshRenderer([quad], SKY_ONLY).render(_front(), (16, 16), 64).images[0]
    mean = image[:, 6:10, 6:10].mean((1, 2))
    expected = linear_to_srgb(np.array([0.5, 0.4, 0.2]))
    np.testing.assert_allclose(mean, expected, atol=0.02)


def test_seed_decides_the_pixels(generator: torch.Generator) -> None:
    renderer = MeshRenderer([_box((0.5, 0.4, 0.6), Material("m"))])
    cameras = object_cameras(2, generator)

    def images(seed: int) -> Float[Tensor, "view 3 height width"]:
        return renderer.render(cameras, (12, 12), samples=4, seed=seed).images

    assert torch.equal(images(5), images(5))
    assert not torch.equal(images(5), images(6))


def test_odd_pixels_are_refused() -> None:
    cameras = _front()
    renderer = MeshRenderer([_box((0.5, 0.5, 0.5), Material("m"))])
    with pytest.raises(UserError, match="square, unskewed"):
        renderer.render(cameras, (8, 16))
    skewed = cameras.intrinsics.clone()
    skewed[:, 0, 1] = 0.1
    with pytest.raises(UserError, match="square, unskewed"):
        renderer.render(dataclasses.replace(cameras, intrinsics=skewed), (8, 8))


def test_without_mitsuba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(UserError, match=r"pip install unseen\[meshes\]"):
        load_mitsuba()
