"""Views and examples: batch axes, optional parts, refusals."""

import pytest
import torch

from tests.geometry.random_cameras import random_cameras
from unseen.geometry.views import Example, Views


def make_views(num: int, seed: int = 0, masks: bool = True) -> Views:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num, 3, 4, 5, generator=generator)
    cameras = random_cameras(num, generator).to(torch.float32)
    depths = torch.rand(num, 4, 5, generator=generator)
    return Views(images, cameras, (depths > 0.5).float() if masks else None, depths)


def test_indexing_keeps_everything_together():
    views = make_views(4)
    assert views.shape == (4,) and len(views) == 4 and views.size == (4, 5)
    chosen = views[torch.tensor([2, 0])]
    for k, source in enumerate((2, 0)):
        assert torch.equal(chosen.images[k], views.images[source])
        assert torch.equal(chosen.cameras.near[k], views.cameras.near[source])
        assert chosen.masks is not None and views.masks is not None
        assert torch.equal(chosen.masks[k], views.masks[source])
        assert chosen.depths is not None and views.depths is not None
        assert torch.equal(chosen.depths[k], views.depths[source])


def test_flattening_keeps_everything_together():
    rows = [make_views(3), make_views(3, seed=1)]
    flat, source = Views.stack(rows).flatten(), rows[1][1]
    assert flat.shape == (6,)
    assert torch.equal(flat.images[4], source.images)
    assert torch.equal(flat.cameras.near[4], source.cameras.near)
    assert flat.masks is not None and source.masks is not None
    assert torch.equal(flat.masks[4], source.masks)


def test_stack_and_cat_invert_indexing():
    views = make_views(4)
    for joined in (
        Views.stack([views[k] for k in range(4)]),
        Views.cat([views[:1], views[1:]]),
    ):
        assert torch.equal(joined.images, views.images)
        assert torch.equal(joined.cameras.extrinsics, views.cameras.extrinsics)
        assert joined.masks is not None and views.masks is not None
        assert torch.equal(joined.masks, views.masks)


def test_parts_that_not_all_have_are_dropped():
    joined = Views.cat([make_views(2), make_views(1, masks=False)])
    assert joined.masks is None
    assert joined.depths is not None and joined.depths.shape == (3, 4, 5)


def test_one_camera_per_image_is_required():
    views = make_views(3)
    with pytest.raises(ValueError, match="one camera per image"):
        Views(views.images, views.cameras[:2])


def test_examples_stack_into_a_batch():
    examples = [Example(make_views(1, k), make_views(2, k + 10)) for k in range(3)]
    batch = Example.stack(examples)
    assert batch.context.shape == (3, 1) and batch.target.shape == (3, 2)
    assert torch.equal(batch.target.images[1], examples[1].target.images)
    assert batch.to("cpu").context.images.device.type == "cpu"
