"""Classifier-free guidance, dynamic thresholding, energies, and what is known."""

from __future__ import annotations

import pytest
import torch

from unseen.diffusion.from_noise import sample_from_noise
from unseen.diffusion.guidance import (
    classifier_free,
    dynamic_threshold,
    guided_denoise,
    guided_noise,
    keep_known,
    perpendicular_negative,
    rescaled,
)
from unseen.diffusion.prediction import eps_from_x0, x0_from_eps
from unseen.diffusion.samplers import ancestral
from unseen.diffusion.schedules import CosineSchedule


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


def test_what_is_known_is_kept_and_as_noisy_as_the_rest() -> None:
    """Known entries follow the forward process: their variance is sigma^2 midway."""
    schedule = CosineSchedule()
    known = torch.tensor([0.8, -0.8]).expand(4000, 2)
    kept = torch.tensor([True, False])
    denoise = keep_known(lambda x_t, t: torch.zeros_like(x_t), known, kept)
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(4000, 2, generator=generator)
    times = torch.tensor([1.0, 0.8, 0.6, 0.5], dtype=torch.float64)
    half = ancestral(denoise, state, schedule, times, generator=generator)
    alpha, sigma = (float(x) for x in schedule.alpha_sigma(torch.tensor(0.5)))
    torch.testing.assert_close(
        half.mean(dim=0), torch.tensor([0.8 * alpha, 0.0]), rtol=0, atol=0.05
    )
    torch.testing.assert_close(
        half.std(dim=0), torch.full((2,), sigma), rtol=0, atol=0.05
    )
    times = torch.tensor([0.5, 0.2, 0.0], dtype=torch.float64)
    end = ancestral(denoise, half, schedule, times, generator=generator)
    torch.testing.assert_close(end, torch.tensor([0.8, 0.0]).expand(4000, 2))


def test_the_gradient_of_an_energy_is_added_to_the_noise(generator) -> None:
    """With eps = a x_t and E = (x_t - eps)^2 / 2 the gradient is (1 - a)^2 x_t."""
    x_t = torch.randn(3, 4, generator=generator)
    with torch.no_grad():
        found = guided_noise(
            lambda x: 0.25 * x,
            lambda x, eps: 0.5 * (x - eps).square().sum(dim=1),
            x_t,
            torch.tensor(0.5),
        )
    torch.testing.assert_close(found, 0.25 * x_t + 0.5 * 0.75**2 * x_t)
    assert not found.requires_grad


def test_samples_from_noise_are_those_of_their_seeds() -> None:
    """For N(0, 1) the exact denoiser is alpha x_t: samples are N(0, 1) too."""
    schedule, reports = CosineSchedule(), []

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = schedule.alpha_sigma(t)
        return (alpha / (alpha**2 + sigma**2))[:, None] * x_t

    found = sample_from_noise(
        denoise,
        (500,),
        range(8),
        schedule,
        200,
        on_estimate=lambda done, total, x_0: reports.append((done, total, x_0.shape)),
    )
    assert found.shape == (8, 500) and abs(float(found.std()) - 1) < 0.05
    alone = sample_from_noise(denoise, (500,), [3], schedule, 200)
    torch.testing.assert_close(alone, found[3:4])
    assert reports == [(k, 200, (8, 500)) for k in range(1, 201)]


def test_scales_count_from_either_estimate(generator) -> None:
    c, u = torch.randn(2, 3, 4, generator=generator)
    torch.testing.assert_close(
        classifier_free(c, u, 7.0, "conditional"), classifier_free(c, u, 8.0)
    )
    torch.testing.assert_close(classifier_free(c, u, 0.0, "conditional"), c)


def test_perpendicular_negatives_leave_what_is_wanted(generator) -> None:
    c, u = torch.randn(2, 3, 2, 4, generator=generator)
    negatives = torch.randn(2, 3, 2, 4, generator=generator)
    weights = -torch.rand(2, 3, generator=generator)
    found = perpendicular_negative(c, u, negatives, weights, 5.0)
    # Along c - u the result is that of guidance alone, whatever is negative.
    wanted = (c - u).flatten(1)
    moved = (found - classifier_free(c, u, 5.0)).flatten(1)
    torch.testing.assert_close(
        (moved * wanted).sum(1), torch.zeros(3), rtol=0, atol=1e-4
    )
    # One negative alone is moved away from by its perpendicular part.
    one = perpendicular_negative(c, u, negatives[:1], weights[:1], 5.0)
    away = (negatives[0] - u).flatten(1)
    assert (((one - classifier_free(c, u, 5.0)).flatten(1) * away).sum(1) < 0).all()
    none = perpendicular_negative(c, u, negatives, 0 * weights, 5.0)
    torch.testing.assert_close(none, classifier_free(c, u, 5.0))


def test_rescaling_mixes_two_spreads(generator) -> None:
    guided, conditional = torch.randn(2, 4, 3, 5, generator=generator)
    guided = 9 * guided
    torch.testing.assert_close(rescaled(guided, conditional, 0.0), guided)
    half = rescaled(guided, conditional, 0.5)
    full = rescaled(guided, conditional, 1.0)
    torch.testing.assert_close(half, 0.5 * (guided + full))
    torch.testing.assert_close(
        full.flatten(1).std(dim=1), conditional.flatten(1).std(dim=1)
    )
