"""Views without their background."""

from __future__ import annotations

import torch

from tests.geometry.random_cameras import random_cameras
from unseen.geometry.ray_choice import without_background
from unseen.geometry.views import Views


def test_masks_are_cut_and_the_rest_is_one_colour(generator) -> None:
    background = torch.tensor([0.2, 0.4, 0.6])
    images = torch.rand(2, 3, 1, 2, generator=generator)
    masks = torch.tensor([[[0.5, 0.4]], [[1.0, 0.0]]])
    cameras = random_cameras(2, generator)
    found = without_background(Views(images, cameras, masks, masks), background)
    assert torch.equal(found.images[..., 0], images[..., 0])
    assert torch.equal(found.images[..., 1], background.expand(2, 3)[..., None])
    assert found.masks is not None and found.masks.flatten().tolist() == [1, 0, 1, 0]
    assert found.depths is None
    # Without masks the background's colour tells; nothing is changed.
    again = without_background(Views(found.images, cameras), background)
    assert torch.equal(again.images, found.images)
    assert again.masks is not None and torch.equal(again.masks, found.masks)
