"""Loading meshes: transforms, materials, colours, and what is broken."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tests.data.mesh_samples import (
    QUADRANTS,
    colored_box,
    edit_glb,
    textured_quad,
    write_glb,
    write_gltf,
    write_obj,
)
from unseen.data.mesh_files import find_meshes
from unseen.data.mesh_materials import (
    Material,
    MeshError,
    linear_to_srgb,
    srgb_to_linear,
)
from unseen.data.meshes import Surface, load_mesh, normalize_mesh


def _load(path: Path, **options: Any) -> list[Surface]:
    (mesh,) = find_meshes(path)
    return load_mesh(mesh, **options)


def _corners(surface: Surface) -> np.ndarray:
    """Corners of all triangles, in a set order."""
    points = surface.vertices[surface.faces].reshape(-1, 3)
    return np.unique(points.round(6), axis=0)


def test_srgb_curve() -> None:
    values = np.linspace(0, 1, 101)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values)
    # Middle grey and the end of the linear piece, by IEC 61966-2-1.
    np.testing.assert_allclose(srgb_to_linear(np.array(0.5)), 0.21404114, rtol=1e-6)
    np.testing.assert_allclose(linear_to_srgb(np.array(0.002)), 0.02584)
    assert linear_to_srgb(np.array(7.0)) == pytest.approx(1)


def test_node_transforms_and_up_axis(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 2], [0, 3, 0], [-1, 0, 0]]
    matrix[:3, 3] = [10, 20, 30]
    scene = trimesh.Scene()
    scene.add_geometry(textured_quad(), transform=matrix)
    path = write_glb(tmp_path / "a.glb", scene)
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    moved = corners @ matrix[:3, :3].T + matrix[:3, 3]
    (surface,) = _load(path, up="z")
    np.testing.assert_allclose(_corners(surface), np.unique(moved, axis=0))
    # Up in the file, +y, is up in the world, +z; the front, +z, becomes -y.
    (surface,) = _load(path)
    turned = np.stack([moved[:, 0], -moved[:, 2], moved[:, 1]], -1)
    np.testing.assert_allclose(_corners(surface), np.unique(turned, axis=0))


@pytest.mark.parametrize("mirror", [1, -1])
def test_normals_stay_upright_under_shear_and_mirror(
    tmp_path: Path, mirror: int
) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = [[mirror, 0.5, 0], [0, 1, 0], [0, 0.3, 2]]
    sphere = trimesh.creation.icosphere(2)
    sphere.vertex_normals  # noqa: B018 (so that the exporter writes them)
    scene = trimesh.Scene()
    scene.add_geometry(sphere, transform=matrix)
    (surface,) = _load(write_glb(tmp_path / "a.glb", scene), up="z")
    assert surface.normals is not None
    a, b, c = (surface.vertices[surface.faces[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=-1), 1)
    assert ((surface.normals[surface.faces[:, 0]] * flat).sum(-1) > 0.9).all()
    # Outward, so the winding was kept too.
    assert ((a + b + c) * flat).sum(-1).min() > 0


def test_missing_normals_stay_missing(tmp_path: Path) -> None:
    (surface,) = _load(write_glb(tmp_path / "a.glb", colored_box()))
    assert surface.normals is None


def test_normalization() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(50, 3)) * [1, 5, 2] + [3, -8, 1]
    # A vertex that no triangle uses must not count.
    vertices = np.concatenate([vertices, [[1e6, 0, 0]]])
    faces = np.arange(48).reshape(-1, 3)
    surface = Surface(vertices, faces, Material("plain"))
    (unit,) = normalize_mesh([surface])
    used = unit.vertices[faces.ravel()]
    np.testing.assert_allclose(used.max(0) + used.min(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(used.max(0) - used.min(0)), 2)
    assert np.linalg.norm(used, axis=-1).max() <= 1 + 1e-12
    # A similarity: distances keep their proportions.
    scale = np.linalg.norm(used[0] - used[1]) / np.linalg.norm(
        vertices[0] - vertices[1]
    )
    np.testing.assert_allclose(
        used, (vertices[:48] - vertices[:48].mean(0)) * scale + used.mean(0)
    )


def test_texture_and_exact_factor(tmp_path: Path) -> None:
    factor = [0.123456, 0.001, 1.0, 1.0]

    def edit(header: dict[str, Any]) -> None:
        header["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = factor

    (surface,) = _load(write_glb(tmp_path / "a.glb", textured_quad(), edit))
    np.testing.assert_allclose(surface.material.color, factor)
    assert surface.material.texture is not None and surface.uv is not None
    # The corner that is highest and leftmost shows the texture's first pixel.
    corner = np.argmax(surface.vertices[:, 2] - surface.vertices[:, 0])
    np.testing.assert_allclose(surface.uv[corner], [0, 0])
    pixels = np.asarray(surface.material.texture.convert("RGB"))
    np.testing.assert_array_equal(pixels[0, 0], QUADRANTS[0, 0])


def test_vertex_colors_are_linear_unless_trimesh_wrote_them(tmp_path: Path) -> None:
    color = np.array([180, 90, 30]) / 255
    path = write_glb(tmp_path / "a.glb", colored_box())
    (surface,) = _load(path)
    assert surface.colors is not None
    np.testing.assert_allclose(surface.colors[0], srgb_to_linear(color))

    def edit(header: dict[str, Any]) -> None:
        header["asset"]["generator"] = "another"

    path.write_bytes(edit_glb(path.read_bytes(), edit))
    (surface,) = _load(path)
    assert surface.colors is not None
    np.testing.assert_allclose(surface.colors[0], color)


def test_emission_and_alpha_modes(tmp_path: Path) -> None:
    quad = textured_quad(
        emissiveFactor=[0.5, 0, 0.25], alphaMode="MASK", alphaCutoff=0.7
    )
    (surface,) = _load(write_glb(tmp_path / "a.glb", quad))
    assert surface.material.emission == (0.5, 0, 0.25)
    assert not surface.material.opaque and surface.material.cutoff == 0.7
    (surface,) = _load(write_glb(tmp_path / "b.glb", textured_quad()))
    assert surface.material.opaque and surface.material.cutoff is None


def test_surfaces_of_one_material_are_merged(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(colored_box(), "one")
    scene.add_geometry(colored_box((2, 2, 2)), "two")
    scene.add_geometry(textured_quad(), "three")
    surfaces = _load(write_glb(tmp_path / "a.glb", scene))
    assert sorted(len(surface.faces) for surface in surfaces) == [2, 24]


def test_obj_with_materials(tmp_path: Path) -> None:
    surfaces = {s.material.name: s for s in _load(write_obj(tmp_path))}
    assert set(surfaces) == {"picture", "plain"}
    # The texture replaces Kd, which exporters often leave black.
    assert surfaces["picture"].material.color == (1, 1, 1, 1)
    assert surfaces["picture"].material.texture is not None
    plain = srgb_to_linear(np.array([0.5, 0.25, 1.0]))
    np.testing.assert_allclose(surfaces["plain"].material.color[:3], plain, atol=3e-3)


def test_gltf_with_files_beside_it_in_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    write_gltf(folder, textured_quad())
    shutil.make_archive(str(tmp_path / "pack"), "zip", tmp_path, "pack")
    (surface,) = _load(tmp_path / "pack.zip")
    assert len(surface.faces) == 2 and surface.material.texture is not None
    (folder / "quad0.png").unlink()
    with pytest.raises(MeshError, match=r"refers to quad0\.png, which is not there"):
        _load(folder)


def test_obj_in_a_zip(tmp_path: Path) -> None:
    write_obj(tmp_path)
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        for path in tmp_path.glob("square.*"):
            archive.write(path, f"some/where/{path.name}")
    assert len(_load(tmp_path / "pack.zip")) == 2


def _not_finite() -> trimesh.Trimesh:
    box = colored_box()
    box.vertices[:] = np.nan
    return box


def _flat() -> trimesh.Trimesh:
    vertices = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]], float)
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 0, 1]], process=False)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", "is not a GLB"),
        (lambda: b"just a text that calls itself a mesh", "is not a GLB"),
        (lambda: trimesh.Scene(colored_box()).export(file_type="glb")[:900], "."),
        (lambda: trimesh.Scene(_not_finite()).export(file_type="glb"), "no triangle"),
        (lambda: trimesh.Scene(_flat()).export(file_type="glb"), "no triangle"),
        (
            lambda: edit_glb(
                trimesh.Scene(colored_box()).export(file_type="glb"),
                lambda x: x.update(extensionsRequired=["KHR_draco_mesh_compression"]),
            ),
            "KHR_draco_mesh_compression",
        ),
    ],
)
def test_broken_files_say_why(tmp_path: Path, make, reason: str) -> None:
    (tmp_path / "a.glb").write_bytes(make())
    with pytest.raises(MeshError, match=reason) as caught:
        _load(tmp_path)
    assert str(caught.value) and "\n" not in str(caught.value)


def test_broken_texture_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    write_gltf(folder, textured_quad())
    whole = (folder / "quad0.png").read_bytes()
    for broken in (whole[: len(whole) // 2], b"no picture"):
        (folder / "quad0.png").write_bytes(broken)
        with pytest.raises(MeshError):
            _load(folder)


def test_degenerate_triangles_are_dropped(tmp_path: Path) -> None:
    vertices = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]]
    faces = [[0, 1, 2], [0, 1, 3], [1, 1, 2]]
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    (surface,) = _load(write_glb(tmp_path / "a.glb", mesh))
    np.testing.assert_array_equal(surface.faces, [[0, 1, 2]])
