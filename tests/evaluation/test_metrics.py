"""Metrics against closed forms, and numbers that must order as they should."""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.metrics import structural_similarity

from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import make_object
from unseen.evaluation.frechet import frechet_distance, random_conv_features
from unseen.evaluation.metrics import gradient_magnitude, psnr, ssim
from unseen.evaluation.posterior import Observation, measure
from unseen.evaluation.visibility import seen_pixels, unseen_pixels
from unseen.geometry.views import Views


def test_psnr_of_a_constant_error() -> None:
    truth = torch.full((2, 3, 8, 8), 0.5)
    assert torch.allclose(psnr(truth + 0.1, truth), torch.full((2,), 20.0), atol=1e-3)


def test_ssim_is_that_of_skimage() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 3, 12, 9, generator=generator)
    noise = torch.randn(truth.shape, generator=generator)
    images = (truth + 0.3 * noise).clamp(0, 1)
    # Flat white corners, as before backgrounds: variances of exactly nothing.
    images[..., :8, :8] = truth[..., :8, :8] = 1
    found = ssim(images, truth)
    for i, j in np.ndindex(2, 3):
        expected = structural_similarity(
            truth[i, j].numpy(), images[i, j].numpy(), channel_axis=0, data_range=1
        )
        assert abs(float(found[i, j]) - float(expected)) < 1e-5  # type: ignore[arg-type]
    assert torch.allclose(ssim(truth, truth), torch.ones(2, 3))


def test_gradient_of_a_ramp() -> None:
    ramp = torch.arange(10.0).expand(3, 8, 10) / 10
    assert torch.allclose(gradient_magnitude(ramp)[:, 1:-1], torch.tensor(0.1))
    assert gradient_magnitude(torch.ones(4, 3, 8, 8)).max() == 0


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
    sharp = (torch.rand(600, 3, 16, 16, generator=generator) > 0.5).float()
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    first, second = sharp[:300], sharp[300:]
    near = frechet_distance(random_conv_features(first), random_conv_features(second))
    far = frechet_distance(
        random_conv_features(first), random_conv_features(blurred[300:])
    )
    assert far > 3 * near


def _views(azimuths: list[float]) -> Views:
    count = len(azimuths)
    cameras = sphere_cameras(
        torch.deg2rad(torch.tensor(azimuths)),
        torch.full((count,), 0.2),
        torch.tensor(0.7),
    )
    return make_object("crate", 3).render(cameras, (32, 32))


def test_the_back_is_unseen_and_the_front_is_seen() -> None:
    views = _views([0.0, 0.0, 180.0])
    seen = seen_pixels(views[:1], views[1:])
    assert views.masks is not None and views.depths is not None
    surface = views.depths[1:] > 0
    assert seen[0].sum() > 0.97 * surface[0].sum()
    assert seen[1].sum() < 0.35 * surface[1].sum()  # only the top is common
    assert torch.equal(seen | unseen_pixels(views[:1], views[1:]), surface)


def test_posterior_numbers_tell_sampling_from_averaging() -> None:
    generator = torch.Generator().manual_seed(0)
    views = _views([0.0, 20.0, 180.0, 200.0])
    given, novel = views[:1], views[1:]
    hidden = unseen_pixels(given, novel)[None, :, None]
    noise = torch.rand(8, 3, 3, 32, 32, generator=generator)
    samples = torch.where(hidden, noise, novel.images[None])
    mean = torch.where(hidden[0], torch.tensor(0.5), novel.images)
    inputs = given.images.expand(8, -1, -1, -1)
    numbers = measure(
        [Observation(given, novel, inputs, samples, given.images[0], mean)]
    )
    assert numbers.input_psnr == 100
    assert numbers.spread_seen == 0 and numbers.spread_unseen > 0.2
    assert numbers.sharpness > 1 > numbers.sharpness_deterministic
    assert numbers.novel_psnr_best >= numbers.novel_psnr
    assert numbers.novel_psnr_deterministic > numbers.novel_psnr
