"""Textured meshes: their atlas, their files read by others, and how they look."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from PIL import Image

from tests.analytic_scene import ball, sky
from unseen.errors import UserError
from unseen.export.bake_splats import render_views
from unseen.export.glb import write_glb
from unseen.export.mesh import extract_mesh
from unseen.export.mesh_rendering import render_mesh
from unseen.export.obj import write_obj
from unseen.export.surrounding import random_views
from unseen.export.texture import _block_texels, bake_texture
from unseen.export.textured_mesh import TexturedMesh

SCENE = ball(0.1, radius=0.6, sharpness=150.0)
WHITE = torch.ones(3)


@pytest.fixture(scope="module")
def plain() -> trimesh.Trimesh:
    return extract_mesh(SCENE, 24)


@pytest.fixture(scope="module")
def textured(plain: trimesh.Trimesh) -> TexturedMesh:
    return bake_texture(SCENE, plain, block=9)


def look_up(mesh: TexturedMesh, weights: torch.Tensor) -> torch.Tensor:
    """Bilinear look-ups at barycentric coordinates (point 3) of all faces."""
    uv = torch.einsum("pi,fic->fpc", weights, mesh.uv.reshape(-1, 3, 2))
    found = torch.nn.functional.grid_sample(
        mesh.texture.movedim(-1, 0)[None], (2 * uv - 1)[None], align_corners=False
    )
    return found[0].movedim(0, -1)


def test_look_ups_in_a_face_touch_no_other(textured: TexturedMesh):
    """Paint every face's texels with one value: look-ups give that value."""
    count = len(textured.vertices) // 3
    height, width = textured.texture.shape[:2]
    face, texels, _ = _block_texels(count, width // 9, 9)
    painted = torch.full((height, width, 3), -10.0)
    values = torch.rand(count, generator=torch.Generator().manual_seed(1))
    owner = torch.full((height, width), -1)
    owner[texels[:, 1], texels[:, 0]] = face
    # No texel belongs to two faces, and in full blocks each to one.
    assert int((owner >= 0).sum()) == len(face) >= count // 2 * 81
    painted[texels[:, 1], texels[:, 0]] = values[face][:, None]
    numbered = dataclasses.replace(textured, texture=painted)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(50, 3, generator=generator)
    weights = weights / weights.sum(-1, keepdim=True)
    weights = torch.cat([weights, torch.eye(3), 0.5 * (1 - torch.eye(3))])
    found = look_up(numbered, weights)[..., 0]
    assert float((found - values[:, None]).abs().max()) < 0.01


def test_texels_have_the_colors_of_the_field(textured: TexturedMesh):
    weights = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.6, 0.2, 0.2]])
    corners = textured.vertices.reshape(-1, 3, 3)
    points = torch.einsum("pi,fic->fpc", weights, corners).reshape(-1, 3)
    _, expected = SCENE.evaluate(points)
    found = look_up(textured, weights).reshape(-1, 3)
    away = (points[:, 0] - 0.1).abs() > 0.15
    assert float((found - expected)[away].abs().max()) < 0.05


@pytest.mark.parametrize("kind", ["vertex colours", "texture"])
def test_the_mesh_looks_like_the_field(plain, textured, kind: str):
    cameras = random_views(SCENE, 3, 40.0, torch.Generator().manual_seed(0))
    mesh = textured if kind == "texture" else plain
    found = render_mesh(mesh, cameras, (32, 32), WHITE)
    truth = render_views(SCENE, cameras, (32, 32)).color
    # Over 20 dB: the ball's rim is soft, and its colours jump at x = 0.1.
    error = float((found - truth).square().mean())
    assert error < 1e-2, error
    assert torch.equal(found[:, :, 0], torch.ones(3, 3, 32))


def test_pygltflib_reads_the_glb(tmp_path: Path, textured: TexturedMesh):
    write_glb(textured, tmp_path / "a.glb")
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert gltf is not None
    primitive = gltf.meshes[0].primitives[0]
    blob = gltf.binary_blob()

    def array(index: int, columns: int, kind: str) -> np.ndarray:
        accessor = gltf.accessors[index]
        view = gltf.bufferViews[accessor.bufferView]
        start = view.byteOffset + (accessor.byteOffset or 0)
        count = accessor.count * columns
        return np.frombuffer(blob, kind, count, start).reshape(-1, columns)

    position = array(primitive.attributes.POSITION, 3, "<f4")
    # World (x, y, z) is glTF (y, z, x).
    np.testing.assert_array_equal(position[:, [2, 0, 1]], textured.vertices)
    np.testing.assert_array_equal(
        array(primitive.attributes.TEXCOORD_0, 2, "<f4"), textured.uv
    )
    indices = array(primitive.indices, 1, "<u4")[:, 0]
    np.testing.assert_array_equal(indices, np.arange(len(position)))
    material = gltf.materials[primitive.material]
    assert "KHR_materials_unlit" in material.extensions
    texture = gltf.textures[material.pbrMetallicRoughness.baseColorTexture.index]
    # Without mipmaps, which would mix the blocks.
    assert gltf.samplers[texture.sampler].minFilter == 9729
    view = gltf.bufferViews[gltf.images[texture.source].bufferView]
    data = blob[view.byteOffset : view.byteOffset + view.byteLength]
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_allclose(pixels, textured.texture * 255, atol=0.51)


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_trimesh_sees_the_same_colors(
    tmp_path: Path, plain: trimesh.Trimesh, textured: TexturedMesh, suffix: str
):
    path = tmp_path / f"a.{suffix}"
    write_glb(textured, path) if suffix == "glb" else write_obj(textured, path)
    read = trimesh.load_scene(path).to_geometry()
    assert isinstance(read, trimesh.Trimesh)
    centers = torch.from_numpy(read.triangles_center[:, [2, 0, 1]]).float()
    visual: Any = read.visual
    uv = visual.uv[read.faces].mean(axis=1)
    material = visual.material
    picture = material.baseColorTexture if suffix == "glb" else material.image
    image = np.asarray(picture.convert("RGB")) / 255
    height, width = image.shape[:2]
    # trimesh counts v from below.
    column = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    _, expected = SCENE.evaluate(centers)
    away = ((centers[:, 0] - 0.1).abs() > 0.15).numpy()
    found = image[row, column]
    assert np.abs(found - expected.numpy())[away].max() < 0.08
    assert read.volume == pytest.approx(plain.volume, rel=1e-3)


def test_obj_files_belong_together(tmp_path: Path, textured: TexturedMesh):
    write_obj(textured, tmp_path / "thing.obj")
    names = ["thing.mtl", "thing.obj", "thing.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert "mtllib thing.mtl" in (tmp_path / "thing.obj").read_text()
    assert "map_Kd thing.png" in (tmp_path / "thing.mtl").read_text()
    with pytest.raises(UserError, match="space"):
        write_obj(textured, tmp_path / "a thing.obj")
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_what_has_no_field_gets_no_texture(plain: trimesh.Trimesh):
    with pytest.raises(UserError, match="SkyScene has no density"):
        bake_texture(sky(), plain)
    with pytest.raises(ValueError, match="at least 6 texels"):
        bake_texture(SCENE, plain, block=5)
