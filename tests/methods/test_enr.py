"""Equivariant Neural Rendering: pairs of views, the loss, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.errors import UserError
from unseen.geometry.views import Example, Views
from unseen.methods.enr import ENR, ENRConfig
from unseen.methods.photometric import structural_similarity
from unseen.networks.voxel_resnet import VoxelNetworkConfig

TINY = ENRConfig(
    16,
    VoxelNetworkConfig((8, 8, 8), (1, 2, 2), (8, 16), (4, 8, 4), (1, 2, -2), (16, 8)),
)


def make_enr() -> ENR:
    torch.manual_seed(0)
    return ENR(TINY)


def make_views(batch: int = 2, views: int = 2, size: int = 16) -> Views:
    generator = torch.Generator().manual_seed(0)
    rendered = [
        make_object("crate", i).render(object_cameras(views, generator), size)
        for i in range(batch)
    ]
    return dataclasses.replace(Views.stack(rendered), depths=None, masks=None)


def loss_of(method: ENR, views: Views) -> dict[str, torch.Tensor]:
    example = Example(views[:, :1], views[:, 1:])
    return method.loss(example, torch.Generator()).terms


@torch.no_grad()
def test_loss_draws_each_view_from_the_other() -> None:
    method, views = make_enr(), make_views()
    terms = loss_of(method, views)
    errors, similar = [], []
    for first, second in ((0, 1), (1, 0)):
        scene = method.infer(views[:, first])
        image = scene.render(views.cameras[:, second : second + 1], (16, 16)).color
        truth = views.images[:, second]
        errors.append((image[:, 0] - truth).abs().mean())
        similar.append(structural_similarity(image[:, 0], truth).mean())
    expected = torch.stack(errors).mean()
    torch.testing.assert_close(terms["absolute"], expected, rtol=1e-4, atol=1e-6)
    expected = 1 - torch.stack(similar).mean()
    torch.testing.assert_close(terms["ssim"], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_views_are_paired_in_order_and_an_odd_one_is_left_out() -> None:
    method, views = make_enr(), make_views(1, 5)
    terms = loss_of(method, views)
    each = [loss_of(method, views[:, i : i + 2])["absolute"] for i in (0, 2)]
    torch.testing.assert_close(terms["absolute"], torch.stack(each).mean())
    with pytest.raises(UserError, match="pairs of views"):
        loss_of(method, views[:, :1])


def test_training_reduces_the_loss() -> None:
    method, views = make_enr(), make_views()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    example, losses = Example(views[:, :1], views[:, 1:]), []
    for _ in range(25):
        loss = method.loss(example, torch.Generator()).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_scenes_do_not_depend_on_seeds_nor_on_the_batch() -> None:
    method, views = make_enr().train(), make_views()
    context = views[:, :1]
    steps: list[tuple[int, int]] = []
    both = method.sample_scene(
        context, [0, 1], on_step=lambda done, all, _: steps.append((done, all))
    )
    one = method.sample_scene(context[1:], [7])
    torch.testing.assert_close(both[1].volumes, one[0].volumes, rtol=0, atol=1e-5)
    assert steps == [(1, 1)] and method.training
    assert not both.volumes.requires_grad
    assert (ENR.stochastic, ENR.max_context) == (False, 1)


def test_what_cannot_be_rendered_is_refused() -> None:
    method, views = make_enr(), make_views()
    with pytest.raises(UserError, match="one image"):
        method.sample_scene(views, [0, 1])
    with pytest.raises(UserError, match="16 x 16"):
        method.sample_scene(make_views(1, 1, 24), [0])
    with pytest.raises(ValueError, match="images of 16"):
        ENRConfig(32, TINY.network)


def test_similarity_against_its_definition(generator: torch.Generator) -> None:
    """One window by hand, with the constants of Wang et al. and data in [0, 1]."""
    first = torch.rand(1, 1, 11, 11, generator=generator, dtype=torch.float64)
    second = (first + 0.2 * torch.rand(first.shape, generator=generator)).double()
    offset = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    window = window / window.sum()
    x, y = first[0, 0], second[0, 0]
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    var_x = (window * (x - mean_x) ** 2).sum()
    var_y = (window * (y - mean_y) ** 2).sum()
    both = (window * (x - mean_x) * (y - mean_y)).sum()
    c_1, c_2 = 1e-4, 9e-4
    expected = (2 * mean_x * mean_y + c_1) * (2 * both + c_2)
    expected /= (mean_x**2 + mean_y**2 + c_1) * (var_x + var_y + c_2)
    found = structural_similarity(first, second)
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-9)


def test_similarity_against_scikit_image(generator: torch.Generator) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first = torch.rand(1, 1, 32, 32, generator=generator)
    second = (first + 0.1 * torch.randn(first.shape, generator=generator)).clamp(0, 1)
    _, full = metrics.structural_similarity(
        first[0, 0].double().numpy(),
        second[0, 0].double().numpy(),
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    # Windows stay inside of the image.
    expected = torch.tensor(full[5:-5, 5:-5].mean()).float()
    found = structural_similarity(first, second)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-4)
    same = structural_similarity(first, first)
    torch.testing.assert_close(same, torch.ones(1))
