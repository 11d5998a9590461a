"""Variants of meshes: what changes, and what must not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.mesh_samples import colored_box, write_glb
from unseen.data.mesh_files import MeshFile
from unseen.data.mesh_materials import Material
from unseen.data.mesh_variants import hue_rotation, load_variant, vary
from unseen.data.meshes import Surface, load_mesh

TRIANGLE = np.array([[0.0, 0, 0], [1, 0, 0.5], [0, 1, 0.25]])


def _surface(**changes) -> Surface:
    normal = np.cross(TRIANGLE[1] - TRIANGLE[0], TRIANGLE[2] - TRIANGLE[0])
    normals = np.tile(normal / np.linalg.norm(normal), (3, 1))
    surface = Surface(TRIANGLE, np.array([[0, 1, 2]]), Material("paint"), normals)
    return dataclasses.replace(surface, **changes)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_hue_turns_about_grey() -> None:
    turn = hue_rotation(2 * math.pi / 3, 1.0)
    np.testing.assert_allclose(turn @ [0.9, 0.2, 0.1], [0.1, 0.9, 0.2], atol=1e-12)
    for angle, saturation in ((0.3, 0.5), (2.0, 1.2)):
        turn = hue_rotation(angle, saturation)
        np.testing.assert_allclose(turn @ np.full(3, 0.4), np.full(3, 0.4))
        assert (turn @ [0.8, 0.3, 0.4]).sum() == pytest.approx(1.5)
    np.testing.assert_allclose(hue_rotation(1.0, 0.0), np.full((3, 3), 1 / 3))


def test_normals_stay_upright_on_their_triangles() -> None:
    (varied,) = vary([_surface()], _generator())
    assert varied.normals is not None
    a, b, c = varied.vertices
    normal = np.cross(b - a, c - a)
    np.testing.assert_allclose(varied.normals[0], normal / np.linalg.norm(normal))
    assert not np.allclose(varied.vertices, TRIANGLE, atol=0.01)


def test_all_carriers_of_colour_turn_alike() -> None:
    """A factor, vertex colours and a texture of one colour stay one colour."""
    srgb = Image.new("RGB", (2, 2), (200, 80, 60))
    linear = np.asarray([((x / 255 + 0.055) / 1.055) ** 2.4 for x in (200, 80, 60)])
    factor = Material("paint", color=(*linear.tolist(), 1.0))
    surfaces = [
        _surface(material=factor),
        _surface(colors=np.tile(linear, (3, 1))),
        _surface(material=Material("paint", texture=srgb)),
        _surface(material=Material("other", texture=srgb)),
    ]
    one, two, three, four = vary(surfaces, _generator(3))
    color = np.asarray(one.material.color[:3])
    assert not np.allclose(color, linear, atol=0.05)
    assert two.colors is not None
    np.testing.assert_allclose(two.colors[0], color)
    assert three.material.texture is not None
    assert three.material.texture is four.material.texture
    pixel = np.asarray(three.material.texture)[0, 0, :3] / 255
    np.testing.assert_allclose(((pixel + 0.055) / 1.055) ** 2.4, color, atol=0.01)


def test_a_variant_is_the_same_every_time(tmp_path: Path) -> None:
    write_glb(tmp_path / "box.glb", colored_box())
    mesh = MeshFile("box.glb", tmp_path / "box.glb", variant=2)
    once, again = load_variant(mesh), load_variant(mesh)
    assert all(
        np.array_equal(x.vertices, y.vertices) for x, y in zip(once, again, strict=True)
    )
    other = load_variant(dataclasses.replace(mesh, variant=1))
    plain = load_mesh(dataclasses.replace(mesh, variant=0))
    for surfaces in (other, plain):
        assert not np.allclose(surfaces[0].vertices, once[0].vertices, atol=1e-3)
    used = np.concatenate([s.vertices for s in once])
    assert np.linalg.norm(used, axis=-1).max() == pytest.approx(1.0)
