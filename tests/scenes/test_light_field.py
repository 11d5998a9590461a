"""Light field scenes: rendering, depth, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.geometry.boxes import object_box
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import get_rays, pixel_centers, plucker
from unseen.networks.predicted_mlp import PredictedMLP
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.light_field import LightFieldScene

SIZE = (6, 8)
SIZES = (6, 16, 16, 3)


def make_cameras(views: int = 2) -> Cameras:
    azimuths = torch.linspace(0.3, 1.5, views)
    return sphere_cameras(azimuths, torch.full((views,), 0.3), torch.tensor(0.7))


def make_scene(batch: int = 2, **settings) -> LightFieldScene:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    pairs = list(zip(SIZES[1:], SIZES[:-1], strict=True))
    field = PredictedMLP(
        tuple(0.3 * draw(batch, n, m) for n, m in pairs),
        tuple(0.1 * draw(batch, n) for n, _ in pairs),
        plain_last=True,
    )
    box = object_box(make_cameras(batch))
    return LightFieldScene(field, box, **settings)


def test_pixels_follow_their_convention() -> None:
    """Our rays go through the middle of pixels, the authors' through a corner."""
    cameras, scene = make_cameras(), make_scene()[0]
    height, width = SIZE
    corners = torch.stack(
        torch.meshgrid(
            torch.arange(width) / width, torch.arange(height) / height, indexing="xy"
        ),
        dim=-1,
    )
    for name, xy in (("centers", pixel_centers(SIZE)), ("integer", corners)):
        rays = get_rays(cameras, xy.reshape(-1, 2).expand(2, -1, -1))
        expected = 0.5 * (scene.field(plucker(*rays).flatten(0, 1)) + 1)
        named = dataclasses.replace(scene, pixel_grid=name)
        found = named.render(cameras, SIZE)
        assert found.opacity is None and found.depth is None
        torch.testing.assert_close(
            found.color.flatten(-2).movedim(1, 2).reshape(-1, 3),
            expected.clamp(0, 1),
            atol=1e-5,
            rtol=0,
        )


def test_the_length_of_rays_does_not_matter() -> None:
    """Directions become unit vectors; the network is not shown z = 1 ones."""
    scene, cameras = make_scene()[0], make_cameras()
    origins, directions = get_rays(cameras, torch.tensor([[[0.1, 0.2]]] * 2))
    assert (directions.norm(dim=-1) > 1.01).all()
    seen = plucker(origins, directions)
    torch.testing.assert_close(seen[..., :3].norm(dim=-1), torch.ones(2, 1))
    torch.testing.assert_close(seen, plucker(origins + directions, 5 * directions))
    pixels = torch.tensor([[0], [0]])
    one = scene.render_pixels(cameras, (1, 1), pixels).color
    middle = get_rays(cameras, torch.full((2, 1, 2), 0.5))
    expected = 0.5 * (scene.field(plucker(*middle).flatten(0, 1)) + 1)
    torch.testing.assert_close(one.flatten(0, 1), expected)


def test_rendering_equals_pixels_and_batches() -> None:
    scene = make_scene()
    cameras = Cameras.stack([make_cameras()] * 2)
    frames = scene.render(cameras, SIZE).color
    pixels = torch.arange(48).expand(2, 2, -1)
    color = scene.render_pixels(cameras, SIZE, pixels).color
    torch.testing.assert_close(
        frames.flatten(-2).movedim(-1, -2), color.clamp(0, 1), atol=1e-5, rtol=0
    )
    alone = scene[1].render(cameras[1], SIZE).color
    torch.testing.assert_close(alone, frames[1])
    rough = dataclasses.replace(scene, precision="bf16").render(cameras, SIZE).color
    assert not torch.equal(rough, frames)
    assert (rough - frames).square().mean() < 10**-4.5, "less than 45 dB"
    frames = scene.render(cameras, (32, 32)).color
    sparse = dataclasses.replace(scene, flat=0.1).render(cameras, (32, 32)).color
    assert not torch.equal(sparse, frames)
    torch.testing.assert_close(sparse, frames, atol=0.1, rtol=0)


def test_frames_are_differentiable_where_the_weights_are() -> None:
    scene = make_scene(1)
    scene.field.biases[-1].requires_grad_()
    scene.render(make_cameras()[None], SIZE).color.sum().backward()
    grad = scene.field.biases[-1].grad
    assert grad is not None and grad.abs().sum() > 0


def test_depth_equals_its_slow_twin() -> None:
    """Derivatives by autograd, ray by ray, and least squares by a solver."""
    scene, cameras = make_scene()[0], make_cameras(1)
    near, far = float(cameras.near), float(cameras.far)
    found = scene.depth_map(cameras, SIZE).flatten()
    origins, directions = get_rays(cameras, pixel_centers(SIZE).reshape(1, -1, 2))
    for i, direction in enumerate(directions[0]):
        unit = functional.normalize(direction, dim=-1)
        sides = torch.linalg.svd(unit[None])[2][1:]

        def color(o: Tensor, d: Tensor) -> Tensor:
            return scene.field(plucker(o, d)[None])[0]

        by_origin, by_direction = torch.autograd.functional.jacobian(
            color, (origins[0, i], unit)
        )
        a = (by_origin @ sides.T).reshape(-1, 1)
        b = (by_direction @ sides.T).reshape(-1, 1)
        distance = torch.linalg.lstsq(a, b).solution.item()
        depth = min(max(distance / float(direction.norm()), near), far)
        # Where colours hardly change, ours is drawn to far.
        if a.norm() > 0.1:
            assert abs(float(found[i]) - depth) < 1e-3 * far
    assert scene.render(cameras, SIZE).depth is None
    asked = dataclasses.replace(scene, with_depth=True).render(cameras, SIZE).depth
    assert asked is not None and torch.equal(asked.flatten(), found)


def plane_colors(coordinates: Tensor) -> Tensor:
    """A matt plane z = 0 with a texture; colours in [-1, 1]."""
    d, m = coordinates.split(3, dim=-1)
    nearest = torch.linalg.cross(d, m)
    x, y, _ = (nearest - nearest[..., 2:] / d[..., 2:] * d).unbind(-1)
    return torch.stack([torch.sin(3 * x), torch.cos(3 * y), torch.sin(2 * x + y)], -1)


def test_depth_of_a_learned_textured_plane() -> None:
    """A small network that has learned a plane knows where it is."""
    torch.manual_seed(0)
    widths = list(zip((64, 64, 3), (6, 64, 64), strict=True))
    weights = [torch.randn(1, n, m).mul_(m**-0.5).requires_grad_() for n, m in widths]
    biases = [torch.zeros(1, n).requires_grad_() for n, _ in widths]
    box = torch.tensor([[[-1.0, -1, -1], [1, 1, 1]]])
    scene = LightFieldScene(PredictedMLP(tuple(weights), tuple(biases), True), box)
    optimizer = torch.optim.Adam([*weights, *biases], lr=1e-2)
    steps = 250
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        centers = 0.6 * torch.randn(1, 1024, 3) + torch.tensor([0, 0, 3.0])
        points = 2 * torch.rand(1, 1024, 3) - 1
        points[..., 2] = 0
        seen = plucker(centers, points - centers)
        error = (scene.field(seen) - plane_colors(seen)).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()

    camera = sphere_cameras(torch.zeros(1), torch.tensor([1.5]), torch.tensor(0.5))
    origins, directions = get_rays(camera, pixel_centers((16, 16)).reshape(1, -1, 2))
    truth = -origins[..., 2] / directions[..., 2]
    depth = scene[0].depth_map(camera, (16, 16)).flatten(1)
    wrong = (depth - truth).abs() / truth
    assert wrong.median() < 0.05, f"median error {wrong.median():.3f}"


def test_scenes_reload_and_render_identically(tmp_path: Path) -> None:
    path = tmp_path / "scene.safetensors"
    scene = make_scene(
        precision="bf16", with_depth=True, pixel_grid="integer", flat=0.1
    )[1]
    save_scene(scene, path)
    loaded, cameras = load_scene(path), make_cameras()
    expected, found = (s.render(cameras, SIZE) for s in (scene, loaded))
    assert torch.equal(found.color, expected.color)
    assert expected.depth is not None and found.depth is not None
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(loaded.bounds(), scene.bounds())

    tensors, metadata = read_tensors(path)
    for name, value in (("weight.1", torch.ones(3, 3)), ("bias.0", None)):
        changed = {k: v for k, v in {**tensors, name: value}.items() if v is not None}
        write_tensors(tmp_path / "damaged", changed, metadata)
        with pytest.raises(UserError, match="damaged"):
            load_scene(tmp_path / "damaged")


def test_the_box_holds_what_the_depth_range_does() -> None:
    """Object cameras look at the unit sphere: the box is that of the sphere."""
    torch.testing.assert_close(
        make_scene().bounds(),
        torch.tensor([[-1.0, -1, -1], [1, 1, 1]]),
        atol=1e-5,
        rtol=0,
    )


def test_a_frame_of_its_own(tmp_path: Path) -> None:
    """Moving the world and the frame against each other changes nothing."""
    cameras = make_cameras(2).expand(2, 2)
    motion = torch.eye(4).repeat(2, 1, 1)
    motion[:, :2, :2] = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    motion[0, :3, 3] = torch.tensor([0.3, -0.2, 0.5])
    plain = make_scene()
    framed = make_scene(frame=torch.linalg.inv(motion))
    seen = cameras.transform(motion[:, None])
    expected = plain.render(cameras, SIZE).color
    found = framed.render(seen, SIZE).color
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    pixels = torch.arange(5).expand(2, 2, -1)
    some = framed.render_pixels(seen, SIZE, pixels).color.clamp(0, 1)
    some = some.transpose(-1, -2)
    torch.testing.assert_close(some, expected.flatten(-2)[..., :5], rtol=0, atol=1e-4)
    save_scene(framed[0], tmp_path / "a.safetensors")
    again = load_scene(tmp_path / "a.safetensors").render(seen[0], SIZE).color
    torch.testing.assert_close(again, found[0])
    deep = dataclasses.replace(framed, with_depth=True).render(seen, SIZE).depth
    other = dataclasses.replace(plain, with_depth=True).render(cameras, SIZE).depth
    assert deep is not None and other is not None
    assert (deep - other).abs().median() < 1e-3
