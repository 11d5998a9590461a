"""Motion scenes: what a warp shows, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.motion import MotionScene, warp

SIZE = (8, 12)


def make_scene(layers: int = 3) -> MotionScene:
    generator = torch.Generator().manual_seed(0)
    return MotionScene(
        torch.rand(2, 3, *SIZE, generator=generator),
        0.1 * torch.randn(2, layers, 2, *SIZE, generator=generator),
        torch.randn(2, layers, generator=generator),
    )


def cameras(views: int = 2):
    return sphere_cameras(
        torch.linspace(0, 1, views), torch.full((views,), 0.3), torch.tensor(0.7)
    )


def test_a_flow_of_whole_pixels_is_a_shift() -> None:
    image = make_scene().image
    flow = torch.zeros(2, 2, *SIZE)
    flow[:, 0], flow[:, 1] = 3 / SIZE[1], -2 / SIZE[0]
    moved = warp(image, flow)
    torch.testing.assert_close(
        moved[:, :, 2:, :-3], image[:, :, :-2, 3:], rtol=0, atol=1e-5
    )
    # Beyond the border, the border goes on.
    torch.testing.assert_close(
        moved[:, :, 2:, -1], image[:, :, :-2, -1], rtol=0, atol=1e-5
    )


def test_layers_are_averaged() -> None:
    scene = make_scene(2)
    weights = scene.logits.softmax(dim=1)[..., None, None, None]
    by_hand = sum(
        weights[:, i] * warp(scene.image, scene.flows[:, i]) for i in range(2)
    )
    torch.testing.assert_close(scene.picture(), by_hand)
    torch.testing.assert_close(scene.at(0.0).picture(), scene.image, rtol=0, atol=1e-5)


def test_every_camera_sees_the_same() -> None:
    scene, seen = make_scene(), cameras().expand(2, 2)
    found = scene.render(seen, SIZE)
    assert found.color.shape == (2, 2, 3, *SIZE)
    assert torch.equal(found.color[:, 0], found.color[:, 1])
    assert found.depth is None and found.opacity is None
    pixels = torch.tensor([5, 40]).expand(2, 2, -1)
    some = scene.render_pixels(seen, SIZE, pixels).color
    torch.testing.assert_close(some[1, 0, 1], found.color[1, 0].flatten(1)[:, 40])
    torch.testing.assert_close(
        scene[1].render(cameras(1), SIZE).color[0], found.color[1, 0]
    )
    assert scene.render(seen, (4, 4)).color.shape == (2, 2, 3, 4, 4)


def test_the_mean_flow() -> None:
    scene = make_scene(2)
    sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    flow = MotionScene(scene.image, scene.flows, sure).flow
    torch.testing.assert_close(flow[0], scene.flows[0, 0])
    torch.testing.assert_close(flow[1], scene.flows[1, 1])


def test_files(tmp_path: Path) -> None:
    path, scene = tmp_path / "motion.safetensors", make_scene()[0]
    save_scene(scene, path)
    loaded = load_scene(path)
    assert isinstance(loaded, MotionScene)
    expected = scene.render(cameras(), SIZE).color
    assert torch.equal(loaded.render(cameras(), SIZE).color, expected)
    tensors, metadata = read_tensors(path)
    write_tensors(path, {**tensors, "logits": tensors["logits"][:2]}, metadata)
    with pytest.raises(UserError, match="damaged"):
        load_scene(path)
