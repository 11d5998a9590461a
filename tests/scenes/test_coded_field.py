"""Coded fields: fast and plain rendering, editing, conventions, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.coded_objects import NETWORK, circle, coded_scene, lively
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_rays
from unseen.networks.coded_mlp import CodedMLP, FoldedMLP
from unseen.scenes.coded_field import CodedFieldScene
from unseen.scenes.coded_sampling import AUTHORS_SAMPLING, OPEN, CodedSampling
from unseen.scenes.io import KEY, load_scene, save_scene

SIZE = (20, 24)
AUTHORS = dataclasses.replace(AUTHORS_SAMPLING, num_samples=40)


@torch.no_grad()
@pytest.mark.parametrize("sampling", [CodedSampling(num_samples=40), AUTHORS])
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_fast_rendering_equals_its_plain_twin(sampling, seed: int) -> None:
    scene, cameras = coded_scene(1, sampling, seed)[0], circle(2)
    check_fast(scene, cameras, 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("sampling", [CodedSampling(num_samples=40), AUTHORS])
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_empty_space_is_skipped_where_the_field_is_smooth(sampling, seed: int) -> None:
    sampling = dataclasses.replace(sampling, empty_space="search")
    scene, cameras = coded_scene(1, sampling, seed)[0], circle(2)
    cells = scene._occupancy.cells.float().mean()
    assert 0.02 < cells < 0.98  # There is something to skip, and something to see.
    check_fast(scene, cameras, 5e-3)


@torch.no_grad()
def test_fast_rendering_of_thin_structures() -> None:
    """Of 10 octaves, as published: a grid would overlook what is thinner than it."""
    torch.manual_seed(0)
    network = CodedMLP(dataclasses.replace(NETWORK, point_octaves=10)).eval()
    codes = torch.randn(2, 1, NETWORK.code_width)
    lively(network, codes[0])
    sampling = CodedSampling(num_samples=40)
    scene = CodedFieldScene(network, *codes, torch.eye(4)[None], sampling)[0]
    check_fast(scene, circle(2), 1e-3)


def check_fast(scene: CodedFieldScene, cameras: Cameras, atol: float) -> None:
    fast, plain = scene.render(cameras, SIZE), scene.render_plain(cameras, SIZE)
    torch.testing.assert_close(fast.color, plain.color, rtol=0, atol=atol)
    torch.testing.assert_close(fast.depth, plain.depth, rtol=0, atol=2 * atol)
    torch.testing.assert_close(fast.opacity, plain.opacity, rtol=0, atol=atol)
    assert plain.color.std() > 0.05


@torch.no_grad()
def test_samples_outside_of_the_grid_are_evaluated() -> None:
    """A field that has matter beyond the cube that was searched."""
    sampling = CodedSampling(num_samples=40, empty_space="search", margin=0.3)
    scene, cameras = coded_scene(1, sampling)[0], circle(1)
    fast, plain = scene.render(cameras, SIZE), scene.render_plain(cameras, SIZE)
    torch.testing.assert_close(fast.color, plain.color, rtol=0, atol=5e-3)


@torch.no_grad()
def test_most_samples_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = CodedSampling(num_samples=40, empty_space="search")
    scene, cameras = coded_scene(1, sampling)[0], circle(1)
    count = {"density": 0, "color": 0}
    density, color = FoldedMLP.density, FoldedMLP.color
    scene.bounds()  # The search for empty space is not counted.

    def counted_density(self, points):
        count["density"] += len(points)
        return density(self, points)

    def counted_color(self, hidden, view):
        count["color"] += len(hidden)
        return color(self, hidden, view)

    monkeypatch.setattr(FoldedMLP, "density", counted_density)
    monkeypatch.setattr(FoldedMLP, "color", counted_color)
    scene.render(cameras, SIZE)
    total = SIZE[0] * SIZE[1] * 40
    assert 0 < count["color"] < count["density"] < 0.8 * total


@torch.no_grad()
def test_low_precision_is_close() -> None:
    scene, cameras = coded_scene(1)[0], circle(1)
    low = dataclasses.replace(scene.sampling, precision="bf16")
    low = dataclasses.replace(scene, sampling=low)
    exact = scene.render_plain(cameras, SIZE).color
    for found in (low.render(cameras, SIZE), low.render_plain(cameras, SIZE)):
        assert found.color.dtype == torch.float32
        assert not torch.equal(found.color, exact)
        assert (found.color - exact).abs().mean() < 0.03


def test_gradients_do_not_depend_on_pieces(generator: torch.Generator) -> None:
    scene, cameras = coded_scene(2), circle(3).expand(2, 3)
    pixels = torch.randint(480, (2, 3, 30), generator=generator)
    cotangent = torch.randn(2, 3, 30, 3, generator=generator)
    results = []
    for max_points in (2**18, 500):
        sampling = dataclasses.replace(scene.sampling, max_points=max_points)
        codes = [scene.shapes.clone(), scene.textures.clone(), scene.frames.clone()]
        for code in codes:
            code.requires_grad_()
        other = CodedFieldScene(scene.network, *codes, sampling)
        found = other.render_pixels(cameras, SIZE, pixels, generator.manual_seed(1))
        linear = found.extras["linear"]
        results.append([linear, *torch.autograd.grad(linear, codes, cotangent)])
    for first, second in zip(*results, strict=True):
        assert first.abs().max() > 0
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_pixels_by_the_integral(generator: torch.Generator) -> None:
    """A loop over samples, from the network's own densities and colours."""
    scene, cameras = coded_scene(1)[0], circle(1)
    pixels = torch.tensor([[5, 170, 250]])
    origins, directions = pixel_rays(cameras, SIZE, pixels)
    count = scene.sampling.num_samples
    for ray in range(3):
        through, color, depth = 1.0, torch.zeros(3), 0.0
        length = float(directions[0, ray].norm()) * 2.0 / count
        for i in range(count):
            z = 2.0 + 2.0 * (i + 0.5) / count
            point = origins[0, ray] + z * directions[0, ray]
            point = scene.frames[:3, :3] @ point + scene.frames[:3, 3]
            toward = scene.frames[:3, :3] @ directions[0, ray]
            toward = toward / toward.norm()
            density, rgb = scene.network(
                point[None, None],
                toward[None, None],
                scene.shapes[None],
                scene.textures[None],
            )
            alpha = 1 - float(torch.exp(-density * length))
            color += through * alpha * rgb[0, 0]
            depth += through * alpha * z
            through *= 1 - alpha
        found = scene.render_pixels(cameras, SIZE, pixels)
        assert found.depth is not None and found.opacity is not None
        torch.testing.assert_close(
            found.extras["linear"][0, ray], color + through, rtol=1e-3, atol=1e-4
        )
        assert float(found.opacity[0, ray]) == pytest.approx(1 - through, abs=1e-4)
        expected = depth + through * 4.0
        assert float(found.depth[0, ray]) == pytest.approx(expected, abs=1e-3)


def test_authors_conventions() -> None:
    cameras, pixels = circle(1), torch.tensor([[0, 30, 479]])
    positions = AUTHORS.positions(cameras.near, cameras.far)
    assert float(positions[0, 0]) == 2.0 and float(positions[0, -1]) == 4.0
    moved = cameras.intrinsics.clone()
    moved[..., :2, 2] = 0.3
    off = dataclasses.replace(cameras, intrinsics=moved)
    theirs = AUTHORS.samples(off, SIZE, pixels, positions)
    # Integer pixel centres, and a principal point in the middle whatever the file says.
    focal = cameras.intrinsics[0, 0, 0]
    x, y = (30 % 24) / 24, (30 // 24) / 20
    local = torch.stack([(x - 0.5) / focal, (y - 0.5) / focal, torch.tensor(1.0)])
    expected = cameras.extrinsics[0, :3, :3] @ (local / local.norm())
    torch.testing.assert_close(theirs.directions[0, 1], expected)
    # Positions are distances, not depths, and the last interval is endless.
    reached = theirs.points()[0, 1] - cameras.centers[0]
    torch.testing.assert_close(reached.norm(dim=-1), positions[0])
    assert (theirs.lengths[..., -1] == OPEN).all()
    torch.testing.assert_close(theirs.lengths[0, 1, :-1], positions[0].diff())
    ours = CodedSampling(num_samples=40)
    mine = ours.samples(
        cameras, SIZE, pixels, ours.positions(cameras.near, cameras.far)
    )
    depth = (mine.points()[0, 1] - cameras.centers[0]) @ cameras.extrinsics[0, :3, 2]
    assert depth.min() > 2 and depth.max() < 4
    # Ours fill the ray: their lengths sum up to its length between near and far.
    length = mine.lengths.sum(-1) / mine.directions.norm(dim=-1)
    torch.testing.assert_close(length, torch.full((1, 3), 2.0))


@pytest.mark.parametrize("sampling", [CodedSampling(num_samples=40), AUTHORS])
def test_jitter_is_one_vector_per_image(sampling, generator: torch.Generator) -> None:
    near, far = torch.full((2, 3), 2.0), torch.full((2, 3), 4.0)
    found = sampling.positions(near, far, generator)
    assert found.shape == (2, 3, 40)
    assert not torch.equal(found[0, 0], found[0, 1])
    assert (found.diff(dim=-1) > 0).all()
    assert found.min() >= 2 and found.max() <= 4
    assert torch.equal(sampling.positions(near, far), sampling.positions(near, far))


@torch.no_grad()
def test_editing_moves_one_code_only() -> None:
    batch, cameras = coded_scene(2), circle(2)
    first, second = batch[0], batch[1]
    painted = first.edited(texture_of=second)
    before, after = first.render(cameras, SIZE), painted.render(cameras, SIZE)
    torch.testing.assert_close(before.depth, after.depth, rtol=0, atol=2e-3)
    assert (before.color - after.color).abs().max() > 0.05
    reshaped = first.edited(shape_of=second)
    assert torch.equal(reshaped.shapes, second.shapes)
    assert torch.equal(reshaped.textures, first.textures)
    depth = reshaped.render(cameras, SIZE).depth
    assert depth is not None and before.depth is not None
    assert (depth - before.depth).abs().max() > 0.05
    half = first.edited(second, second, amount=0.5)
    torch.testing.assert_close(half.shapes, 0.5 * (first.shapes + second.shapes))
    assert torch.equal(first.edited().shapes, first.shapes)
    swapped = batch.edited(texture_of=batch[1:].edited())
    assert torch.equal(swapped.textures[0], second.textures)


@torch.no_grad()
def test_a_scene_moves_with_its_frame(generator: torch.Generator) -> None:
    scene, cameras = coded_scene(1)[0], circle(2)
    motion = torch.eye(4)
    motion[:3, :3] = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    motion[:3, :3] *= torch.linalg.det(motion[:3, :3])
    motion[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    moved = dataclasses.replace(scene, frames=scene.frames @ torch.linalg.inv(motion))
    found = moved.render_plain(cameras.transform(motion), SIZE).color
    expected = scene.render_plain(cameras, SIZE).color
    assert (found - expected).abs().mean() < 1e-4
    points = torch.randn(50, 3, generator=generator)
    there = points @ motion[:3, :3].T + motion[:3, 3]
    for value, other in zip(scene.evaluate(points), moved.evaluate(there), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-2, atol=1e-2)
    middle = moved.bounds().mean(dim=0) - motion[:3, 3]
    assert middle.norm() < 1


@torch.no_grad()
def test_batches_are_single_scenes() -> None:
    batch, cameras = coded_scene(2), circle(2)
    both = batch.render(cameras.expand(2, 2), SIZE).color
    pixels = torch.arange(0, 480, 37).expand(2, 2, -1)
    several = batch.render_pixels(cameras.expand(2, 2), SIZE, pixels)
    points = torch.rand(2, 7, 3)
    assert several.depth is not None
    density, color = batch.evaluate(points)
    assert color.min() >= 0 and color.max() <= 1
    for i in range(2):
        assert torch.equal(batch[i].render(cameras, SIZE).color, both[i])
        one = batch[i].render_pixels(cameras, SIZE, pixels[i])
        torch.testing.assert_close(one.color, several.color[i], rtol=0, atol=1e-4)
        assert one.depth is not None
        torch.testing.assert_close(one.depth, several.depth[i], rtol=0, atol=1e-3)
        single, _ = batch[i].evaluate(points[i])
        torch.testing.assert_close(single, density[i], rtol=1e-3, atol=1e-4)
    assert batch[0].shape == () and batch.shape == (2,)


@torch.no_grad()
def test_scenes_reload_and_render_identically(tmp_path: Path) -> None:
    scene, cameras = coded_scene(2)[1], circle(1)
    path = tmp_path / "scene.safetensors"
    save_scene(scene, path)
    loaded = load_scene(path)
    expected, found = (s.render(cameras, SIZE) for s in (scene, loaded))
    assert torch.equal(found.color, expected.color)
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(loaded.bounds(), scene.bounds())
    tensors, metadata = read_tensors(path)
    for name in ("shapes", "textures", "network.color.0.weight"):
        damaged = {**tensors, name: torch.zeros(3)}
        write_tensors(path, damaged, {KEY: metadata[KEY]})
        with pytest.raises(UserError, match="damaged"):
            load_scene(path)


def test_meshes_can_be_extracted(tmp_path: Path) -> None:
    from unseen.export.mesh import extract_mesh

    mesh = extract_mesh(coded_scene(1)[0], resolution=24)
    assert len(mesh.faces) > 20
