"""Regularisers in closed form."""

from __future__ import annotations

import math

import torch

from unseen.distillation.config import RegularizerConfig
from unseen.distillation.ramp import ramp
from unseen.distillation.regularizers import (
    depth_smoothness_loss,
    emptiness_loss,
    entropy_loss,
    opacity_loss,
    reference_terms,
    regularize,
)
from unseen.export.video import orbit_cameras
from unseen.geometry.views import Views
from unseen.scenes.look import Look


def look(opacity: float, **others) -> Look:
    plane = torch.full((1, 4, 4), opacity)
    color = torch.full((1, 3, 4, 4), 0.25 * opacity)
    return Look(color, plane, 2 * plane, torch.ones(1, 3, 4, 4), **others)


def test_numbers() -> None:
    plane = torch.full((1, 4, 4), 0.5)
    assert math.isclose(float(opacity_loss(plane)), math.sqrt(0.26), rel_tol=1e-6)
    assert math.isclose(float(entropy_loss(plane)), math.log(2), rel_tol=1e-6)
    assert float(entropy_loss(0 * plane)) < 0.01 > float(entropy_loss(0 * plane + 1))
    weights = torch.tensor([[[0.0, 0.1, 0.9]]])
    wanted = (math.log(2) + math.log(10)) / 3
    assert math.isclose(float(emptiness_loss(weights)), wanted, rel_tol=1e-6)
    slope = torch.arange(4.0).expand(1, 4, 4)
    assert float(depth_smoothness_loss(slope)) == 0.5
    assert float(depth_smoothness_loss(slope + slope.transpose(1, 2))) == 1.0


def test_the_entropy_of_a_sharp_image_has_a_gradient_inwards() -> None:
    """Half-seen pixels are pushed to whichever side is nearer."""
    plane = torch.tensor([[[0.2, 0.8]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy_loss(plane), plane)
    assert gradient[0, 0, 0] > 0 > gradient[0, 0, 1]


def test_only_terms_with_a_weight_are_there() -> None:
    config = RegularizerConfig(opacity=2.0, orientation=ramp(10, 0, 1, 20))
    seen = look(1.0, orientation=torch.tensor(0.3))
    assert set(regularize(seen, config, 10)) == {"opacity"}
    terms = regularize(seen, config, 15)
    assert set(terms) == {"opacity", "orientation"}
    torch.testing.assert_close(terms["opacity"], 2 * torch.tensor(1.01).sqrt())
    torch.testing.assert_close(terms["orientation"], torch.tensor(0.15))
    # Without normals or rays there are no such terms.
    everything = RegularizerConfig(1.0, 1.0, 1.0, 1.0, 1.0)
    names = {"opacity", "entropy", "depth_smoothness"}
    assert set(regularize(look(1.0), everything, 0)) == names


def test_a_reference_counts_where_it_is_masked() -> None:
    config = RegularizerConfig(reference_color=10.0, reference_mask=4.0)
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    images = torch.where(mask[:, None] > 0, 0.75, 0.0).expand(1, 3, 4, 4)
    given = Views(images, orbit_cameras(1, 40.0, 20.0), mask)
    terms = reference_terms(look(1.0), given, config, 0)
    # 0.25 is seen where 0.75 is known; the lower half is unknown.
    torch.testing.assert_close(terms["reference_color"], torch.tensor(2.5))
    torch.testing.assert_close(terms["reference_mask"], torch.tensor(4 * 0.5))
    unmasked = reference_terms(look(1.0), Views(images, given.cameras), config, 0)
    assert set(unmasked) == {"reference_color"}


def test_another_background_shines_through_what_is_open() -> None:
    seen = look(0.25)
    torch.testing.assert_close(seen.image, torch.full((1, 3, 4, 4), 0.0625 + 0.75))
    black = seen.over(torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(black, seen.values)
