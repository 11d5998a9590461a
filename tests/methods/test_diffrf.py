"""DiffRF: its grids, its losses, completion and guidance."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.methods.volumes import (
    COLORS,
    DIFFRF,
    SIZE,
    ball_grid,
    ball_views,
    diffrf,
    example,
    no_views,
)
from unseen.encoders.grid_fitting import image_errors
from unseen.errors import UserError
from unseen.geometry.views import Example, Views
from unseen.methods.diffrf import DiffRF, DiffRFConfig
from unseen.methods.method import TrainingScenes

SCENES = TrainingScenes(("red", "blue"), lambda number: ball_views(COLORS[number]))


def knowing(grid: torch.Tensor, config: DiffRFConfig = DIFFRF) -> DiffRF:
    """A method that takes every noisy grid for this one."""
    method = diffrf(config).eval()

    def predict_noise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (
            scale.to(x_t)[:, None, None, None, None]
            for scale in method.schedule.alpha_sigma(t)
        )
        return (x_t - alpha * grid) / sigma

    method.predict_noise = predict_noise  # type: ignore[method-assign]
    return method


def test_it_learns_from_fitted_grids(tmp_path: Path) -> None:
    method, batch = diffrf(), example()
    with pytest.raises(UserError, match="let `prepare` make them"):
        method.loss(batch, torch.Generator())
    reports: list[tuple[int, int]] = []
    method.prepare(SCENES, tmp_path, lambda *report: reports.append(report))
    assert reports[-1] == (2, 2)
    assert method.grids is not None
    red, blue = method.grids.read(torch.tensor([0, 1]))
    assert red[1, 4, 4, 4] > red[3, 4, 4, 4] and blue[3, 4, 4, 4] > blue[1, 4, 4, 4]
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        found = method.loss(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append(found.terms["noise"].item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_two_losses(tmp_path: Path, monkeypatch) -> None:
    """The noise's error is alone without a rendering weight; with perfect noise both
    vanish, but for what the fit left."""
    batch = example()
    plain = diffrf(dataclasses.replace(DIFFRF, rendering_weight=0.0))
    plain.prepare(SCENES, tmp_path)
    found = plain.loss(batch, torch.Generator().manual_seed(0))
    # The network begins at zero, so this is the variance of the noise.
    assert set(found.terms) == {"noise"}
    assert float(found.total.detach()) == pytest.approx(1, abs=0.05)

    known = torch.stack([ball_grid(color) for color in COLORS])
    perfect = knowing(known)
    perfect.prepare(SCENES, tmp_path)
    assert perfect.grids is not None
    monkeypatch.setattr(perfect.grids, "read", lambda objects: known)
    found = perfect.loss(batch, torch.Generator().manual_seed(0))
    assert set(found.terms) == {"noise", "rendering"}
    assert all(float(term) < 1e-5 for term in found.terms.values())


def test_renderings_count_by_the_square_of_alpha_bar(tmp_path: Path) -> None:
    """Whatever is noisy, blue is seen: its errors are known, and weighted by time."""
    batch, blue = example(), ball_grid(COLORS[1])
    method = knowing(blue)
    method.prepare(SCENES, tmp_path)
    found = method.loss(batch, torch.Generator().manual_seed(7)).terms["rendering"]
    # The same numbers, drawn in the same order: steps, noise, pixels.
    generator = torch.Generator().manual_seed(7)
    steps = torch.randint(1000, (2,), generator=generator)
    torch.randn(2, *blue.shape, generator=generator)
    scenes = DIFFRF.grid.scene(torch.stack([blue, blue]))
    views = Views.cat([batch.context, batch.target], dim=1)
    errors = image_errors(scenes, [views[0], views[1]], DIFFRF.rays, [generator] * 2)
    alpha_bar = method.schedule.discrete_alphas_cumprod()[steps]
    expected = (alpha_bar**2 * errors).mean()
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-7)
    assert errors[0] > 0.01 > errors[1]


def test_the_grid_can_be_what_is_predicted(tmp_path: Path) -> None:
    """A network that is zero takes every grid for zero, whatever the noise."""
    method, batch = diffrf(dataclasses.replace(DIFFRF, prediction="grid")), example()
    method.prepare(SCENES, tmp_path)
    assert method.grids is not None
    found = method.loss(batch, torch.Generator().manual_seed(7)).terms
    assert set(found) == {"grid", "rendering"}
    steps = torch.randint(1000, (2,), generator=torch.Generator().manual_seed(7))
    alpha_bar = method.schedule.discrete_alphas_cumprod()[steps]
    weight = (alpha_bar / (1 - alpha_bar)).clamp(max=5)
    truth = method.grids.read(torch.tensor([0, 1])).square().mean(dim=(1, 2, 3, 4))
    expected = (weight * truth).mean().float()
    torch.testing.assert_close(found["grid"], expected, rtol=1e-3, atol=0)
    sampled = DIFFRF.grid.grids(method.eval().sample_scene(no_views(1), [1]))
    assert sampled.abs().max() < 1e-4


def test_too_few_objects_are_refused(tmp_path: Path) -> None:
    one = TrainingScenes(("red",), SCENES.load)
    with pytest.raises(UserError, match="the data has 1 for training"):
        diffrf().prepare(one, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_sampler_arrives_where_the_denoiser_points() -> None:
    grid = ball_grid(COLORS[0])
    reports = []
    scenes = knowing(grid).sample_scene(
        no_views(2), [1, 2], on_step=lambda *report: reports.append(report)
    )
    found = DIFFRF.grid.grids(scenes)
    torch.testing.assert_close(found, grid.expand(2, -1, -1, -1, -1), rtol=0, atol=1e-4)
    assert [report[:2] for report in reports] == [(k, 4) for k in range(1, 5)]


def test_samples_depend_on_their_seeds_alone() -> None:
    # What a network that knows nothing draws is noise, of 0.5 and less.
    method = diffrf().eval()
    both = DIFFRF.grid.grids(method.sample_scene(no_views(2), [5, 6]))
    alone = DIFFRF.grid.grids(method.sample_scene(no_views(1), [6]))
    torch.testing.assert_close(alone, both[1:], rtol=0, atol=1e-3)
    assert not torch.allclose(both[0], both[1], atol=0.1)


def test_completion_keeps_what_is_kept() -> None:
    red, blue = (ball_grid(color) for color in COLORS)
    method = knowing(blue)
    known = method.config.grid.scene(red[None])[0]
    kept = torch.zeros(8, 8, 8, dtype=torch.bool)
    kept[:4] = True  # below the middle: z is the first axis
    found = DIFFRF.grid.grids(method.complete_scene(known, kept, [1, 2]))
    assert len(found) == 2
    for grid in found:
        torch.testing.assert_close(grid[:, :4], red[:, :4], rtol=0, atol=1e-4)
        torch.testing.assert_close(grid[:, 4:], blue[:, 4:], rtol=0, atol=1e-4)
    with pytest.raises(UserError, match=r"by one of \(4, 4, 4\)"):
        method.complete_scene(known, kept[:4, :4, :4], [1])
    with pytest.raises(UserError, match="16 x 16 x 16 voxels"):
        space = dataclasses.replace(DIFFRF.grid, resolution=16)
        large = space.scene(torch.zeros(1, *space.shape))[0]
        method.complete_scene(large, kept, [1])


def test_images_guide(tmp_path: Path) -> None:
    """Guided by images of a red ball, samples agree with them far better."""
    config = dataclasses.replace(DIFFRF, num_steps=16, guiding_rays=144)
    # Grey and half transparent everywhere, which no image is.
    method = diffrf(config).eval()
    red = Views.stack([ball_views(COLORS[0], 4)])

    def error(context: Views) -> float:
        scene = method.sample_scene(context, [3])
        found = scene.render(red.cameras, (SIZE, SIZE)).color
        return float((found - red.images).square().mean())

    unguided, guided = error(no_views(1)), error(red)
    assert guided < 0.5 * unguided
    assert error(red) == guided
    assert all(p.grad is None for p in method.parameters())


def test_masks_hide_what_is_behind(tmp_path: Path) -> None:
    batch = example()
    views = Views.cat([batch.context, batch.target], dim=1)
    masks = (views.images < 0.9).any(dim=2).float()

    def fitted(behind: float, folder: str) -> torch.Tensor:
        kept = masks[:, :, None]
        images = views.images * kept + behind * (1 - kept)
        shown = Views(images, views.cameras, masks)
        method = diffrf(
            dataclasses.replace(
                DIFFRF, fit=dataclasses.replace(DIFFRF.fit, num_steps=3)
            )
        )
        scenes = TrainingScenes(("red", "blue"), lambda number: shown[number])
        method.prepare(scenes, tmp_path / folder)
        assert method.grids is not None
        return method.grids.read(torch.tensor([0, 1]))

    assert torch.equal(fitted(0.0, "black"), fitted(0.6, "grey"))


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match="reduces it 2-fold"):
        dataclasses.replace(DIFFRF, grid=dataclasses.replace(DIFFRF.grid, resolution=9))
    with pytest.raises(ValueError, match="image_deviation"):
        dataclasses.replace(DIFFRF, image_deviation=0.0)


def test_examples_must_say_which_object_they_show(tmp_path: Path) -> None:
    method, batch = diffrf(), example()
    method.prepare(SCENES, tmp_path)
    nameless = Example(batch.context, batch.target)
    with pytest.raises(UserError, match="which object is which"):
        method.loss(nameless, torch.Generator())
