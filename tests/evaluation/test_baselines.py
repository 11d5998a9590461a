"""The baselines against closed forms: objects of one colour, and known skies."""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.made_up import SIZE, InMemory, flat, skies
from unseen.data.cameras import sphere_cameras
from unseen.errors import UserError
from unseen.evaluation.baselines import (
    load_views,
    nearest_directions,
    study_training_views,
)


def test_every_training_image_counts_the_same() -> None:
    """The mean is that of all images: (3 x 100 + 2 x 200) / 5."""
    training = [InMemory({"a": flat(100, 3)}), InMemory({"b": flat(200, 2)})]
    inputs = torch.stack([flat(170, 1).images[0], flat(90, 1).images[0]])
    reports: list[tuple[int, int]] = []
    known = study_training_views(training, inputs, lambda *done: reports.append(done))
    torch.testing.assert_close(known.mean, torch.full((3, SIZE, SIZE), 140 / 255))
    assert known.nearest == [(1, 0), (0, 0)] and reports == [(1, 2), (2, 2)]
    cameras = flat(0, 4).cameras
    assert known.mean_image(cameras).shape == (4, 3, SIZE, SIZE)
    grey = torch.full((4, 3, SIZE, SIZE), 200 / 255)
    torch.testing.assert_close(known.nearest_object(0, cameras), grey)


def test_the_nearest_object_is_shown_from_where_it_is_asked_for() -> None:
    """The training object with the same sky, and cameras that are the same."""
    same, other = skies(6, seed=7), skies(6, seed=8)
    training = InMemory({"a": other, "b": same[[0, 5, 4, 3, 2, 1]]})
    known = study_training_views([training], same.images[:1])
    shown = known.nearest_object(0, same.cameras[1:])
    torch.testing.assert_close(shown, same.images[1:])


def test_nearest_directions() -> None:
    def at(degrees: list[float]):
        azimuths = torch.deg2rad(torch.tensor(degrees))
        return sphere_cameras(azimuths, torch.zeros_like(azimuths), torch.tensor(0.7))

    chosen = nearest_directions(at([5.0, 170.0, 358.0]), at([180.0, 90.0, 0.0, 20.0]))
    assert chosen.tolist() == [2, 0, 2]


def test_views_are_shrunk_and_never_enlarged() -> None:
    large = InMemory({"a": flat(9, 2, size=32)})
    assert load_views(large, 0, 16, [1]).images.shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match="render the data with --size 16"):
        load_views(InMemory({"a": flat(1, 3)}), 0, 16)
