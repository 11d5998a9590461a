"""pixelNeRF and VisionNeRF learn, make scenes of one or more views, and draw rays."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.aligned_scenes import SIZE, cameras, pixelnerf, views, visionnerf
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import choose_rays, object_pixels
from unseen.geometry.views import Example, Views
from unseen.methods.method import SampleOptions
from unseen.scenes.scene import Scene

METHODS = [pixelnerf, visionnerf]
WHITE = torch.ones(3)


def example(batch: int = 2, context: int = 1) -> Example:
    given = views(batch, context + 2)
    return Example(given[:, :context], given[:, context:])


@pytest.mark.parametrize("make", METHODS)
def test_the_loss_falls(make) -> None:
    """On one object whose views all have one colour."""
    method = make().train()
    given = views(1, 3)
    images = torch.tensor([0.8, 0.2, 0.3]).view(3, 1, 1).expand_as(given.images)
    given = dataclasses.replace(given, images=images.contiguous())
    data = Example(given[:, :1], given[:, 1:])
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(40):
        loss = method.loss(data, generator)
        assert loss.terms.keys() == {"fine", "coarse"}
        torch.testing.assert_close(loss.total, sum(loss.terms.values()))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("make", METHODS)
def test_every_parameter_learns(make) -> None:
    method = make().train()
    method.loss(example(), torch.Generator().manual_seed(0)).total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("make", METHODS)
def test_seeds_change_nothing_and_steps_are_reported(make) -> None:
    method, context = make(), example().context
    reported: list[tuple[int, int, Scene]] = []
    first = method.sample_scene(
        context, [0, 1], on_step=lambda *step: reported.append(step)
    )
    second = method.sample_scene(context, [5, 6], options=SampleOptions())
    assert torch.equal(first.sources.maps, second.sources.maps)
    assert not method.stochastic
    assert [step[:2] for step in reported] == [(1, 1)] and reported[0][2] is first
    assert first.sources.maps.requires_grad is False


@pytest.mark.parametrize("make", METHODS)
def test_sampling_is_in_evaluation_mode(make) -> None:
    """Whatever the method's mode: entries of a batch are independent of each other."""
    method, context = make().train(), example(batch=2).context
    both = method.sample_scene(context, [0, 0]).sources.maps
    alone = method.sample_scene(context[1:], [0]).sources.maps
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert method.training


def test_more_views_change_the_scene() -> None:
    method = pixelnerf()
    context = example(batch=1, context=2).context
    camera = cameras(1, 2.0)[None]
    two = method.sample_scene(context, [0]).render(camera, (8, 8)).color
    one = method.sample_scene(context[:, :1], [0]).render(camera, (8, 8)).color
    assert (one - two).abs().max() > 1e-3
    # The order of views does not matter.
    turned = context[:, [1, 0]]
    again = method.sample_scene(turned, [0]).render(camera, (8, 8)).color
    torch.testing.assert_close(two, again, rtol=0, atol=1e-4)


def test_visionnerf_takes_one_view() -> None:
    with pytest.raises(UserError, match="of one image, not of 2"):
        visionnerf().sample_scene(example(context=2).context, [0, 0])


def test_training_draws_how_many_views_it_uses() -> None:
    method = pixelnerf(context_weights=(0.5, 0.5)).train()
    given = example(batch=1, context=2)
    used = set()
    method.encoder.register_forward_hook(lambda m, args, out: used.add(len(args[0])))
    for seed in range(6):
        method.loss(given, torch.Generator().manual_seed(seed))
    assert used == {1, 2}


# ---- Rays that training looks at -----------------------------------------------------


def boxed_views() -> Views:
    """Two scenes of two views: a red rectangle on white, or nothing at all."""
    images = torch.ones(2, 2, 3, 12, 16)
    images[0, 0, 1:, 3:7, 5:9] = 0
    images[0, 1, 1:, 8:10, 1:3] = 0
    images[1, 0, 1:, 2:4, 10:15] = 0
    given = Cameras.stack([cameras(2), cameras(2, 1.0)])
    return Views(images, given)


def test_rays_are_pooled_over_views_and_show_their_pixel() -> None:
    given = views(2, 3)
    generator = torch.Generator().manual_seed(0)
    chosen = choose_rays(given, 500, 0.0, WHITE, generator)
    for scene in range(2):
        centers = chosen.cameras.centers[scene]
        which = (centers[:, None] - given.cameras.centers[scene]).norm(dim=-1).argmin(1)
        assert which.bincount().min() > 100
        shown = given.images[scene, which].flatten(2)
        index = chosen.pixels[scene].view(-1, 1, 1).expand(-1, 3, 1)
        assert torch.equal(shown.gather(2, index)[..., 0], chosen.colors[scene])
    assert chosen.pixels.unique().numel() > 0.8 * SIZE * SIZE


def test_rays_in_the_objects_box() -> None:
    generator = torch.Generator().manual_seed(0)
    chosen = choose_rays(boxed_views(), 400, 1.0, WHITE, generator)
    red = chosen.colors[..., 1] == 0
    assert red[0].all()
    # The second view of the second scene shows nothing: all of it is its box.
    second = chosen.cameras.centers[1] - boxed_views().cameras.centers[1, 1]
    second = second.norm(dim=-1) < 1e-6
    assert red[1][~second].all() and not red[1][second].any()
    assert chosen.pixels[1][second].unique().numel() > 80
    some = choose_rays(boxed_views(), 400, 0.5, WHITE, generator)
    assert 0.4 < (some.colors[0, :, 1] == 0).float().mean() < 0.75


def test_objects_are_what_masks_say_or_differs_from_the_background() -> None:
    given = boxed_views()
    assert torch.equal(object_pixels(given, WHITE), given.images[:, :, 1] == 0)
    assert object_pixels(given, torch.zeros(3)).all()
    masks = torch.zeros(2, 2, 12, 16)
    masks[..., 0, 0] = 1
    masked = dataclasses.replace(given, masks=masks)
    assert torch.equal(object_pixels(masked, WHITE), masks > 0)
