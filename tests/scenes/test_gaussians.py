"""Scenes of Gaussians: batches, files, pixels, boxes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.gaussian_scenes import random_gaussians
from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.files import read_tensors, write_tensors
from unseen.scenes.gaussians import harmonics_of_colors
from unseen.scenes.io import KEY, load_scene, save_scene

CAMERAS = sphere_cameras(
    torch.tensor([0.0, 2.0]), torch.full((2,), 0.3), torch.tensor(0.7)
)


@pytest.mark.parametrize("degree", [0, 2])
def test_a_scene_reloads_and_renders_identically(tmp_path: Path, degree: int):
    scene = random_gaussians(degree=degree)
    save_scene(scene, tmp_path / "scene.safetensors")
    loaded = load_scene(tmp_path / "scene.safetensors")
    first, second = (s.render(CAMERAS, (20, 24)) for s in (scene, loaded))
    assert torch.equal(first.color, second.color)
    assert torch.equal(first.depth, second.depth)
    assert loaded.degree == degree and loaded.count == 30


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"means": torch.zeros(30, 2)}, "means has shape"),
        ({"rotations": torch.zeros(29, 4)}, "rotations has shape"),
        ({"harmonics": torch.zeros(30, 5, 3)}, "belong to no degree"),
        ({"background": torch.zeros(4)}, "background has shape"),
        ({"low_pass": "mip"}, "no filter 'mip'"),
        ({"rotation_order": "xyzw"}, "not wxyz"),
    ],
)
def test_misshapen_files_are_refused(tmp_path: Path, changes: dict, reason: str):
    path = tmp_path / "scene.safetensors"
    save_scene(random_gaussians(), path)
    tensors, metadata = read_tensors(path)
    header = json.loads(metadata[KEY])
    for name, value in changes.items():
        if isinstance(value, str):
            header["config"][name] = value
        else:
            tensors[name] = value
    write_tensors(path, tensors, {KEY: json.dumps(header)})
    with pytest.raises(UserError, match=reason):
        load_scene(path)


def test_batches_render_as_their_scenes():
    batch = random_gaussians(batch=(2,))
    found = batch.render(CAMERAS.expand(2, 2), (12, 10))
    assert batch.shape == (2,) and found.color.shape == (2, 2, 3, 12, 10)
    for index in range(2):
        alone = batch[index].render(CAMERAS, (12, 10))
        assert torch.equal(found.color[index], alone.color)
    low, high = batch.bounds()
    for index in range(2):
        inner = batch[index].bounds()
        assert (low <= inner[0]).all() and (inner[1] <= high).all()


def test_chosen_pixels_are_those_of_the_image():
    scene = random_gaussians()
    image = scene.render(CAMERAS, (9, 11))
    assert image.opacity is not None and image.depth is not None
    pixels = torch.tensor([[0, 50, 98], [13, 47, 7]])
    found = scene.render_pixels(CAMERAS, (9, 11), pixels)
    assert found.opacity is not None and found.depth is not None
    for view in range(2):
        index = pixels[view]
        expected = image.color[view].flatten(1)[:, index].T
        assert torch.equal(found.color[view], expected)
        assert torch.equal(found.depth[view], image.depth[view].flatten()[index])
        assert torch.equal(found.opacity[view], image.opacity[view].flatten()[index])


def test_the_box_holds_what_is_seen():
    scene = random_gaussians(200)
    low, high = scene.bounds()
    cameras = sphere_cameras(
        torch.linspace(0, 5, 4), torch.full((4,), 0.2), torch.tensor(0.7), radius=3.0
    )
    seen = scene.render(cameras, (32, 32)).opacity
    clipped = scene.select(
        ((scene.means > low) & (scene.means < high)).all(dim=-1)
    ).render(cameras, (32, 32))
    assert clipped.opacity is not None and torch.equal(seen, clipped.opacity)
    # A Gaussian that nobody sees does not widen it.
    far = random_gaussians(1)
    hidden = far._map(lambda x: x * 0)
    logits = torch.tensor([-9.0])
    hidden = dataclasses.replace(hidden, means=torch.full((1, 3), 50.0))
    hidden = dataclasses.replace(hidden, opacity_logits=logits)
    assert not hidden.bounds().any()


def test_colors_become_harmonics_and_back():
    colors = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    harmonics = harmonics_of_colors(colors, 3)
    assert harmonics.shape == (5, 16, 3) and not harmonics[:, 1:].any()
    scene = random_gaussians(5, 3)
    scene = dataclasses.replace(scene, harmonics=harmonics)
    torch.testing.assert_close(scene.base_colors, colors)
