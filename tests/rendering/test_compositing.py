"""Compositing against a loop over samples and against closed forms."""

import math

import torch

from unseen.rendering.compositing import composite, composite_weights, over_background


def composite_loop(
    densities: torch.Tensor, intervals: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow twin: march along the ray sample by sample (weights, values)."""
    transmittance = torch.ones_like(densities[..., 0])
    total = torch.zeros_like(values[..., 0, :])
    weights = []
    for i in range(densities.shape[-1]):
        alpha = 1 - torch.exp(-densities[..., i] * intervals[..., i])
        weights.append(transmittance * alpha)
        total = total + weights[-1][..., None] * values[..., i, :]
        transmittance = transmittance * (1 - alpha)
    return torch.stack(weights, dim=-1), total


def random_rays() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 4, 9)
    densities = 4 * torch.rand(shape, generator=generator, dtype=torch.float64)
    intervals = torch.rand(shape, generator=generator, dtype=torch.float64)
    values = torch.randn(*shape, 5, generator=generator, dtype=torch.float64)
    return densities, intervals, values


def test_equals_the_loop_forward_and_backward():
    inputs = tuple(x.requires_grad_() for x in random_rays())
    densities, intervals, values = inputs
    weights = composite_weights(densities, intervals)
    fast = (weights, composite(weights, values))
    slow = composite_loop(*inputs)
    torch.testing.assert_close(fast, slow)

    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(x.shape, generator=generator).double() for x in fast]
    torch.testing.assert_close(
        torch.autograd.grad(fast, inputs, cotangents),
        torch.autograd.grad(slow, inputs, cotangents),
    )


def test_opacity_is_that_of_the_whole_thickness():
    densities, intervals, _ = random_rays()
    opacity = composite_weights(densities, intervals).sum(dim=-1)
    expected = 1 - torch.exp(-(densities * intervals).sum(dim=-1))
    torch.testing.assert_close(opacity, expected)


def test_splitting_an_interval_changes_nothing():
    densities, intervals, values = random_rays()
    whole = composite(composite_weights(densities, intervals), values)
    share = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    parts = torch.stack([intervals * share, intervals * (1 - share)], dim=-1)
    weights = composite_weights(
        densities.repeat_interleave(2, dim=-1), parts.flatten(-2)
    )
    split = composite(weights, values.repeat_interleave(2, dim=-2))
    torch.testing.assert_close(whole, split)


def test_extreme_densities_stay_finite():
    densities = torch.tensor([0.0, 1e-12, 1e12, 1.0, 1e30], requires_grad=True)
    weights = composite_weights(densities, torch.ones(5))
    torch.testing.assert_close(weights, torch.tensor([0.0, 1e-12, 1.0, 0.0, 0.0]))
    weights.sum().backward()
    assert densities.grad is not None and densities.grad.isfinite().all()


def test_background_shows_through_what_is_left():
    color = torch.tensor([[0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    opacity = torch.tensor([0.25, 0.0])
    background = torch.tensor([1.0, 0.5, 0.0])
    expected = torch.tensor([[0.2 + 0.75, 0.375, 0.0], [1.0, 0.5, 0.0]])
    torch.testing.assert_close(over_background(color, opacity, background), expected)


def test_thin_media_keep_relative_precision():
    # 1 - exp(-x) would lose all digits here.
    weight = composite_weights(torch.tensor([1e-9]), torch.tensor([1.0]))
    assert math.isclose(float(weight[0]), 1e-9, rel_tol=1e-5)
