"""Meshes of a scene that is known in closed form, read by others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from trimesh.visual import ColorVisuals

from tests.analytic_scene import ball, sky
from tests.gaussian_scenes import random_gaussians
from unseen.errors import UserError
from unseen.export.colormap import colorize, linear_to_srgb, srgb_to_linear
from unseen.export.grid import CHUNK, evaluate, sample_density, surface_level
from unseen.export.mesh import extract_mesh, save_glb
from unseen.export.save import export_scene
from unseen.export.splat_files import read_splat_file

# Density is 60 sigmoid(40 d) at depth d: half of its peak exactly at the radius.
SCENE, LEVEL = ball(0.1, radius=0.6), 30.0


def bytes_of(mesh: trimesh.Trimesh) -> np.ndarray:
    """The mesh's vertex colours, 0 to 255."""
    assert isinstance(mesh.visual, ColorVisuals)
    return np.asarray(mesh.visual.vertex_colors)[:, :3]


@pytest.fixture(scope="module")
def mesh() -> trimesh.Trimesh:
    return extract_mesh(SCENE, resolution=48, level=LEVEL)


def test_the_surface_is_where_the_density_is_the_level(mesh: trimesh.Trimesh):
    distance = np.linalg.norm(mesh.vertices - np.array([0.1, 0, 0]), axis=1)
    voxel = 2 / 48
    assert np.abs(distance - 0.6).max() < 0.25 * voxel
    assert np.abs(distance - 0.6).mean() < 0.05 * voxel
    assert mesh.is_watertight
    # Faces look outwards.
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.02)


def test_vertices_have_the_colors_of_the_field(mesh: trimesh.Trimesh):
    away = np.abs(mesh.vertices[:, 0] - 0.1) > 0.15
    points = torch.from_numpy(np.asarray(mesh.vertices)).float()
    _, expected = SCENE.evaluate(points)
    found = bytes_of(mesh) / 255
    np.testing.assert_allclose(found[away], expected.numpy()[away], atol=0.05)


def test_surfaces_at_the_border_are_closed():
    half_outside = extract_mesh(ball(0.8, radius=0.5), resolution=24)
    assert half_outside.is_watertight
    assert half_outside.bounds[1, 0] == pytest.approx(1.0, abs=0.1)


def test_specks_are_left_out_and_parts_are_kept():
    class TwoBalls(type(SCENE)):
        def evaluate(self, points):
            near, color = super().evaluate(points)
            far, _ = ball(-0.75, radius=self.other).evaluate(points)
            return near + far, color

    scene = TwoBalls(torch.tensor([0.3, 0.0, 0.0]), torch.tensor(0.5))
    # A field outside of the dataclass: the test's own knob.
    object.__setattr__(scene, "other", 0.05)
    mesh = extract_mesh(scene, 48, LEVEL)
    assert mesh.body_count == 1 and mesh.bounds[0, 0] > -0.3
    object.__setattr__(scene, "other", 0.18)
    assert extract_mesh(scene, 48, LEVEL).body_count == 2


def test_the_level_does_not_hang_on_the_resolution():
    levels = [surface_level(sample_density(SCENE, n)) for n in (24, 48)]
    assert levels[0] == pytest.approx(levels[1], rel=0.1)
    # Matter of this density is half opaque over three percent of the box.
    assert np.exp(-levels[0] * 0.06) == pytest.approx(0.5, rel=0.05)


def test_thin_matter_still_has_a_surface():
    grid = sample_density(ball(peak=4.0), 24)
    assert surface_level(grid) == pytest.approx(2.0, rel=0.01)
    assert extract_mesh(ball(peak=4.0), 24).volume > 0.5


def test_empty_scenes_have_no_surface(tmp_path: Path):
    with pytest.raises(UserError, match="scene is empty"):
        save_glb(ball(peak=0.1), tmp_path / "nothing")
    with pytest.raises(UserError, match="nowhere above 99"):
        extract_mesh(SCENE, 24, level=99.0)
    assert list(tmp_path.iterdir()) == []


def test_chunks_do_not_change_the_result():
    points = torch.rand(CHUNK + 7, 3, generator=torch.Generator().manual_seed(0))
    density, color = evaluate(SCENE, points)
    assert torch.equal(density[-7:], SCENE.evaluate(points[-7:])[0])
    assert density.shape == (CHUNK + 7,) and color.shape == (CHUNK + 7, 3)


def test_trimesh_reads_the_glb(tmp_path: Path, mesh: trimesh.Trimesh):
    save_glb(SCENE, tmp_path / "ball.glb", 48, LEVEL)
    (read,) = trimesh.load_scene(tmp_path / "ball.glb").geometry.values()
    # World (x, y, z) is glTF (y, z, x): y up, azimuth 0 towards the viewer.
    np.testing.assert_allclose(read.vertices[:, [2, 0, 1]], mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    assert read.volume == pytest.approx(mesh.volume, rel=1e-4)
    linear = torch.from_numpy(np.asarray(read.visual.vertex_attributes["color"]))
    found = linear_to_srgb(linear[:, :3].double()).numpy() * 255
    np.testing.assert_allclose(found, bytes_of(mesh), atol=0.6)
    # They were indeed made linear: middle grey is far from its sRGB value.
    assert np.abs(linear[:, :3].numpy() * 255 - found).max() > 40


def test_glb_bytes_repeat(tmp_path: Path):
    for name in ("a", "b"):
        save_glb(SCENE, tmp_path / name, 24)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_suffix_says_what_to_write(tmp_path: Path):
    for name in ("a.glb", "a.safetensors"):
        export_scene(ball(), tmp_path / name)
        assert (tmp_path / name).stat().st_size > 300
    for name in ("a.ply", "a.splat"):
        export_scene(random_gaussians(), tmp_path / name)
        assert read_splat_file(tmp_path / name).count == 30
    with pytest.raises(UserError, match=r"\.ply, \.splat"):
        export_scene(ball(), tmp_path / "a.fbx")
    with pytest.raises(UserError, match="has no density"):
        export_scene(sky(), tmp_path / "b.glb")
    with pytest.raises(UserError, match="renders no depth"):
        export_scene(sky(), tmp_path / "b.ply")
    assert not list(tmp_path.glob("b*"))


def test_the_color_map_is_perceptual():
    """Lightness (CIELAB) grows with the value, in nearly equal steps."""
    from skimage.color import rgb2lab

    colors = colorize(torch.linspace(0, 1, 65).expand(1, -1))
    assert float(colors.min()) >= 0 and float(colors.max()) <= 1
    lightness = rgb2lab(colors[:, 0].T.numpy())[:, 0]
    steps = np.diff(lightness)
    assert (steps > 0).all() and steps.max() < 2.0 * steps.mean()
    assert lightness[0] < 10 and lightness[-1] > 85


def test_transfer_curves_are_inverse():
    values = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(values)), values)
    assert float(srgb_to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-4)
