"""Views to volumes. Parity with HoloDiffusion's code is in tests/parity."""

from __future__ import annotations

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.encoders.unprojection import (
    UnprojectionConfig,
    UnprojectionEncoder,
    voxel_centers,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.networks.resnet34 import ResNetConfig

CONFIG = UnprojectionConfig(
    ResNetConfig(width=8, blocks=(1, 1)), image_size=32, projection=4, width=8
)


@pytest.fixture(scope="module")
def encoder() -> UnprojectionEncoder:
    torch.manual_seed(0)
    return UnprojectionEncoder(CONFIG, 5, 4, 2.0).eval()


@pytest.fixture
def views(generator) -> Views:
    """Three views of each of two scenes, with masks."""
    angles = torch.tensor([0.0, 1.0, 2.5])
    cameras = sphere_cameras(angles, torch.full((3,), 0.4), torch.tensor(0.7))
    images = torch.rand(2, 3, 3, 24, 24, generator=generator)
    masks = torch.zeros(2, 3, 24, 24)
    masks[..., 6:18, 6:18] = 1
    return Views(images, Cameras.stack([cameras, cameras]), masks)


def test_voxel_centers() -> None:
    points = voxel_centers(4, 2.0).reshape(4, 4, 4, 3)
    # Axes are z, y, x; coordinates x, y, z.
    assert torch.allclose(points[0, 0, 3], torch.tensor([0.75, -0.75, -0.75]))
    assert torch.allclose(points[3, 1, 0], torch.tensor([-0.75, -0.25, 0.75]))


@torch.no_grad()
def test_views_have_no_order_and_scenes_do_not_mix(encoder, views: Views) -> None:
    volume = encoder(views)
    assert volume.shape == (2, 5, 4, 4, 4) and volume.abs().max() < 1
    turned = encoder(views[:, [2, 0, 1]])
    torch.testing.assert_close(turned, volume, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder(views[1:]), volume[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(volume[0], volume[1], atol=1e-3)
    # A view more is heard.
    assert not torch.allclose(encoder(views[:, :2]), volume, atol=1e-3)


@torch.no_grad()
def test_backgrounds_are_not_seen(encoder, views: Views, generator) -> None:
    assert views.masks is not None
    other = torch.rand(views.images.shape, generator=generator)
    kept = views.masks[:, :, None]
    changed = views.images * kept + other * (1 - kept)
    found = encoder(Views(changed, views.cameras, views.masks))
    torch.testing.assert_close(found, encoder(views))
    # Without masks, the background's colour tells.
    white = views.images * kept + (1 - kept)
    torch.testing.assert_close(encoder(Views(white, views.cameras)), encoder(views))


@torch.no_grad()
def test_points_find_what_lies_where_they_project(encoder, views: Views) -> None:
    """One map that holds its own x coordinate: the value is the projected x."""
    cameras, size = views.cameras[:1, :1], 40
    x = ((torch.arange(size) + 0.5) / size).expand(1, 1, size, size)
    point = torch.tensor([[0.0, 0.2, 0.3], [0.0, 50.0, 0.0]])
    torch.manual_seed(0)
    probe = UnprojectionEncoder(CONFIG, 5, 4, 2.0)
    # Reads its first input alone; softmax over one view is one.
    for layer in (probe.from_view, probe.from_mean, probe.hidden, probe.pooled):
        torch.nn.init.zeros_(layer.weight)
    probe.from_view.weight[0, 0] = 1.0
    probe.hidden.weight[0, 0] = probe.pooled.weight[0, 0] = 1.0
    maps = [x, *[torch.zeros(1, 1, 2, 2)] * (CONFIG.sampled - 22)]
    found = probe.pool(maps, cameras, point)[0, :, 0]
    # The camera at azimuth 0 looks along -x: y is to its right.
    camera = cameras[0, 0]
    local = camera.extrinsics[:3, :3].T @ (point[0] - camera.centers)
    expected = camera.intrinsics[0, 0] * local[0] / local[2] + 0.5
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)
    assert expected > 0.5 and found[1] == 0  # outside of the image
