"""The procedural world: exact geometry, true ambiguity, determinism."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from unseen.data.cameras import object_cameras, sphere_cameras
from unseen.data.primitives import CUBE_CORNERS, Solid, affine
from unseen.data.procedural import CATEGORIES, make_object
from unseen.data.procedural_parts import PALETTE, ball, box, patch, rod, roof, wedge
from unseen.data.procedural_rendering import render_solids
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.rays import image_rays

RED, GREEN, BLUE = PALETTE[0], PALETTE[3], PALETTE[5]


def cameras_at(*degrees: tuple[float, float], fov: float = 40.0) -> Cameras:
    angles = torch.tensor(degrees).deg2rad()
    return sphere_cameras(angles[:, 0], angles[:, 1], torch.tensor(fov).deg2rad())


def points_and_mask(
    solid: Solid, cameras: Cameras, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """World points from the depth image, and where there are any."""
    depths = render_solids([solid], cameras, (size, size)).depths
    assert depths is not None
    origins, directions = image_rays(cameras, (size, size))
    flat = depths.flatten(1)
    return origins + flat[..., None] * directions, flat > 0


def test_ball_depth_and_mask_area() -> None:
    cameras = cameras_at((0, 0), (70, 30), (200, -40))
    radius, size = 0.7, 65
    views = render_solids([ball((0, 0, 0), radius, RED)], cameras, (size, size))
    assert views.depths is not None and views.masks is not None
    distance = cameras.centers.norm(dim=-1)
    # The middle pixel's centre is the image's centre, for an odd size.
    middle = views.depths[:, size // 2, size // 2]
    assert torch.allclose(middle, distance - radius, atol=1e-5)
    # The silhouette is a disc of radius f tan(asin(r / d)).
    focal = float(cameras.intrinsics[0, 0, 0]) * size
    disc = math.pi * (focal * math.tan(math.asin(radius / float(distance[0])))) ** 2
    assert views.masks.sum(dim=(1, 2)).tolist() == pytest.approx([disc] * 3, rel=0.01)


SOLIDS = {
    "ball": ball((0.1, 0.2, -0.1), (0.7, 0.3, 0.5), RED, 0.6, (1, 2, 3)),
    "tiny ball": ball((0.5, 0.2, 0.1), 0.02, RED),
    "box": box((0.1, 0, 0.1), (0.3, 0.5, 0.4), RED, 0.5, (1, 1, 0)),
    "cylinder": rod((-0.3, -0.2, -0.4), (0.4, 0.3, 0.5), 0.3, RED),
    "cone": rod((0.2, 0.1, -0.5), (0.2, -0.1, 0.6), 0.5, RED, 0.0),
    "frustum": rod((0.3, 0, 0.1), (-0.5, 0, 0.0), 0.4, RED, 0.6),
    "roof": roof((0, 0, 0), (0.5, 0.6, 0.3), [RED, GREEN], BLUE),
    "wedge": wedge((0, 0, 0), (0.6, 0.3, 0.4), RED, 0.4),
}


def outside(solid: Solid, points: np.ndarray) -> np.ndarray:
    """A function that is 0 on the surface, computed without any ray."""
    inverse = np.linalg.inv(solid.to_world)
    local = points @ inverse[:3, :3].T + inverse[:3, 3]
    planes = getattr(solid, "planes", None)
    if planes is not None:
        return (local @ planes[:, :3].T - planes[:, 3]).max(-1)
    taper = getattr(solid, "taper", None)
    if taper is None:
        return np.linalg.norm(local, axis=-1) - 1
    width = 0.5 * (1 + taper) + 0.5 * (taper - 1) * local[:, 2]
    side = np.linalg.norm(local[:, :2], axis=-1) - width
    return np.maximum(side, np.abs(local[:, 2]) - 1)


@pytest.mark.parametrize("name", SOLIDS)
def test_depth_lies_on_the_surface_and_in_front(name: str) -> None:
    solid = SOLIDS[name]
    cameras = cameras_at((10, 10), (100, -30), (200, 45), (300, 80))
    points, hit = points_and_mask(solid, cameras, 48)
    assert hit.any(dim=-1).all()
    surface = points[hit].double().numpy()
    # Error in world units: the local one times the smallest scale, at most.
    scale = np.linalg.norm(solid.to_world[:3, :3], axis=0).min()
    assert np.abs(outside(solid, surface) * scale).max() < 1e-5
    # Nothing solid lies between the camera and the hit: march along the rays.
    origins, directions = image_rays(cameras, (48, 48))
    for index in range(len(cameras)):
        start = origins[index][hit[index]].double().numpy()
        end = points[index][hit[index]].double().numpy()
        for part in np.linspace(0.6, 0.999, 20):
            assert outside(solid, start + part * (end - start)).min() > -1e-6
    # Rays that miss find the solid nowhere.
    missing = ~hit
    for index in range(len(cameras)):
        start = origins[index][missing[index]].double().numpy()
        step = directions[index][missing[index]].double().numpy()
        for t in np.linspace(1.5, 6, 40):
            assert outside(solid, start + t * step).min() > -1e-4


@pytest.mark.parametrize("name", SOLIDS)
def test_normals_are_the_gradient_of_the_surface(name: str) -> None:
    solid = dataclasses.replace(SOLIDS[name], to_world=np.eye(4))
    random = np.random.default_rng(0)
    targets, origins = (random.normal(size=(3, 200)) for _ in range(2))
    origins = 3 * origins / np.linalg.norm(origins, axis=0)
    directions = 0.3 * targets - origins
    t, faces = solid.intersect(origins, directions)
    hit = np.isfinite(t)
    assert hit.sum() > 50
    points = (origins + t * directions)[:, hit].T
    normals = solid.normals(points, faces[hit])
    normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    step = 1e-4
    steps = step * np.eye(3)
    gradient = np.stack(
        [outside(solid, points + d) - outside(solid, points - d) for d in steps], -1
    )
    gradient = gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)
    # Within a step of an edge the difference sees two faces.
    agree = (normals * gradient).sum(-1) > 0.999
    assert agree.mean() > 0.98


def test_supersampled_mask_is_the_mean_of_a_finer_one() -> None:
    cameras = cameras_at((20, 20), (140, 50))
    item = make_object("truck", 3)
    coarse = item.render(cameras, 24, supersample=4)
    fine = item.render(cameras, 96, supersample=1)
    assert coarse.masks is not None and fine.masks is not None
    pooled = torch.nn.functional.avg_pool2d(fine.masks[:, None], 4)[:, 0]
    assert torch.allclose(coarse.masks, pooled, atol=1e-6)
    pooled_images = torch.nn.functional.avg_pool2d(fine.images, 4)
    assert torch.allclose(coarse.images, pooled_images, atol=1e-5)


def test_odd_supersampling_gives_the_depth_of_the_pixel_centre() -> None:
    cameras = cameras_at((35, 20))
    item = make_object("house", 1)
    even, odd = (item.render(cameras, 32, supersample=s).depths for s in (2, 3))
    assert even is not None and odd is not None
    assert torch.allclose(even, odd, atol=1e-5)


def test_box_faces_have_their_colours() -> None:
    colors = list(PALETTE[:6])
    solid = box((0, 0, 0), (0.5, 0.5, 0.5), colors)
    directions = [(180, 0), (0, 0), (270, 0), (90, 0), (0, -89), (0, 89)]
    images = render_solids([solid], cameras_at(*directions), (33, 33)).images
    for color, image in zip(colors, images, strict=True):
        seen = image[:, 16, 16]
        # Shading scales all channels alike, up to saturation.
        ratio = seen / torch.tensor(color)
        assert float(ratio.max() - ratio.min()) < 0.1
        assert 0.5 < float(ratio.mean()) < 1.2


def test_nearer_solid_wins_in_any_order() -> None:
    near, far = ball((0.5, 0, 0), 0.3, RED), ball((-0.5, 0, 0), 0.45, BLUE)
    camera = cameras_at((0, 0))
    first, second = (
        render_solids(order, camera, (33, 33)) for order in ([near, far], [far, near])
    )
    assert torch.equal(first.images, second.images)
    assert first.images[0, 0, 16, 16] > 2 * first.images[0, 2, 16, 16]


def test_paint_keeps_the_silhouette_and_covers_only_its_region() -> None:
    plain = box((0, 0, 0), (0.5, 0.5, 0.5), RED)
    spot = patch((0.5, 0, 0), (0.01, 0.2, 0.2), BLUE, round=True)
    camera = cameras_at((0, 0))
    bare, painted = (
        render_solids([solid], camera, (65, 65), supersample=1)
        for solid in (plain, plain.painted(spot))
    )
    assert bare.masks is not None and painted.masks is not None
    assert torch.equal(bare.masks, painted.masks)
    changed = (bare.images != painted.images).any(dim=1)[0]
    depth = float(camera.centers[0].norm()) - 0.5
    radius = 0.2 / depth * float(camera.intrinsics[0, 0, 0]) * 65
    assert float(changed.sum()) == pytest.approx(math.pi * radius**2, rel=0.1)
    assert painted.images[0, 2, 32, 32] > painted.images[0, 0, 32, 32]


def test_affine_turns_about_its_axis_by_the_right_hand() -> None:
    matrix = affine((1, 2, 3), (2, 1, 1), (0, 0, 1), math.pi / 2)
    assert np.allclose(matrix @ [1, 0, 0, 1], [1, 4, 3, 1])


@pytest.mark.parametrize("category", CATEGORIES)
def test_objects_fill_the_unit_sphere_and_the_view(category: str) -> None:
    for seed in range(6):
        item = make_object(category, seed)
        for solid in item.solids:
            lower, upper = solid.bounds()
            assert (lower <= upper).all()
        points = np.concatenate([surface_points(solid) for solid in item.solids])
        radii = np.linalg.norm(points, axis=-1)
        assert radii.max() <= 1 + 1e-6
        assert radii.max() > 0.7
        cameras = object_cameras(8, torch.Generator().manual_seed(seed))
        xy, depth = project(cameras, torch.from_numpy(points).float())
        assert (xy > 0).all() and (xy < 1).all()
        assert (depth >= cameras.near[:, None] - 1e-5).all()
        assert (depth <= cameras.far[:, None] + 1e-5).all()


def surface_points(solid: Solid) -> np.ndarray:
    """World points of the solid; for polytopes the vertices."""
    vertices = getattr(solid, "vertices", None)
    if vertices is None:
        angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
        taper = getattr(solid, "taper", None)
        if taper is None:
            vertices = np.concatenate([ring, ring[:, [2, 0, 1]], ring[:, [0, 2, 1]]])
        else:
            up = np.array([0, 0, 1])
            vertices = np.concatenate([ring - up, taper * ring + up])
    return vertices @ solid.to_world[:3, :3].T + solid.to_world[:3, 3]


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_same_seed_gives_the_same_pixels(category: str) -> None:
    cameras = cameras_at((30, 20), (200, 0))
    first, again, other = (
        make_object(category, seed).render(cameras, 32).images for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_front_does_not_tell_the_back(category: str) -> None:
    """Objects that share a seed agree in front and differ behind."""
    different = []
    for seed in range(6):
        first, second = (make_object(category, seed, back=back) for back in (1, 2))
        assert first.front_azimuth == second.front_azimuth
        front = math.degrees(first.front_azimuth)
        cameras = cameras_at((front, 0), (front, 5), (front + 180, 5))
        images = [item.render(cameras, 24).images for item in (first, second)]
        change = (images[0] - images[1]).abs().mean(dim=(1, 2, 3))
        # A pixel column of 1/1000 of the box may show: paint has that thickness.
        assert change[:2].max() < 1e-3
        different.append(float(change[2]))
    assert np.mean([change > 0.01 for change in different]) >= 0.5
    assert np.mean(different) > 0.01


def test_hidden_colours_are_far_from_each_other() -> None:
    palette = torch.tensor(PALETTE)
    distance = torch.cdist(palette, palette) + 10 * torch.eye(len(palette))
    assert distance.min() > 0.3


def test_unknown_category_is_refused() -> None:
    with pytest.raises(UserError, match="no category 'dragon'; choose among crate"):
        make_object("dragon", 0)


def test_spiral_cameras_climb_and_do_not_depend_on_chance() -> None:
    first, second = (
        object_cameras(9, torch.Generator().manual_seed(s), "spiral", (40.0, 40.0))
        for s in (0, 1)
    )
    assert torch.equal(first.extrinsics, second.extrinsics)
    assert (first.centers[:, 2].diff() > 0).all()


def test_random_cameras_respect_their_ranges() -> None:
    generator = torch.Generator().manual_seed(0)
    cameras = object_cameras(500, generator, "random", (30.0, 50.0), (-5.0, 50.0))
    centers = cameras.centers
    elevation = torch.asin(centers[:, 2] / centers.norm(dim=-1)).rad2deg()
    assert elevation.min() >= -5.01 and elevation.max() <= 50.01
    assert elevation.min() < -4 and elevation.max() > 49
    fov = 2 * torch.atan(0.5 / cameras.intrinsics[:, 0, 0])
    assert (fov == fov[0]).all() and 30 <= float(fov[0].rad2deg()) <= 50
    distance = 1.05 / torch.sin(0.5 * fov)
    assert torch.allclose(centers.norm(dim=-1), distance, atol=1e-5)
    assert torch.allclose(cameras.far - cameras.near, torch.full_like(fov, 2.0))
    corners = torch.from_numpy(CUBE_CORNERS).float() / math.sqrt(3)
    xy, _ = project(cameras, corners)
    assert (xy > 0).all() and (xy < 1).all()


@pytest.mark.parametrize(
    ("fov", "elevation"),
    [
        ((50.0, 30.0), (0.0, 10.0)),
        ((0.0, 40.0), (0.0, 10.0)),
        ((30.0, 50.0), (5.0, 95.0)),
    ],
)
def test_bad_camera_ranges_are_refused(
    fov: tuple[float, float], elevation: tuple[float, float]
) -> None:
    with pytest.raises(UserError, match="from low to high"):
        object_cameras(2, torch.Generator(), "random", fov, elevation)
