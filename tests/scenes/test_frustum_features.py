"""Images of features against closed forms and a slow twin."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unseen.data.cameras import object_cameras
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import project
from unseen.geometry.rays import get_rays, image_points
from unseen.networks.feature_mlp import FeatureMLP, FeatureMLPConfig
from unseen.scenes.frustum_features import (
    ENDLESS,
    PORT_RENDERING,
    FeatureRendering,
    FrustumFeatures,
)

SIZE = (8, 8)


def random_features(
    settings: FeatureRendering, field: FeatureMLPConfig | None = None
) -> tuple[FrustumFeatures, Cameras]:
    """Two scenes of three known views each, and two new cameras for each."""
    generator = torch.Generator().manual_seed(0)
    cameras = Cameras.stack([object_cameras(5, generator) for _ in range(2)])
    torch.manual_seed(0)
    mlp = FeatureMLP(field or FeatureMLPConfig(width=8), 4)
    volumes = torch.randn(2, 3, 8, 8, 5, 4, generator=generator)
    return FrustumFeatures(volumes, cameras[:, :3], mlp, settings), cameras[:, 3:]


def slow(features: FrustumFeatures, cameras: Cameras) -> Tensor:
    """The coarse image, ray by ray and sample by sample, from the equations."""
    s, count = features.settings, features.settings.num_samples
    side = SIZE[0] // s.stride
    image = torch.zeros(*cameras.shape, 4, side, side)
    for scene in range(cameras.shape[0]):
        for view in range(cameras.shape[1]):
            camera = cameras[scene, view]
            for pixel in range(side * side):
                xy = image_points((side, side), torch.tensor([pixel]), s.pixel_grid)
                origin, direction = (x[0] for x in get_rays(camera, xy))
                near, far = float(camera.near), float(camera.far)
                clear, total = 1.0, torch.zeros(4)
                for i in range(count):
                    if s.samples == "bins":
                        length = (far - near) / count
                        depth = near + (i + 0.5) * length
                    else:
                        length = (far - near) / (count - 1)
                        depth = near + i * length
                        length = ENDLESS if i == count - 1 else length
                    if s.length == "distance":
                        length *= float(direction.norm())
                    else:
                        length /= 2 * float(camera.intrinsics[0, 0])
                    density, value = look(features, scene, origin + depth * direction)
                    kept = math.exp(-float(density) * length)
                    share = clear * (1 - kept) * (kept if s.inclusive else 1)
                    total = total + share * value
                    clear *= kept
                image[scene, view, :, pixel // side, pixel % side] = total
    return image


def look(features: FrustumFeatures, scene: int, point: Tensor) -> tuple[Tensor, Tensor]:
    """Density and features of one point, through `grid_sample`."""
    found = []
    for view in range(features.cameras.shape[1]):
        camera = features.cameras[scene, view]
        xy, depth = project(camera, point[None])
        z = (depth - camera.near) / (camera.far - camera.near)
        place = torch.stack([xy[0, 0], xy[0, 1], z[0]]) * 2 - 1
        volume = features.volumes[scene, view].permute(3, 2, 0, 1)[None]
        value = functional.grid_sample(
            volume, place.reshape(1, 1, 1, 1, 3), align_corners=False
        )
        found.append(value.flatten())
    if features.settings.pool == "features":
        return features.network(torch.stack(found).mean(dim=0))
    each = [features.network(value) for value in found]
    return (
        torch.stack([density for density, _ in each]).mean(),
        torch.stack([value for _, value in each]).mean(dim=0),
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        FeatureRendering(num_samples=5, stride=2),
        FeatureRendering(num_samples=5, stride=4, pool="predictions"),
        dataclasses.replace(PORT_RENDERING, num_samples=5, stride=2),
    ],
    ids=["paper", "predictions", "port"],
)
def test_against_the_equations(settings: FeatureRendering) -> None:
    features, cameras = random_features(settings)
    expected = functional.interpolate(
        slow(features, cameras).flatten(0, 1),
        SIZE,
        mode="bilinear",
        align_corners=settings.pixel_grid == "corners",
    )
    found = features.render(cameras, SIZE)
    assert found.shape == (2, 2, 4, *SIZE)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_fog_of_one_feature() -> None:
    """Where every volume says the same and every view sees it: 1 - exp(-sigma l)."""
    features, _ = random_features(FeatureRendering(num_samples=16, stride=1))
    camera = features.cameras[:, :1]
    volumes = torch.ones(2, 1, *SIZE, 100, 4)
    layer = features.network.layers
    for part in layer:
        part.weight.zero_()  # type: ignore[union-attr,operator]
        part.bias.zero_()  # type: ignore[union-attr,operator]
    features = dataclasses.replace(features, volumes=volumes, cameras=camera)
    found = features.render(camera, SIZE)[:, 0]
    # Rays of the known camera itself stay in its frustum; softplus(0) = ln 2.
    xy = image_points(SIZE, torch.arange(64))
    length = (camera.far - camera.near) * get_rays(camera, xy.expand(2, 1, -1, -1))[
        1
    ].norm(dim=-1)[:, 0]
    expected = (1 - torch.exp(-math.log(2) * length)).unflatten(-1, SIZE)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[:, 0][inner], expected[inner], rtol=0.01, atol=0)


def test_jitter_moves_samples_and_gradients_reach_all() -> None:
    features, cameras = random_features(FeatureRendering(num_samples=6))
    features.volumes.requires_grad_()
    plain = features.render(cameras, SIZE)
    first = features.render(cameras, SIZE, torch.Generator().manual_seed(1))
    again = features.render(cameras, SIZE, torch.Generator().manual_seed(1))
    assert torch.equal(first, again) and not torch.allclose(first, plain, atol=1e-3)
    first.square().sum().backward()
    assert features.volumes.grad is not None
    assert (features.volumes.grad.flatten(2).abs().amax(dim=2) > 0).all()
    for parameter in features.network.parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0


def test_the_order_of_known_views_does_not_matter() -> None:
    features, cameras = random_features(FeatureRendering(num_samples=4))
    order = torch.tensor([2, 0, 1])
    other = dataclasses.replace(
        features, volumes=features.volumes[:, order], cameras=features.cameras[:, order]
    )
    torch.testing.assert_close(
        other.render(cameras, SIZE), features.render(cameras, SIZE)
    )


@pytest.mark.parametrize(
    "config",
    [
        FeatureMLPConfig(width=8),
        FeatureMLPConfig(8, 1, "softplus", "softplus", "sigmoid"),
        FeatureMLPConfig(8, 2, "relu", "relu"),
    ],
)
def test_what_the_network_makes(config: FeatureMLPConfig) -> None:
    torch.manual_seed(0)
    network = FeatureMLP(config, 4)
    x = torch.randn(50, 4)
    density, values = network(x)
    assert density.shape == (50,) and values.shape == (50, 4)
    assert float(density.min()) >= 0 and len(network.layers) == config.hidden + 1
    if config.values == "sigmoid":
        assert float(values.min()) > 0 and float(values.max()) < 1
    else:
        rest = network.layers[-1]
        torch.nn.init.zeros_(rest.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(rest.bias)  # type: ignore[arg-type]
        assert torch.equal(network(x)[1], x)
