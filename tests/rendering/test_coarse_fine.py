"""Samples of pixelNeRF and VisionNeRF: given numbers in, positions out."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.rendering.coarse_fine import (
    CoarseFineSampling,
    SampleNumbers,
    bin_quantiles,
)

BINS = CoarseFineSampling(num_coarse=4, num_fine=2, num_depth=2)
ENDPOINTS = CoarseFineSampling("endpoints", num_coarse=5, num_fine=3, num_depth=0)
NEAR, FAR = torch.tensor([2.0]), torch.tensor([4.0])


def test_bins_by_hand() -> None:
    numbers = SampleNumbers(
        coarse=torch.tensor([[0.0, 0.5, 0.5, 0.999]]),
        fine=torch.tensor([[0.1, 0.9]]),
        inside=torch.tensor([[0.25, 0.75]]),
        depth=torch.tensor([[0.0, 1.0]]),
    )
    first = BINS.coarse_positions(NEAR, FAR, numbers)
    expected = torch.tensor([[2.0, 2.75, 3.25, 3.9995]])
    torch.testing.assert_close(first, expected)
    # All weight is in the third bin, half of the light gets through.
    weights = torch.tensor([[0.0, 0.0, 0.5, 0.0]])
    found = BINS.fine_positions(first, weights, NEAR, FAR, numbers)
    # Fine: 2 + 2 (2 + 0.25) / 4 and 2 + 2 (2 + 0.75) / 4. Around the expected position
    # 0.5 * 3.25, which is not divided by the opacity, and so before `near`.
    expected = torch.tensor([[2.0, 2.0, 2.0, 2.75, 3.125, 3.25, 3.375, 3.9995]])
    torch.testing.assert_close(found, expected)
    edges = BINS.edges(found, FAR)
    assert edges[0, -1] == 4.0 and torch.equal(edges[0, :-1], found[0])


def test_depth_samples_lie_around_the_expected_position() -> None:
    sampling = dataclasses.replace(BINS, num_coarse=64, num_fine=1, num_depth=200)
    numbers = sampling.draw((1,), torch.Generator().manual_seed(0))
    first = sampling.coarse_positions(NEAR, FAR, numbers)
    weights = torch.zeros(1, 64)
    weights[0, 40] = 1.0
    found = sampling.fine_positions(first, weights, NEAR, FAR, numbers)
    near = (found - first[0, 40]).abs() < 0.04
    assert near.sum() >= 200
    deviation = (found[near] - first[0, 40]).std()
    assert abs(deviation - 0.01) < 0.003


def test_endpoints_by_hand() -> None:
    numbers = ENDPOINTS.middle((1,))
    first = ENDPOINTS.coarse_positions(NEAR, FAR, numbers)
    torch.testing.assert_close(first, torch.tensor([[2.0, 2.5, 3.0, 3.5, 4.0]]))
    weights = torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0]])
    found = ENDPOINTS.fine_positions(first, weights, NEAR, FAR, numbers)
    expected = [2.0, 2.25, 2.5, 3.0, 3.0, 3.5, 3.75, 4.0]
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=0, atol=1e-4)
    edges = ENDPOINTS.edges(first, FAR)
    torch.testing.assert_close(edges[0, -1], torch.tensor(4.5))


def test_jitter_stays_between_midpoints() -> None:
    for seed in range(3):
        numbers = ENDPOINTS.draw((1,), torch.Generator().manual_seed(seed))
        found = ENDPOINTS.coarse_positions(NEAR, FAR, numbers)[0]
        low = torch.tensor([2.0, 2.25, 2.75, 3.25, 3.75])
        high = torch.tensor([2.25, 2.75, 3.25, 3.75, 4.0])
        assert (found >= low).all() and (found <= high).all()


@pytest.mark.parametrize("inside", [None, "random"])
def test_bin_quantiles_have_the_weights_distribution(inside: str | None) -> None:
    weights = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    count = 4000
    quantiles = (torch.arange(count)[None] + 0.5) / count
    generator = torch.Generator().manual_seed(0)
    place = None if inside is None else torch.rand(1, count, generator=generator)
    found = bin_quantiles(weights, quantiles, place)
    shares = torch.histc(found, 4, 0, 1) / count
    torch.testing.assert_close(shares, weights[0], rtol=0, atol=0.002)
    # Even inside of a bin.
    third = found[(found > 0.5) & (found < 0.75)]
    assert abs(third.mean() - 0.625) < 0.006
    if inside is None:
        assert (found.diff() >= 0).all()


def test_rays_without_matter_are_sampled_evenly() -> None:
    quantiles = torch.tensor([[0.125, 0.375, 0.625, 0.875]])
    found = bin_quantiles(torch.zeros(1, 8), quantiles, None)
    torch.testing.assert_close(found, quantiles)


def test_deterministic_samples_are_distinct() -> None:
    """The middle of a bin would be the coarse sample once more."""
    sampling = CoarseFineSampling()
    numbers = sampling.middle((1,))
    first = sampling.coarse_positions(NEAR, FAR, numbers)
    weights = torch.zeros(1, 64)
    weights[0, 20:24] = 0.2
    found = sampling.fine_positions(first, weights, NEAR, FAR, numbers)
    assert found.shape == (1, 96)
    assert (found.diff() > 0).all()


def test_settings_that_make_no_samples() -> None:
    with pytest.raises(ValueError, match="a ray needs"):
        CoarseFineSampling(num_coarse=2)
