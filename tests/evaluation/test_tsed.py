"""Symmetric epipolar distance in closed form, and TSED on rendered views."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import make_object
from unseen.errors import UserError
from unseen.evaluation.tsed import (
    PairAgreement,
    SequenceAgreement,
    agreement,
    compare,
    find_features,
    symmetric_epipolar_distance,
)
from unseen.geometry.cameras import Cameras, intrinsics_from_fov
from unseen.geometry.projection import project
from unseen.geometry.views import Views


def beside(x: float, y: float = 0.0) -> Cameras:
    """A camera that looks along z, moved by x and y."""
    extrinsics = torch.eye(4)
    extrinsics[:2, 3] = torch.tensor([x, y])
    intrinsics = intrinsics_from_fov(torch.tensor(1.0))
    return Cameras(extrinsics, intrinsics, torch.tensor(1.0), torch.tensor(9.0))


def test_distance_of_known_displacements(generator: torch.Generator) -> None:
    first, second = beside(0.0), beside(0.3)
    points = torch.rand(20, 3, generator=generator) + torch.tensor([-0.5, -0.5, 3.0])
    x, y = project(first, points)[0], project(second, points)[0]
    size = (40, 100)
    true = symmetric_epipolar_distance(first, second, x, y, size)
    assert true.max() < 1e-3
    # Lines are rows: what is along them does not count, what is across counts in full,
    # in pixels of the height, and equally in both images.
    moved = y + torch.tensor([7 / 100, 3 / 40])
    found = symmetric_epipolar_distance(first, second, x, moved, size)
    assert torch.allclose(found, torch.tensor(3.0), atol=1e-3)
    # A slanted baseline: the distance from a line is neither along x nor along y.
    third = beside(0.3, 0.3)
    z = project(third, points)[0]
    found = symmetric_epipolar_distance(
        first, third, x, z + torch.tensor([2 / 100, 0]), (100, 100)
    )
    assert torch.allclose(found, torch.tensor(2 / math.sqrt(2)), atol=1e-3)
    swapped = symmetric_epipolar_distance(third, first, z, x, (100, 100))
    assert torch.allclose(
        swapped, symmetric_epipolar_distance(first, third, x, z, (100, 100)), atol=1e-4
    )


def test_one_place_has_no_epipolar_geometry() -> None:
    xy = torch.full((3, 2), 0.5)
    found = symmetric_epipolar_distance(beside(0.0), beside(0.0), xy, xy, (8, 8))
    assert found.isinf().all()


def test_the_score_is_the_share_of_consistent_pairs() -> None:
    pairs = ((12, 1.0), (9, 0.1), (30, 2.5), (10, 1.9))
    sequence = SequenceAgreement(tuple(PairAgreement(*pair) for pair in pairs))
    assert sequence.score() == 0.5
    assert sequence.curve([0.5, 1.5, 2.0, 4.0]) == [0, 0.25, 0.5, 0.75]
    assert sequence.score(min_matches=5) == 0.75


def test_renders_agree_with_their_cameras_and_with_no_others() -> None:
    angles = torch.deg2rad(torch.tensor([0.0, 8.0]))
    cameras = sphere_cameras(angles, torch.full((2,), 0.3), torch.tensor(0.7))
    views = make_object("house", 1).render(cameras, 128, supersample=3)
    features = [find_features(image) for image in views.images]
    true = compare(features, cameras[0], cameras[1], views.size)
    assert true.consistent() and true.median < 1 and true.matches >= 15

    # A generator that gets the pose wrong: by a roll, and by another elevation.
    rolled = torch.eye(4)
    cos, sin = math.cos(0.6), math.sin(0.6)
    rolled[:2, :2] = torch.tensor([[cos, -sin], [sin, cos]])
    roll = dataclasses.replace(cameras, extrinsics=cameras.extrinsics @ rolled)
    higher = sphere_cameras(angles, torch.tensor([0.3, 1.2]), torch.tensor(0.7))
    for wrong in (roll, higher):
        found = compare(features, cameras[0], wrong[1], views.size)
        assert found.matches == true.matches and not found.consistent()
    # An empty view matches nothing, whatever its camera.
    blank = find_features(torch.ones(3, 64, 64))
    assert (
        compare([features[0], blank], cameras[0], cameras[1], (128, 128)).matches == 0
    )


def test_a_sequence_is_compared_pair_by_pair() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2])
    cameras = sphere_cameras(angles, torch.full((3,), 0.3), torch.tensor(0.7))
    blank = Views(torch.ones(3, 3, 32, 32), cameras)
    assert agreement(blank).pairs == (PairAgreement(0, math.inf),) * 2
    assert agreement(blank).score() == 0
    with pytest.raises(UserError, match="1 has none"):
        agreement(blank[:1])
