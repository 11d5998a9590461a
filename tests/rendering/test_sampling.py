"""Samples along rays: bins, intervals, inverse transform sampling."""

import torch

from unseen.rendering.sampling import (
    edges_between,
    merge_samples,
    sample_importance,
    sample_uniform,
)

NEAR, FAR = torch.tensor([1.0, 0.5]), torch.tensor([3.0, 0.75])


def importance_loop(
    edges: torch.Tensor, weights: torch.Tensor, u: torch.Tensor
) -> torch.Tensor:
    """The slow twin of `sample_importance` for one ray: walk the bins."""
    samples = []
    for target in (u * weights.sum()).tolist():
        k = 0
        while k < len(weights) - 1 and target >= weights[k]:
            target -= float(weights[k])
            k += 1
        samples.append(edges[k] + target / weights[k] * (edges[k + 1] - edges[k]))
    return torch.stack(samples)


def test_midpoints_without_a_generator():
    positions, intervals = sample_uniform(NEAR, FAR, 4)
    torch.testing.assert_close(positions[0], torch.tensor([1.25, 1.75, 2.25, 2.75]))
    torch.testing.assert_close(intervals, ((FAR - NEAR) / 4)[:, None].expand(2, 4))


def test_jitter_stays_in_its_bin_and_intervals_partition_the_range():
    generator = torch.Generator().manual_seed(0)
    near, far = NEAR.expand(500, 2), FAR.expand(500, 2)
    positions, intervals = sample_uniform(near, far, 8, generator)
    bins = (positions - near[..., None]) / (far - near)[..., None] * 8
    assert (bins.floor() == torch.arange(8)).all()
    assert (intervals > 0).all()
    torch.testing.assert_close(intervals.sum(dim=-1), far - near)
    # Uniform inside of the bins: mean 1/2, variance 1/12.
    offset = bins - torch.arange(8)
    assert abs(float(offset.mean()) - 0.5) < 0.02
    assert abs(float(offset.var()) - 1 / 12) < 0.004


def test_the_same_seed_gives_the_same_samples():
    draws = [
        sample_uniform(NEAR, FAR, 8, torch.Generator().manual_seed(seed))[0]
        for seed in (3, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_importance_equals_the_loop():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(6, 10, generator=generator) + 0.01
    edges = torch.rand(6, 11, generator=generator).sort(dim=-1).values
    samples = sample_importance(edges, weights, 16)
    u = (torch.arange(16) + 0.5) / 16
    for ray in range(6):
        expected = importance_loop(edges[ray], weights[ray], u)
        torch.testing.assert_close(samples[ray], expected, atol=1e-5, rtol=1e-5)


def test_importance_histogram_follows_the_weights():
    weights = torch.tensor([0.1, 0.0, 0.6, 0.3])
    edges = torch.tensor([0.0, 1.0, 1.5, 2.0, 4.0])
    generator = torch.Generator().manual_seed(0)
    samples = sample_importance(edges, weights, 20000, generator)
    histogram = torch.histogram(samples, edges).hist / 20000
    torch.testing.assert_close(histogram, weights, atol=1e-3, rtol=0)
    assert (samples.diff() >= 0).all()
    # Inside of a bin the samples are uniform.
    last = samples[samples > 2.0]
    assert abs(float(last.mean()) - 3.0) < 0.02


def test_importance_of_an_empty_ray_is_uniform_and_finite():
    edges = torch.linspace(1, 3, 9)
    samples = sample_importance(edges, torch.zeros(8), 4)
    torch.testing.assert_close(samples, torch.tensor([1.25, 1.75, 2.25, 2.75]))


def test_importance_with_all_weight_in_one_bin():
    edges = torch.linspace(0, 1, 65)
    weights = torch.zeros(64)
    weights[20] = 1.0
    samples = sample_importance(edges, weights, 32, torch.Generator().manual_seed(0))
    assert samples.isfinite().all()
    assert ((samples >= edges[20]) & (samples <= edges[21])).all()


def test_importance_does_not_differentiate_the_weights():
    weights = torch.rand(4, requires_grad=True)
    assert not sample_importance(torch.linspace(0, 1, 5), weights, 3).requires_grad


def test_merged_samples_are_sorted_and_partition_the_range():
    generator = torch.Generator().manual_seed(0)
    coarse, _ = sample_uniform(NEAR, FAR, 5, generator)
    fine, _ = sample_uniform(NEAR, FAR, 7, generator)
    positions, intervals = merge_samples(coarse, fine, NEAR, FAR)
    expected = torch.cat([coarse, fine], dim=-1).sort(dim=-1).values
    assert torch.equal(positions, expected)
    torch.testing.assert_close(intervals.sum(dim=-1), FAR - NEAR)


def test_edges_lie_between_samples():
    edges = edges_between(torch.tensor([1.0, 2.0, 4.0]), *torch.tensor([0.5, 9.0]))
    torch.testing.assert_close(edges, torch.tensor([0.5, 1.5, 3.0, 9.0]))
