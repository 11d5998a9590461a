"""Classifier-free guidance and dynamic thresholding."""

from __future__ import annotations

import pytest
import torch

from unseen.diffusion.guidance import (
    classifier_free,
    dynamic_threshold,
    guided_denoise,
)
from unseen.diffusion.prediction import eps_from_x0, x0_from_eps


def test_scale_moves_along_the_line(generator) -> None:
    c, u = torch.randn(2, 3, 4, generator=generator)
    torch.testing.assert_close(classifier_free(c, u, 1.0), c)
    torch.testing.assert_close(classifier_free(c, u, 0.0), u)
    torch.testing.assert_close(classifier_free(c, u, 3.0), c + 2 * (c - u))


def test_guidance_in_eps_is_guidance_in_x0(generator) -> None:
    c, u, x_t = torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64)
    alpha, sigma = torch.tensor(0.6).double(), torch.tensor(0.8).double()
    eps = classifier_free(
        eps_from_x0(x_t, c, alpha, sigma), eps_from_x0(x_t, u, alpha, sigma), 2.5
    )
    torch.testing.assert_close(
        x0_from_eps(x_t, eps, alpha, sigma), classifier_free(c, u, 2.5)
    )


def test_both_branches_are_one_batch(generator) -> None:
    calls = []

    def both(x_t, t):
        calls.append(len(x_t))
        half = len(x_t) // 2
        kind = torch.cat([torch.full((half,), 2.0), torch.full((half,), 0.5)])
        return x_t * (kind * t)[:, None]

    x_t = torch.randn(3, 4, generator=generator)
    t = torch.tensor([0.2, 0.5, 0.9])
    result = guided_denoise(both, 3.0)(x_t, t)
    assert calls == [6]
    torch.testing.assert_close(result, x_t * (t * (0.5 + 3 * 1.5))[:, None])


def test_threshold_leaves_small_samples_alone_and_squashes_large_ones() -> None:
    small = torch.linspace(-0.9, 0.9, 101)
    large = torch.linspace(-4, 4, 101)
    result = dynamic_threshold(torch.stack([small, large]), percentile=0.9)
    torch.testing.assert_close(result[0], small)
    # The 90th percentile of |x| of the second is 3.6; each sample has its own.
    torch.testing.assert_close(result[1], large.clamp(-3.6, 3.6) / 3.6)


def test_threshold_clips_when_few_values_are_out_of_range() -> None:
    x_0 = torch.zeros(1, 100)
    x_0[0, 0], x_0[0, 1] = 7.0, -3.0
    result = dynamic_threshold(x_0, percentile=0.95)
    assert result[0, :3].tolist() == [1.0, -1.0, 0.0]


def test_threshold_takes_half_types_and_refuses_a_percentage() -> None:
    x_0 = torch.full((1, 8), 2.0, dtype=torch.bfloat16)
    assert dynamic_threshold(x_0).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="percentile"):
        dynamic_threshold(x_0, percentile=95.0)
