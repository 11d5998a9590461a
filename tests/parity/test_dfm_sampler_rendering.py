"""Rays, samples and integrals of the published DFM (tests/fixtures/dfm_sampler)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, load_arrays, load_meta
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_points
from unseen.rendering.compositing import composite, composite_weights
from unseen.rendering.endpoint_sampling import endpoint_edges, endpoint_importance
from unseen.scenes.ray_sampling import RaySampling


@pytest.fixture(scope="module")
def case() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    folder = fixture_folder("dfm_sampler")
    inputs = load_arrays(folder / "inputs.npz")
    outputs = load_arrays(folder / "outputs.npz")
    return inputs, outputs, load_meta(folder)["tolerance"]["suggested_atol"]


def check(case, name: str, value: Tensor) -> None:
    torch.testing.assert_close(value, case[1][name], rtol=0, atol=case[2][name])


def test_importance_samples(case) -> None:
    positions, weights = case[0]["pdf_z"][0, ..., 0], case[0]["pdf_weights"][0, ..., 0]
    check(case, "pdf_deterministic", endpoint_importance(positions, weights, 64))


def test_random_importance_samples_follow_the_weights(
    generator: torch.Generator,
) -> None:
    positions = torch.linspace(0, 7, 8)
    weights = torch.tensor([9.0, 0.0, 3.0, 0.0, 0.0, 1.0, 0.0, 9.0])
    found = endpoint_importance(positions, weights, 4000, generator)
    first = ((found > 1.5) & (found < 2.5)).float().mean()
    second = ((found > 4.5) & (found < 5.5)).float().mean()
    assert first.item() == pytest.approx(0.75, abs=0.03)
    assert second.item() == pytest.approx(0.25, abs=0.03)


def test_integral(case) -> None:
    inputs = case[0]
    positions = inputs["pdf_z"][..., 0]
    intervals = endpoint_edges(positions).diff(dim=-1)
    weights = composite_weights(inputs["sigma"][..., 0], intervals)
    check(case, "integral_weights", weights)
    check(case, "integral_rgb", composite(weights, inputs["feats"]))
    depth = (weights * positions).sum(dim=-1, keepdim=True)
    check(case, "integral_depth", depth)


def test_pixel_grid_and_rays(case) -> None:
    inputs, size, pixels = case[0], (16, 16), torch.arange(256)
    check(case, "pixel_grid", image_points(size, pixels, "corners"))
    cameras = Cameras(
        inputs["c2w"][:, None],
        inputs["K"][:, None],
        torch.full((1, 1), 0.7),
        torch.full((1, 1), 10.0),
    )
    sampling = RaySampling(pixel_grid="corners", measure="distance")
    rays = sampling.camera_rays(cameras, size, pixels[None, None])
    check(case, "ray_origin", rays.origins[0, :1])
    check(case, "ray_dirs", rays.directions[0])
