"""Distances of feature sets against closed forms and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.evaluation.frechet import (
    frechet_distance,
    kernel_distance,
    random_conv_features,
)


def test_frechet_distance_of_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    y = 2 * x + torch.tensor([1.0, 0.0, -2.0])
    # Means differ by (1, 0, -2) nearly; deviations are s and 2 s: |mu|^2 + tr(S).
    shift = (x.mean(0) - y.mean(0)).square().sum()
    assert math.isclose(
        frechet_distance(x, y), float(shift + x.T.cov().trace()), rel_tol=1e-6
    )
    assert abs(frechet_distance(x, x)) < 1e-6


def test_blur_is_far_from_sharp_in_the_feature_space() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = (torch.rand(400, 3, 16, 16, generator=generator) > 0.5).float()
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    first, second = sharp[:200], sharp[200:]
    near = frechet_distance(random_conv_features(first), random_conv_features(second))
    far = frechet_distance(
        random_conv_features(first), random_conv_features(blurred[200:])
    )
    assert far > 3 * near


def test_frechet_distance_of_commuting_covariances() -> None:
    """Diagonal covariances: the sum of (difference of deviations)^2."""
    # Points at +-s on each axis have a mean of zero and known deviations.
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    correction = math.sqrt(len(signs) / (len(signs) - 1))
    first, second = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.0])
    found = frechet_distance(signs * first, signs * second + 0.5)
    expected = 3 * 0.25 + float((correction * (first - second)).square().sum())
    assert math.isclose(found, expected, rel_tol=1e-6)


@pytest.mark.parametrize("counts", [(400, 300), (7, 5)])
def test_frechet_distance_is_that_of_the_matrix_root(
    counts: tuple[int, int], generator: torch.Generator
) -> None:
    """The textbook's formula; few samples give singular covariances."""
    mix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    a, b = (torch.randn(n, 12, generator=generator).double() @ mix for n in counts)
    b = 0.7 * b + 0.3
    product = np.cov(a.numpy().T) @ np.cov(b.numpy().T)
    root = np.trace(np.real(scipy.linalg.sqrtm(product + 1e-12 * np.eye(12))))
    shift = float((a.mean(0) - b.mean(0)).square().sum())
    expected = shift + float(a.T.cov().trace() + b.T.cov().trace()) - 2 * float(root)
    assert math.isclose(frechet_distance(a, b), expected, rel_tol=1e-4)
    assert math.isclose(frechet_distance(b, a), expected, rel_tol=1e-4)


def test_a_set_is_at_distance_zero_from_itself_even_if_it_is_small(
    generator: torch.Generator,
) -> None:
    features = 10 * torch.randn(6, 300, generator=generator)
    assert abs(frechet_distance(features, features)) < 1e-8
    with pytest.raises(UserError, match="at least two"):
        frechet_distance(features[:1], features)


def brute_force_mmd(
    a: Float[Tensor, "first feature"], b: Float[Tensor, "second feature"]
) -> float:
    """The unbiased estimate, term by term."""

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float((x * y).sum()) / len(x) + 1) ** 3

    def pairs(z: Tensor) -> float:
        terms = [
            kernel(z[i], z[j]) for i, j in itertools.permutations(range(len(z)), 2)
        ]
        return sum(terms) / len(terms)

    across = [kernel(x, y) for x in a for y in b]
    return pairs(a) + pairs(b) - 2 * sum(across) / len(across)


def test_kernel_distance_is_that_of_brute_force(generator: torch.Generator) -> None:
    a = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    b = 0.5 + torch.randn(9, 4, generator=generator, dtype=torch.float64)
    # A subset of everything is everything.
    whole = kernel_distance(a, b, generator, subsets=3, subset_size=100)
    assert math.isclose(whole.mean, brute_force_mmd(a, b), rel_tol=1e-9)
    assert whole.std < 1e-12

    # Over all subsets of one size.
    exact = [
        brute_force_mmd(a[list(i)], b[list(j)])
        for i in itertools.combinations(range(3), 2)
        for j in itertools.combinations(range(3), 2)
    ]
    drawn = kernel_distance(a[:3], b[:3], generator, subsets=300, subset_size=2)
    assert abs(drawn.mean - np.mean(exact)) < 4 * np.std(exact) / math.sqrt(300)
    assert math.isclose(drawn.std, float(np.std(exact)), rel_tol=0.2)


def test_kernel_distance_is_unbiased_and_repeatable() -> None:
    def draw(seed: int) -> tuple[float, float]:
        source = torch.Generator().manual_seed(seed)
        x = torch.randn(200, 8, generator=source)
        found = kernel_distance(x[:100], x[100:], source, subsets=10, subset_size=50)
        return found.mean, found.std

    assert draw(0) == draw(0)
    means = [draw(seed)[0] for seed in range(8)]
    assert min(means) < 0 < max(means)  # a biased estimate would be positive
