"""Gaussians in the files of others, read by plyfile and by hand, and back."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from plyfile import PlyData, PlyElement

from tests.gaussian_scenes import random_gaussians
from unseen.errors import UserError
from unseen.export.points import write_points
from unseen.export.splat_files import read_splat_file, write_splat, write_splat_ply
from unseen.rendering.spherical_harmonics import SH_C0
from unseen.scenes.gaussians import GaussianScene


def layout(rest: int) -> list[str]:
    """Names and order of the columns that the 3D Gaussian Splatting code writes."""
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(rest)]
    return [
        *names,
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


@pytest.mark.parametrize("degree, rest", [(0, 0), (1, 9), (3, 45)])
def test_plyfile_reads_the_gaussians(tmp_path: Path, degree: int, rest: int):
    scene = random_gaussians(degree=degree)
    write_splat_ply(scene, tmp_path / "splats.ply")
    data = PlyData.read(tmp_path / "splats.ply")
    vertex = data["vertex"]
    assert not data.text and data.byte_order == "<"
    assert [p.name for p in vertex.properties] == layout(rest)
    assert {p.val_dtype for p in vertex.properties} == {"f4"}
    for i in range(3):
        np.testing.assert_array_equal(vertex["xyz"[i]], scene.means[:, i])
        np.testing.assert_array_equal(vertex[f"scale_{i}"], scene.log_scales[:, i])
        np.testing.assert_array_equal(vertex[f"f_dc_{i}"], scene.harmonics[:, 0, i])
    np.testing.assert_array_equal(vertex["opacity"], scene.opacity_logits)
    # All coefficients of red come first, then those of green and blue.
    for channel in range(3):
        for k in range(rest // 3):
            column = vertex[f"f_rest_{channel * (rest // 3) + k}"]
            np.testing.assert_array_equal(column, scene.harmonics[:, k + 1, channel])
    found = np.stack([vertex[f"rot_{i}"] for i in range(4)], -1)
    unit = torch.nn.functional.normalize(scene.rotations, dim=-1)
    np.testing.assert_allclose(found, unit, atol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_ply_comes_back(tmp_path: Path, degree: int):
    scene = random_gaussians(degree=degree)
    write_splat_ply(scene, tmp_path / "splats.ply")
    found = read_splat_file(tmp_path / "splats.ply")
    assert found.low_pass == "classic"
    for name, value in scene.tensors().items():
        if name == "rotations":
            value = torch.nn.functional.normalize(value, dim=-1)
        if name == "background":
            value = torch.ones(3)
        torch.testing.assert_close(found.tensors()[name], value)


def test_a_ply_of_another_program_is_read(tmp_path: Path):
    """Columns in another order, with others between them, and a second element."""
    scene = random_gaussians(4)
    names = list(reversed(layout(0)))
    table = np.zeros(4, [("extra", "u1"), *((name, "f8") for name in names)])
    for i in range(3):
        table["xyz"[i]] = scene.means[:, i]
        table[f"scale_{i}"] = scene.log_scales[:, i]
        table[f"f_dc_{i}"] = scene.harmonics[:, 0, i]
    table["opacity"], table["rot_0"] = scene.opacity_logits, 1
    other = np.zeros(2, [("index", "i4")])
    elements = [PlyElement.describe(table, "vertex"), PlyElement.describe(other, "x")]
    PlyData(elements, byte_order="<").write(str(tmp_path / "other.ply"))
    found = read_splat_file(tmp_path / "other.ply")
    torch.testing.assert_close(found.means, scene.means)
    torch.testing.assert_close(found.opacity_logits, scene.opacity_logits)


def test_splat_records_hold_what_they_should(tmp_path: Path):
    scene = random_gaussians(20, degree=1)
    write_splat(scene, tmp_path / "a.splat")
    data = (tmp_path / "a.splat").read_bytes()
    assert len(data) == 32 * 20
    worth = scene.opacity_logits.sigmoid() * scene.log_scales.sum(-1).exp()
    order = worth.argsort(descending=True)
    for record, index in zip(struct.iter_unpack("<6f8B", data), order, strict=True):
        np.testing.assert_allclose(record[:3], scene.means[index], rtol=1e-6)
        np.testing.assert_allclose(
            record[3:6], scene.log_scales[index].exp(), rtol=1e-5
        )
        color = (0.5 + SH_C0 * scene.harmonics[index, 0]).clamp(0, 1) * 255
        np.testing.assert_allclose(record[6:9], color, atol=0.51)
        opacity = 255 * float(scene.opacity_logits[index].sigmoid())
        assert record[9] == pytest.approx(opacity, abs=0.51)
        unit = scene.rotations[index] / scene.rotations[index].norm()
        expected = (unit * 128 + 128).clamp(max=255)
        np.testing.assert_allclose(record[10:], expected, atol=0.51)


def test_a_splat_file_comes_back_within_its_bytes(tmp_path: Path):
    scene = random_gaussians(40)
    write_splat(scene, tmp_path / "a.splat")
    found = read_splat_file(tmp_path / "a.splat")
    worth = scene.opacity_logits.sigmoid() * scene.log_scales.sum(-1).exp()
    scene = scene.select(worth.argsort(descending=True))
    torch.testing.assert_close(found.means, scene.means)
    torch.testing.assert_close(found.log_scales, scene.log_scales)
    torch.testing.assert_close(
        found.opacity_logits.sigmoid(),
        scene.opacity_logits.sigmoid(),
        atol=3e-3,
        rtol=0,
    )
    torch.testing.assert_close(
        found.base_colors, scene.base_colors.clamp(0, 1), atol=3e-3, rtol=0
    )
    # Rotations agree up to the sign of the quaternion.
    unit = [torch.nn.functional.normalize(x.rotations, dim=-1) for x in (found, scene)]
    assert float((unit[0] * unit[1]).sum(-1).abs().min()) > 0.999


def test_points_are_read_by_trimesh(tmp_path: Path):
    scene = random_gaussians(50)
    write_points(scene, tmp_path / "points.ply")
    cloud = trimesh.load(tmp_path / "points.ply")
    kept = scene.opacity_logits.sigmoid() >= 0.3
    assert isinstance(cloud, trimesh.PointCloud)
    np.testing.assert_allclose(cloud.vertices, scene.means[kept], atol=1e-6)
    colors = (scene.base_colors[kept].clamp(0, 1) * 255).round()
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], colors)
    vertex = PlyData.read(tmp_path / "points.ply")["vertex"]
    normals = np.stack([vertex[f"n{c}"] for c in "xyz"], -1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    # The shortest axis is the direction in which the covariance is least.
    axes = scene.axes()[kept] * scene.log_scales[kept].exp()[:, None]
    along = np.linalg.norm(np.einsum("nij,ni->nj", axes.numpy(), normals), axis=1)
    least = scene.log_scales[kept].exp().amin(-1)
    np.testing.assert_allclose(along, least, rtol=1e-4)


def damaged(path: Path, scene: GaussianScene, how: str) -> Path:
    write_splat_ply(scene, path)
    data = path.read_bytes()
    changed = {
        "cut": data[:-40],
        "text": data.replace(b"binary_little_endian", b"ascii"),
        "no ply": b"solid" + data,
        "opacity": data.replace(b"float opacity", b"float capacity"),
        "nan": data[:-4] + struct.pack("<f", float("nan")),
        "twice": data.replace(b"float ny", b"float nx"),
        "list": data.replace(b"property float nx", b"property list uchar int nx"),
        "count": data.replace(b"vertex 30", b"vertex -1"),
        "huge": data.replace(b"vertex 30", b"vertex 99999999999"),
        "rest": data.replace(b"float nx", b"float f_rest_0"),
    }[how]
    path.write_bytes(changed)
    return path


@pytest.mark.parametrize(
    "how, reason",
    [
        ("cut", "cut short"),
        ("text", "binary little-endian"),
        ("no ply", "no PLY file"),
        ("opacity", "lack 'opacity'"),
        ("nan", "not finite"),
        ("twice", "missing or twice"),
        ("list", "lists"),
        ("count", "does not begin with vertices"),
        ("huge", "cut short"),
        ("rest", "no degree"),
    ],
)
def test_damaged_plys_are_refused(tmp_path: Path, how: str, reason: str):
    path = damaged(tmp_path / "a.ply", random_gaussians(), how)
    with pytest.raises(UserError, match=reason) as caught:
        read_splat_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_splat_files_are_refused(tmp_path: Path):
    path = tmp_path / "a.splat"
    write_splat(random_gaussians(), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="cut short"):
        read_splat_file(path)
    with pytest.raises(UserError, match="cannot read"):
        read_splat_file(tmp_path / "missing.ply")
