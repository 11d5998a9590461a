"""The scenes of pixelNeRF and VisionNeRF: twins, invariances, files, conventions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.aligned_scenes import cameras, pixelnerf, views, visionnerf
from unseen.geometry.cameras import Cameras, look_at
from unseen.geometry.rays import get_rays, pixel_centers
from unseen.rendering.interpolation import lookup
from unseen.scenes.aligned_radiance import AlignedReading
from unseen.scenes.aligned_scene import AlignedRadianceScene
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.sparse_frame import SparseRendering

EVERYTHING = SparseRendering(stride=1, least_opacity=-1.0, least_light=1e-12)
"""Settings with which nothing is skipped."""


def pixelnerf_scene(
    batch: int = 1, num_views: int = 2, **reading
) -> AlignedRadianceScene:
    method = pixelnerf()
    scene = method.sample_scene(views(batch, num_views), list(range(batch)))
    return dataclasses.replace(
        scene, reading=dataclasses.replace(scene.reading, **reading)
    )


def visionnerf_scene(batch: int = 1, **reading) -> AlignedRadianceScene:
    method = visionnerf()
    scene = method.sample_scene(views(batch, 1), list(range(batch)))
    return dataclasses.replace(
        scene, reading=dataclasses.replace(scene.reading, **reading)
    )


SCENES = [pixelnerf_scene, visionnerf_scene]


def points_and_directions(batch: int = 1) -> tuple[Tensor, Tensor]:
    """Points in, beside and behind the source views."""
    generator = torch.Generator().manual_seed(3)
    points = 3 * torch.randn(batch, 60, 3, generator=generator)
    return points, torch.randn(batch, 60, 3, generator=generator)


# ---- Fast paths and their twins ------------------------------------------------------


@pytest.mark.parametrize("make", SCENES)
def test_query_equals_its_plain_twin(make) -> None:
    """Forward, and backward into the features and the network."""
    points, directions = points_and_directions(2)
    results = []
    for plain in (False, True):
        scene = make(batch=2)
        maps = scene.sources.maps.clone().requires_grad_()
        sources = dataclasses.replace(scene.sources, maps=maps)
        field = dataclasses.replace(scene, sources=sources).fine
        query = field.query_plain if plain else field.query
        density, color = query(points, directions)
        generator = torch.Generator().manual_seed(4)
        loss = (density * torch.randn(density.shape, generator=generator)).sum()
        loss = loss + (color * torch.randn(color.shape, generator=generator)).sum()
        weight = field.network.feature_in[0].weight
        results.append((density, color, *torch.autograd.grad(loss, (maps, weight))))
    for fast, slow in zip(*results, strict=True):
        assert slow.abs().max() > 0
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.parametrize("measure", ["depth", "distance"])
@torch.no_grad()
def test_frame_without_skipping_equals_the_plain_one(make, measure: str) -> None:
    scene = dataclasses.replace(make(measure=measure)[0], sparse=EVERYTHING)
    camera, size = cameras(2, 0.4), (5, 7)
    plain, fast = scene.render_plain(camera, size), scene.render(camera, size)
    assert plain.color.std() > 0.02
    for name in ("color", "depth", "opacity"):
        torch.testing.assert_close(
            getattr(fast, name), getattr(plain, name), rtol=0, atol=1e-5
        )


@torch.no_grad()
def test_skipping_what_cannot_be_seen_changes_little() -> None:
    """Dense search, so that only the thresholds matter: 45 dB and more."""
    scene = pixelnerf_scene()[0]
    dense = dataclasses.replace(scene, sparse=SparseRendering(stride=1))
    camera, size = cameras(1, 0.4), (12, 12)
    error = scene.render_plain(camera, size).color - dense.render(camera, size).color
    assert -10 * error.square().mean().log10() > 45


@torch.no_grad()
def test_bfloat16_is_close() -> None:
    scene = pixelnerf_scene()[0]
    fast = dataclasses.replace(
        scene, sparse=dataclasses.replace(EVERYTHING, precision="bfloat16")
    )
    camera, size = cameras(1, 0.4), (8, 8)
    error = scene.render_plain(camera, size).color - fast.render(camera, size).color
    assert 0 < error.square().mean() < 10**-3.5


@torch.no_grad()
def test_skipping_asks_the_network_less() -> None:
    """An empty field is asked by the search alone, a wall only until it is dark."""
    scene = pixelnerf_scene()[0]
    camera, size = cameras(1, 0.4), (16, 16)
    counts = {}
    for name, bias in (("empty", -100.0), ("wall", 1000.0)):
        asked = []
        hooks = []
        for network in (scene.coarse_network, scene.fine_network):
            network.out.weight.zero_()
            network.out.bias.fill_(bias)
            hooks.append(
                network.out.register_forward_hook(
                    lambda module, args, out, asked=asked: asked.append(
                        out[..., 0].numel()
                    )
                )
            )
        rendered = dataclasses.replace(scene).render(camera, size)
        counts[name] = sum(asked)
        for hook in hooks:
            hook.remove()
        if name == "empty":
            assert torch.equal(rendered.color, torch.ones_like(rendered.color))
            assert rendered.depth is not None
            torch.testing.assert_close(rendered.depth[0, 0, 0], camera.far[0])
    sampling = scene.sampling
    # Every second row and column, each bin by one of the networks.
    search = 8 * 8 * sampling.num_coarse
    assert counts["empty"] == search
    everything = 16 * 16 * (sampling.num_coarse + sampling.num_samples)
    assert search < counts["wall"] < everything


# ---- Geometry ------------------------------------------------------------------------


def moved(scene: AlignedRadianceScene, motion: Tensor) -> AlignedRadianceScene:
    turned = scene.sources.cameras.transform(motion)
    return dataclasses.replace(
        scene, sources=dataclasses.replace(scene.sources, cameras=turned)
    )


def rigid_motion(translation: float) -> Tensor:
    motion = look_at(torch.tensor([1.0, 2.0, 0.5]), torch.zeros(3))
    motion[:3, 3] = translation * torch.tensor([0.3, -0.2, 0.1])
    return motion


@pytest.mark.parametrize("make", SCENES)
@torch.no_grad()
def test_the_orientation_of_the_world_does_not_matter(make) -> None:
    scene, motion = make(), rigid_motion(0.0)
    camera, pixels = cameras(1, 0.4)[None], torch.arange(20)[None, None]
    before = scene.render_pixels(camera, (6, 6), pixels)
    after = moved(scene, motion).render_pixels(camera.transform(motion), (6, 6), pixels)
    torch.testing.assert_close(before.color, after.color, rtol=0, atol=1e-4)


@torch.no_grad()
def test_pixelnerf_sees_points_about_the_worlds_origin() -> None:
    """It drops the translation into the source camera; VisionNeRF does not."""
    motion = rigid_motion(1.0)
    camera, pixels = cameras(1, 0.4)[None], torch.arange(20)[None, None]
    errors = {}
    for make in SCENES:
        scene = make()
        before = scene.render_pixels(camera, (6, 6), pixels)
        after = moved(scene, motion).render_pixels(
            camera.transform(motion), (6, 6), pixels
        )
        errors[make] = (before.color - after.color).abs().max()
    assert errors[pixelnerf_scene] > 1e-2
    assert errors[visionnerf_scene] < 1e-4


@torch.no_grad()
def test_what_the_network_is_told_of_a_point() -> None:
    """Frame, encoding, direction, by hand."""
    points, directions = points_and_directions()
    for make, unit in ((pixelnerf_scene, True), (visionnerf_scene, False)):
        scene = make()
        camera = scene.sources.cameras[:, 0]
        rotation = camera.extrinsics[0, :3, :3]
        place, _ = scene.fine.place(points, directions)
        where = points[0] @ rotation
        if make is visionnerf_scene:
            where = (points[0] - camera.centers[0]) @ rotation
        torch.testing.assert_close(place[0, 0, :, :3], where, rtol=1e-4, atol=1e-5)
        first = 1.5 if unit else torch.pi
        sines = torch.sin(4 * first * where)
        # The third octave's sines, after x and two pairs of sines and cosines.
        torch.testing.assert_close(place[0, 0, :, 15:18], sines, rtol=1e-3, atol=1e-3)
        seen = directions[0] @ rotation
        if unit:
            seen = seen / seen.norm(dim=-1, keepdim=True)
        encoded = 3 * (1 + 2 * scene.reading.octaves)
        found = place[0, 0, :, encoded : encoded + 3]
        torch.testing.assert_close(found, seen, rtol=1e-4, atol=1e-5)


def ramp_scene(reading: AlignedReading, size: int = 8) -> AlignedRadianceScene:
    """A scene whose one feature map holds (column, row) of each of its 4x4 features."""
    scene = pixelnerf_scene(num_views=1)
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    maps = torch.zeros(1, 1, scene.sources.maps.shape[2], 4, 4)
    maps[0, 0, 0], maps[0, 0, 1] = columns, rows
    camera = scene.sources.cameras
    sources = dataclasses.replace(
        scene.sources, maps=maps, images=torch.zeros(1, 1, 3, size, size)
    )
    assert camera.shape == (1, 1)
    return dataclasses.replace(scene, sources=sources, reading=reading)


@torch.no_grad()
def read_feature(scene: AlignedRadianceScene, point: Tensor) -> Tensor:
    """The first two features at a point, by the fast path's interpolation."""
    field = scene.fine
    _, xy = field.place(point.view(1, 1, 3), torch.ones(1, 1, 3))
    corners = field.corners(xy, (4, 4))
    return lookup(scene.sources.maps[0, :, :, None], corners)[0, 0, :2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Pixel 5 of 8 of an image, in a map of 4.
        ({"pixel_grid": "integer"}, 5 * 4 / 8),
        ({"pixel_grid": "centers"}, 5 * 4 / 8),
        ({"pixel_grid": "integer", "map_extent": "corners"}, 5 * 3 / 7),
    ],
)
def test_pixels_in_feature_maps(changes: dict, expected: float) -> None:
    """A pixel's ray finds that pixel's feature: index i of n is i m / n of m."""
    scene = ramp_scene(AlignedReading(**changes))
    camera = scene.sources.cameras
    pixel = torch.tensor([[[3 * 8 + 5]]])
    rays = scene.reading.camera_rays(camera, (8, 8), pixel)
    point = (rays.origins + 2.0 * rays.directions)[0, 0]
    found = read_feature(scene, point)
    torch.testing.assert_close(found[0], torch.tensor(expected), rtol=0, atol=1e-4)


@torch.no_grad()
def test_outside_of_the_source_image() -> None:
    """pixelNeRF reads the border, VisionNeRF nothing; behind the camera likewise."""
    scene = ramp_scene(AlignedReading())
    camera = scene.sources.cameras[0, 0]
    axes = camera.extrinsics[:3, :3]
    right = camera.centers + 5 * axes[:, 0] + axes[:, 2]
    behind = camera.centers - axes[:, 2]
    assert torch.equal(read_feature(scene, right)[0], torch.tensor(3.0))
    assert 0 < read_feature(scene, behind)[0] < 3
    zeros = ramp_scene(AlignedReading(padding="zeros"))
    assert torch.equal(read_feature(zeros, right), torch.zeros(2))
    behind = behind + 0.1 * axes[:, 0]
    assert torch.equal(read_feature(zeros, behind), torch.zeros(2))


def test_rays_of_both_conventions() -> None:
    camera, size = cameras(1)[None], (4, 6)
    pixels = torch.tensor([[[0, 8, 23]]])
    half = AlignedReading().camera_rays(camera, size, pixels)
    xy = pixel_centers(size).reshape(-1, 2)[pixels]
    _, directions = get_rays(camera, xy)
    torch.testing.assert_close(half.directions[:, None], directions)
    # z = 1 in the camera, and so positions are depths.
    forward = camera.extrinsics[0, 0, :3, 2]
    torch.testing.assert_close(half.directions[0] @ forward, torch.ones(3))
    authors = AlignedReading(pixel_grid="integer", measure="distance")
    unit = authors.camera_rays(camera, size, pixels)
    torch.testing.assert_close(unit.directions.norm(dim=-1), torch.ones(1, 3))
    _, directions = get_rays(camera, xy - 0.5 / torch.tensor([6.0, 4.0]))
    torch.testing.assert_close(
        unit.directions / unit.depth_per_position[..., None], directions[:, 0]
    )


@torch.no_grad()
def test_fog_of_known_density() -> None:
    """Constant density: opacity is 1 - exp(-density * length), depth in z."""
    for density_unit in (True, False):
        for measure in ("depth", "distance"):
            scene = pixelnerf_scene(world_density=density_unit, measure=measure)
            for network in (scene.coarse_network, scene.fine_network):
                network.out.weight.zero_()
                network.out.bias.copy_(torch.tensor([50.0, -50.0, -50.0, 0.8]))
            camera = cameras(1, 0.4)[None]
            pixels = torch.tensor([[[0]]])
            r = scene.render_pixels(camera, (2, 2), pixels)
            assert r.depth is not None and r.opacity is not None
            rays = scene.reading.camera_rays(camera, (2, 2), pixels)
            scale = rays.directions.norm() if density_unit else 1.0
            span = camera.far - camera.near
            # Light before the first sample is not accounted for, as in the papers.
            first = 0.5 / scene.sampling.num_coarse
            opacity = 1 - torch.exp(-0.8 * scale * (1 - first) * span)
            torch.testing.assert_close(r.opacity[0, 0], opacity[0], rtol=0.02, atol=0)
            # Red fog before white.
            expected = torch.stack([torch.ones(()), 1 - r.opacity[0, 0, 0]])
            torch.testing.assert_close(r.color[0, 0, 0, :2], expected)
            assert (camera.near < r.depth[0]).all() and (r.depth[0] < camera.far).all()


@torch.no_grad()
def test_evaluate_looks_from_the_first_source_camera() -> None:
    """A ray of that camera is rendered from what `evaluate` says along it."""
    for make in SCENES:
        scene = make(world_density=True)
        camera = scene.sources.cameras[:, :1]
        pixels = torch.tensor([[[50]]])
        rays = scene.reading.camera_rays(camera, (16, 16), pixels)
        positions = torch.linspace(2.0, 4.0, 9)[None, None]
        density, color = scene.evaluate(rays.points(positions))
        directions = rays.directions[:, :, None].expand(1, 1, 9, 3).flatten(1, 2)
        expected = scene.fine.query(rays.points(positions), directions)
        torch.testing.assert_close(density, expected[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(color, expected[1], rtol=1e-3, atol=1e-4)
        per_depth = make(world_density=False).evaluate(rays.points(positions))[0]
        torch.testing.assert_close(
            per_depth * rays.directions.norm(), density, rtol=1e-4, atol=1e-5
        )


# ---- Scenes --------------------------------------------------------------------------


@torch.no_grad()
def test_entries_of_a_batch_do_not_mix() -> None:
    for make in SCENES:
        batch = make(batch=2)
        camera = Cameras.stack([cameras(1, 0.4)] * 2)
        together = batch.render(camera, (6, 6))
        for i in range(2):
            alone = batch[i].render(camera[i], (6, 6))
            torch.testing.assert_close(
                alone.color, together.color[i], rtol=0, atol=1e-5
            )
        assert (together.color[0] - together.color[1]).abs().max() > 1e-3


@torch.no_grad()
def test_samples_are_random_with_a_generator_only() -> None:
    scene, camera = pixelnerf_scene(), cameras(1, 0.4)[None]
    pixels = torch.arange(8)[None, None]

    def render(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return scene.render_pixels(camera, (6, 6), pixels, generator).color

    assert torch.equal(render(None), render(None))
    assert torch.equal(render(1), render(1))
    assert not torch.equal(render(1), render(2))


@pytest.mark.parametrize("make", SCENES)
@torch.no_grad()
def test_a_scene_reloads_and_renders_identically(make, tmp_path: Path) -> None:
    scene = make(batch=2)[1]
    save_scene(scene, tmp_path / "scene.safetensors")
    loaded = load_scene(tmp_path / "scene.safetensors")
    expected, found = (s.render(cameras(2, 0.4), (8, 6)) for s in (scene, loaded))
    assert torch.equal(found.color, expected.color)
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(found.opacity, expected.opacity)


@torch.no_grad()
def test_bounds_hold_the_matter() -> None:
    scene = pixelnerf_scene(num_views=1)[0]
    low, high = scene.bounds()
    assert (low < high).all()
    camera = scene.sources.cameras[0]
    corner = camera.centers + camera.far * camera.extrinsics[:3, 2]
    assert (corner >= low - 4).all() and (corner <= high + 4).all()
