"""Ray-marched scenes: where rays start, what renderings hold, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.geometry.boxes import object_box
from unseen.geometry.cameras import Cameras
from unseen.networks.predicted_mlp import PredictedMLP
from unseen.networks.ray_marcher import RayMarcher, RayMarcherConfig
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.ray_marched import Marching, RayMarchedScene

SIZE = (6, 8)
PIXELS = torch.arange(48).expand(2, 2, -1)


def make_cameras() -> Cameras:
    return sphere_cameras(
        torch.tensor([0.3, 1.5]), torch.full((2,), 0.3), torch.tensor(0.7)
    )


def make_scene(marching: Marching | None = None) -> RayMarchedScene:
    """A batch of two."""
    torch.manual_seed(0)
    pairs = [(8, 3), (8, 8)]
    field = PredictedMLP(
        tuple(torch.randn(2, n, m) for n, m in pairs),
        tuple(torch.randn(2, n) for n, _ in pairs),
        plain_last=False,
    )
    config = RayMarcherConfig(features=8, memory=4, num_steps=3, color_layers=1)
    marcher = RayMarcher(config).requires_grad_(False)
    box = object_box(make_cameras())
    return RayMarchedScene(field, marcher, box, marching or Marching())


def batch_cameras() -> Cameras:
    return Cameras.stack([make_cameras()] * 2)


def test_rendering_equals_pixels_and_batches() -> None:
    scene, cameras = make_scene(), batch_cameras()
    frames = scene.render(cameras, SIZE)
    found = scene.render_pixels(cameras, SIZE, PIXELS)
    assert frames.opacity is None and found.opacity is None
    assert frames.depth is not None and found.depth is not None
    color = found.color.clamp(0, 1)
    torch.testing.assert_close(frames.color.flatten(-2).movedim(-1, -2), color)
    torch.testing.assert_close(frames.depth.flatten(-2), found.depth)
    alone = scene[1].render(cameras[1], SIZE)
    torch.testing.assert_close(alone.color, frames.color[1])
    assert (found.color < 0).any() or (found.color > 1).any(), "training is clamped"


def test_rays_start_where_they_should() -> None:
    near = torch.full((2, 5), 1.5)
    generator = torch.Generator().manual_seed(0)
    ours = make_scene()
    torch.testing.assert_close(
        ours.start_depths(near, None), torch.full((2, 5), 0.05), atol=0, rtol=0
    )
    at_near = make_scene(Marching(start_depth=None))
    assert torch.equal(at_near.start_depths(near, None), near)
    # The authors draw the start anew, also when they evaluate.
    wide = torch.zeros(4, 4000)
    for scene in (make_scene(Marching(start="random")), ours):
        drawn = scene.start_depths(wide, generator)
        assert drawn.mean().item() == pytest.approx(0.05, abs=2e-5)
        assert drawn.std().item() == pytest.approx(5e-4, rel=0.05)
    random = make_scene(Marching(start="random")).start_depths(wide, None)
    assert random.std().item() == pytest.approx(5e-4, rel=0.05)


@pytest.mark.parametrize("start", ["fixed", "random"])
def test_a_rendering_repeats(start) -> None:
    scene, cameras = make_scene(Marching(start=start)), batch_cameras()
    first, again = scene.render(cameras, SIZE), scene.render(cameras, SIZE)
    assert torch.equal(first.color, again.color)
    other = make_scene(Marching(start="fixed")).render(cameras, SIZE)
    assert torch.equal(first.color, other.color) == (start == "fixed")


def test_training_starts_at_random_depths() -> None:
    scene, cameras = make_scene(), batch_cameras()

    def render(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return scene.render_pixels(cameras, SIZE, PIXELS, generator).color

    assert torch.equal(render(1), render(1))
    assert not torch.equal(render(1), render(2))


def test_pixels_follow_their_convention() -> None:
    """Integer centres of a picture are half centres of one that is shifted by half."""
    ours, cameras = make_scene(), batch_cameras()
    theirs = make_scene(Marching(pixel_grid="integer"))
    shift = torch.zeros(3, 3)
    shift[0, 2], shift[1, 2] = 0.5 / SIZE[1], 0.5 / SIZE[0]
    moved = dataclasses.replace(cameras, intrinsics=cameras.intrinsics + shift)
    torch.testing.assert_close(
        theirs.render(cameras, SIZE).color,
        ours.render(moved, SIZE).color,
        atol=1e-4,
        rtol=0,
    )


def test_scenes_reload_and_render_identically(tmp_path: Path) -> None:
    path = tmp_path / "scene.safetensors"
    scene = make_scene(Marching(start_depth=None, start="random"))[1]
    save_scene(scene, path)
    loaded, cameras = load_scene(path), make_cameras()
    expected, found = (s.render(cameras, SIZE) for s in (scene, loaded))
    assert torch.equal(found.color, expected.color)
    assert expected.depth is not None and found.depth is not None
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(loaded.bounds(), scene.bounds())

    tensors, metadata = read_tensors(path)
    for name in ("marcher.step.weight", "bias.1", "box"):
        rest = {k: v for k, v in tensors.items() if k != name}
        write_tensors(tmp_path / "damaged", rest, metadata)
        with pytest.raises(UserError, match="damaged"):
            load_scene(tmp_path / "damaged")


def test_a_detached_scene_does_not_follow_its_model() -> None:
    scene, cameras = make_scene(), batch_cameras()
    kept = scene.detach()
    before = kept.render(cameras, SIZE).color
    scene.marcher.step.bias.data += 1
    assert torch.equal(kept.render(cameras, SIZE).color, before)
    assert not torch.equal(scene.render(cameras, SIZE).color, before)
