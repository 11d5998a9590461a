"""Views of one scene score higher than views of several."""

from __future__ import annotations

import math

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import make_object
from unseen.errors import UserError
from unseen.evaluation.generated_views import (
    FitConfig,
    fitted_reprojection,
    view_consistency,
)
from unseen.geometry.views import Views

TINY = FitConfig(resolution=24, num_samples=32, steps=60, rays=512)


def around(views: int, side: int, seeds: tuple[int, ...]) -> Views:
    """Views around houses: each view of the next one of `seeds`."""
    heights = torch.rand(views, generator=torch.Generator().manual_seed(0))
    azimuths = torch.arange(views) * 2 * math.pi / views
    cameras = sphere_cameras(azimuths, 0.9 * heights, torch.tensor(0.7))
    seen = [make_object("house", seed).render(cameras, side).images for seed in seeds]
    images = [seen[i % len(seeds)][i] for i in range(views)]
    return Views(torch.stack(images), cameras)


def test_views_of_one_scene_are_more_consistent_than_of_several() -> None:
    steps = []
    one = view_consistency(
        around(12, 32, (3,)),
        torch.Generator().manual_seed(0),
        TINY,
        report=lambda done, _: steps.append(done),
    )
    several = view_consistency(
        around(12, 32, (3, 4, 5)), torch.Generator().manual_seed(0), TINY
    )
    assert (one.fitted, one.held_out) == (10, 2) and steps == list(range(1, 61))
    assert one.psnr > several.psnr + 3 and one.psnr > 18
    assert one.ssim > several.ssim + 0.15


@pytest.mark.slow
def test_the_ceiling_at_the_default_settings() -> None:
    generator = torch.Generator().manual_seed(0)
    one = view_consistency(around(24, 64, (3,)), generator)
    several = view_consistency(around(24, 64, (3, 4)), generator)
    assert one.psnr > 24 and one.ssim > 0.9
    assert one.psnr > several.psnr + 7


def test_some_views_must_be_left_out() -> None:
    views = around(4, 16, (3,))
    generator = torch.Generator().manual_seed(0)
    for every in (1, 9):
        with pytest.raises(UserError, match="cannot be left out"):
            view_consistency(views, generator, TINY, every=every)


def test_reprojection_through_what_is_fitted() -> None:
    """Neighbours that show one house agree better than those that show two."""
    one, several = (
        fitted_reprojection(
            around(12, 32, seeds), torch.Generator().manual_seed(0), TINY
        )
        for seeds in ((3,), (3, 4))
    )
    assert one.compared > 0.1 and several.compared > 0.1
    assert one.psnr > several.psnr + 2
