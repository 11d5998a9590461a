"""Metrics against closed forms, and numbers that must order as they should."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import make_object
from unseen.errors import UserError
from unseen.evaluation.metrics import SsimWindow, gradient_magnitude, gray, psnr, ssim
from unseen.evaluation.posterior import Observation, measure
from unseen.evaluation.visibility import seen_pixels, unseen_pixels
from unseen.geometry.views import Views


def test_psnr_of_a_constant_error() -> None:
    truth = torch.full((2, 3, 8, 8), 0.5)
    assert torch.allclose(psnr(truth + 0.1, truth), torch.full((2,), 20.0), atol=1e-3)


SKIMAGE: dict[SsimWindow, dict[str, bool]] = {
    "uniform": {},
    "gaussian": {"gaussian_weights": True, "use_sample_covariance": False},
}


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_ssim_is_that_of_skimage(window: SsimWindow) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 3, 17, 13, generator=generator)
    noise = torch.randn(truth.shape, generator=generator)
    images = (truth + 0.3 * noise).clamp(0, 1)
    # Flat white corners, as before backgrounds: variances of exactly nothing.
    images[..., :12, :12] = truth[..., :12, :12] = 1
    found = ssim(images, truth, window)
    for i, j in np.ndindex(2, 3):
        expected = structural_similarity(
            truth[i, j].double().numpy(),
            images[i, j].double().numpy(),
            channel_axis=0,
            data_range=1,
            **SKIMAGE[window],
        )
        assert abs(float(found[i, j]) - float(expected)) < 1e-6  # type: ignore[arg-type]
    assert torch.allclose(ssim(truth, truth, window), torch.ones(2, 3))
    with pytest.raises(UserError, match="give larger ones"):
        ssim(truth[..., :6, :6], truth[..., :6, :6], window)


def calibration_pairs(shared: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Names, distorted and reference images in [0, 1], (3 height width)."""
    with zipfile.ZipFile(shared / "data/metrics/iqa_calibration.zip") as archive:
        for name in ("I03", "I04", "I06", "I08", "I19"):
            pair = [
                imageio.imread(archive.read(f"{folder}/{name}.bmp"))
                for folder in ("dist_dir", "ref_dir")
            ]
            images = [torch.from_numpy(np.array(x)).movedim(-1, 0) / 255 for x in pair]
            yield f"{name}.bmp", images[0], images[1]


def official_values(shared: Path, metric: str) -> dict[str, float]:
    """What the authors' programs say of each pair."""
    with zipfile.ZipFile(shared / "data/metrics/iqa_calibration.zip") as archive:
        rows = csv.DictReader(
            archive.read("results_official.csv").decode().splitlines()
        )
        row = next(row for row in rows if row["Method"] == metric)
    return {name: float(x) for name, x in row.items() if name != "Method"}


@pytest.mark.shared
def test_metrics_of_pictures_are_the_official_ones(shared: Path) -> None:
    """PSNR of colours; SSIM of 8-bit grey images under the Gaussian window."""
    psnrs, ssims = official_values(shared, "psnr"), official_values(shared, "ssim")
    for name, image, truth in calibration_pairs(shared):
        assert abs(float(psnr(image, truth)) - psnrs[name]) < 0.005
        grey = gray(image), gray(truth)
        assert abs(float(ssim(*grey, "gaussian")) - ssims[name]) < 6e-5
        if name == "I03.bmp":  # where the other definitions differ most
            assert abs(float(ssim(*grey, "uniform")) - ssims[name]) > 0.02
            assert abs(float(ssim(image, truth, "gaussian")) - ssims[name]) > 0.02


def test_gradient_of_a_ramp() -> None:
    ramp = torch.arange(10.0).expand(3, 8, 10) / 10
    assert torch.allclose(gradient_magnitude(ramp)[:, 1:-1], torch.tensor(0.1))
    assert gradient_magnitude(torch.ones(4, 3, 8, 8)).max() == 0


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
