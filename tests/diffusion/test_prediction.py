"""Conversions between x_0, eps and v, and the loss weightings."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unseen.diffusion import prediction
from unseen.diffusion.schedules import CosineSchedule, EDMSchedule, unsqueeze_like

FORMS = ["x0", "eps", "v"]


def make(alpha: float, sigma: float):
    """A consistent set: x_t and its three predictions."""
    generator = torch.Generator().manual_seed(1)
    x_0, eps = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    a = torch.tensor(alpha, dtype=torch.float64)
    s = torch.tensor(sigma, dtype=torch.float64)
    forms = {"x0": x_0, "eps": eps, "v": a * eps - s * x_0}
    return a * x_0 + s * eps, forms, a, s


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
@settings(deadline=None, max_examples=20)
@given(alpha=st.floats(0.01, 1.5), sigma=st.floats(0.01, 100))
def test_every_form_gives_every_other(source, target, alpha, sigma) -> None:
    if source == target:
        return
    x_t, forms, a, s = make(alpha, sigma)
    convert = getattr(prediction, f"{target}_from_{source}")
    result = convert(x_t, forms[source], a, s)
    torch.testing.assert_close(result, forms[target], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.0), (0.0, 1.0)])
def test_ends_are_finite_and_exact_where_determined(alpha, sigma) -> None:
    x_t, forms, a, s = make(alpha, sigma)
    for source in FORMS:
        for target in FORMS:
            if source == target:
                continue
            convert = getattr(prediction, f"{target}_from_{source}")
            result = convert(x_t, forms[source], a, s)
            assert result.isfinite().all(), (source, target)
            lost = (target, source) in {
                ("x0", "eps"),
                ("v", "eps"),
                ("eps", "x0"),
                ("v", "x0"),
            }
            # From eps nothing is lost at alpha = 1, from x_0 nothing at sigma = 1.
            if not lost or source == ("eps" if sigma == 0 else "x0"):
                torch.testing.assert_close(result, forms[target])


def test_scales_broadcast_over_the_batch() -> None:
    schedule = CosineSchedule()
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, 3, 4, 4, generator=generator)
    t = torch.linspace(0.1, 0.9, 5)
    x_t = schedule.add_noise(x_0, eps, t)
    alpha, sigma = (unsqueeze_like(s, x_t) for s in schedule.alpha_sigma(t))
    found = prediction.x0_from_eps(x_t, eps, alpha, sigma)
    torch.testing.assert_close(found, x_0, rtol=1e-4, atol=1e-5)


def test_weights_are_the_papers() -> None:
    snr = torch.tensor([0.01, 0.5, 1.0, 4.0, 100.0])
    log_snr = snr.log()
    close = torch.testing.assert_close
    close(prediction.uniform_weight(log_snr), torch.ones(5))
    close(
        prediction.min_snr_weight(log_snr, gamma=5.0),
        torch.tensor([0.01, 0.5, 1.0, 4.0, 5.0]),
    )
    close(
        prediction.truncated_snr_weight(log_snr),
        torch.tensor([1.0, 1.0, 1.0, 4.0, 100.0]),
    )
    sigma = snr**-0.5
    expected = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    close(prediction.edm_weight(log_snr, sigma_data=0.5), expected)


def test_weights_bear_data_itself() -> None:
    infinite = EDMSchedule().log_snr(torch.zeros(1))
    assert infinite.item() == math.inf
    assert prediction.min_snr_weight(infinite, gamma=5.0).item() == 5.0
    assert prediction.uniform_weight(infinite).item() == 1.0
