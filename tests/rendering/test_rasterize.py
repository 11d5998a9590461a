"""The depth buffer against every triangle at every pixel, and against rays."""

from __future__ import annotations

import torch
import trimesh

from unseen.data.cameras import sphere_cameras
from unseen.geometry.rays import image_rays
from unseen.rendering.rasterize import rasterize, rasterize_plain

CAMERAS = sphere_cameras(
    torch.tensor([0.3, 2.0]), torch.tensor([0.4, -0.2]), torch.tensor(0.7)
)


def test_it_equals_its_twin(generator: torch.Generator):
    vertices = torch.randn(40, 3, generator=generator) * 0.5
    faces = torch.randint(0, 40, (60, 3), generator=generator)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])]
    faces = faces[faces[:, 0] != faces[:, 2]]
    for camera in CAMERAS:
        found = rasterize(vertices, faces, camera, (23, 31))
        expected = rasterize_plain(vertices, faces, camera, (23, 31))
        assert 0.2 < float((found.faces >= 0).float().mean()) < 1
        # Rounding may decide about pixels on an edge, and between equal faces.
        other = (found.depth - expected.depth).abs() > 1e-3
        assert int(other.sum()) <= 2
        same = found.faces == expected.faces
        assert float(same.float().mean()) > 0.95
        one, other = found.weights[same], expected.weights[same]
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_a_sphere_is_where_rays_hit_it():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.6)
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32)
    faces = torch.tensor(mesh.faces)
    camera = CAMERAS[0]
    found = rasterize(vertices, faces, camera, (40, 40))
    origins, directions = image_rays(camera, (40, 40))
    # |o + t d|^2 = r^2; t is depth, because directions have z = 1.
    a = (directions**2).sum(-1)
    b = (origins * directions).sum(-1)
    c = (origins**2).sum(-1) - 0.6**2
    root = b**2 - a * c
    depth = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, torch.inf)
    depth = depth.unflatten(0, (40, 40))
    hit = found.faces >= 0
    assert float((hit != depth.isfinite()).float().mean()) < 0.01
    both = hit & depth.isfinite()
    assert float((found.depth[both] - depth[both]).abs().max()) < 0.05
    assert float((found.depth[both] - depth[both]).abs().mean()) < 0.003
    points = (vertices[faces[found.faces[both]]] * found.weights[both][..., None]).sum(
        1
    )
    seen = (origins + depth.reshape(-1, 1) * directions).unflatten(0, (40, 40))[both]
    assert float((points - seen).norm(dim=-1).mean()) < 0.005


def test_what_is_too_near_is_left_out():
    camera = CAMERAS[0]
    toward = camera.centers + 0.5 * camera.near * camera.extrinsics[:3, 2]
    corners = toward + 0.1 * camera.extrinsics[:3, :3].T[[0, 1, 0]] * torch.tensor(
        [[1.0], [1.0], [-1.0]]
    )
    found = rasterize(corners, torch.tensor([[0, 1, 2]]), camera, (8, 8))
    assert (found.faces == -1).all() and found.depth.isinf().all()
