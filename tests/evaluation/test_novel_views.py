"""Novel-view quality against closed forms: objects of one colour, and a known sky."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from tests.analytic_scene import SkyScene
from unseen.data.cameras import object_cameras, sphere_cameras
from unseen.data.manifest import ManifestWriter, ObjectRecord
from unseen.data.srn_files import write_object
from unseen.data.srn_layout import SRNDataset
from unseen.errors import UserError
from unseen.evaluation.novel_views import (
    NovelNumbers,
    Quality,
    average,
    find_objects,
    input_view,
    measure_objects,
    nearest_directions,
    study_training_views,
)
from unseen.geometry.views import Views
from unseen.methods.method import SampleOptions, SceneMethod

SIZE = 8


class Sky(SceneMethod):
    """Finds the tint of a sky, which one image tells exactly."""

    stochastic: ClassVar = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.contexts: list[Views] = []

    def loss(self, example, generator):
        raise AssertionError("evaluation does not train")

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        self.contexts.append(context)
        white = SkyScene(torch.ones(context.shape[0], 3))
        shown = white.render(context.cameras, context.size).color
        mean = context.images.mean(dim=(1, 3, 4)) / shown.mean(dim=(1, 3, 4))
        return SkyScene(self.weight * mean)


def write_set(folder: Path, objects: dict[str, tuple[str, Views]]) -> Path:
    """A data set of objects by name, each of a split."""
    writer = ManifestWriter(folder, {"size": SIZE})
    for name, (split, views) in objects.items():
        write_object(folder, name, views)
        record = ObjectRecord(name, "made up", "0", "flat", split, len(views))
        writer.add(record)
    writer.finish()
    return folder


def flat(level: int, views: int, seed: int = 0, size: int = SIZE) -> Views:
    """Views of one grey, of 0 ... 255."""
    cameras = object_cameras(views, torch.Generator().manual_seed(seed))
    return Views(torch.full((views, 3, size, size), level / 255), cameras)


def skies(views: int, seed: int) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cameras = object_cameras(views, generator)
    scene = SkyScene(0.3 + 0.7 * torch.rand(3, generator=generator))
    return Views(scene.render(cameras, (SIZE, SIZE)).color, cameras)


def measure(method: SceneMethod, folder: Path, objects: int = 9) -> list[NovelNumbers]:
    test, train = SRNDataset(folder, "test"), SRNDataset(folder, "train")
    held_out = find_objects([test], objects, SIZE)
    inputs = torch.stack([item.image for item in held_out])
    known = study_training_views([train], inputs)
    return list(measure_objects(method, held_out, known, SampleOptions()))


def decibels(error: float) -> float:
    return -20 * math.log10(abs(error) / 255)


def test_the_input_view_of_the_protocol() -> None:
    assert [input_view(n) for n in (1, 24, 64, 65, 251)] == [0, 0, 0, 64, 64]


def test_a_method_that_knows_the_truth_and_baselines_in_closed_form(
    tmp_path: Path,
) -> None:
    objects = {
        "a": ("train", flat(100, 3)),
        "b": ("train", flat(200, 2)),
        "c": ("test", flat(170, 4)),
        "d": ("test", flat(90, 3)),
    }
    grey, dark = measure(Flat(160), write_set(tmp_path / "set", objects))
    assert (grey.objects, grey.views, dark.views) == (1, 3, 2)
    # The mean is that of all images: (3 x 100 + 2 x 200) / 5.
    assert grey.mean_image.psnr == pytest.approx(decibels(170 - 140), abs=1e-3)
    assert dark.mean_image.psnr == pytest.approx(decibels(90 - 140), abs=1e-3)
    assert grey.nearest_view.psnr == pytest.approx(decibels(170 - 200), abs=1e-3)
    assert dark.nearest_view.psnr == pytest.approx(decibels(90 - 100), abs=1e-3)
    assert grey.method.psnr == pytest.approx(decibels(10), abs=1e-3)
    # SSIM of flat images is its term of luminance.
    x, y, small = 160 / 255, 170 / 255, 0.01**2
    luminance = (2 * x * y + small) / (x * x + y * y + small)
    assert grey.method.ssim == pytest.approx(luminance, abs=1e-5)


class Flat(Sky):
    """One grey, whatever the input."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        assert cameras is not None and len(seeds) == cameras.shape[0] == 1
        return [FlatScene(torch.full((3,), self.level / 255))]


class FlatScene(SkyScene):
    def render(self, cameras, size):
        found = super().render(cameras, size)
        color = self.tint[:, None, None].expand_as(found.color)
        return dataclasses.replace(found, color=color)


def test_the_protocol_on_an_object_with_many_views(tmp_path: Path) -> None:
    views, method = skies(67, seed=5), Sky()
    objects = {"a": ("train", skies(3, seed=1)), "b": ("test", views)}
    (found,) = measure(method, write_set(tmp_path / "set", objects))
    assert found.views == 66
    (context,) = method.contexts
    assert context.shape == (1, 1) and context.masks is None
    given = views.images[64:65].mul(255).round() / 255
    torch.testing.assert_close(context.images[0], given)
    assert torch.equal(context.cameras.extrinsics[0], views.cameras.extrinsics[64:65])
    # Eight bits are all that is lost.
    assert found.method.psnr > 50 and found.method.ssim > 0.99
    assert found.method.psnr > found.nearest_view.psnr + 10


def test_the_nearest_object_is_shown_from_where_it_is_asked_for(tmp_path: Path) -> None:
    """The training object with the same sky, and cameras that are the same."""
    same, other = skies(6, seed=7), skies(6, seed=8)
    objects = {
        "a": ("train", other),
        "b": ("train", same[[0, 5, 4, 3, 2, 1]]),
        "c": ("test", same),
    }
    (found,) = measure(Sky(), write_set(tmp_path / "set", objects))
    assert found.nearest_view.psnr == 100 and found.nearest_view.ssim == 1


def test_nearest_directions() -> None:
    def at(degrees: list[float]):
        azimuths = torch.deg2rad(torch.tensor(degrees))
        return sphere_cameras(azimuths, torch.zeros_like(azimuths), torch.tensor(0.7))

    chosen = nearest_directions(at([5.0, 170.0, 358.0]), at([180.0, 90.0, 0.0, 20.0]))
    assert chosen.tolist() == [2, 0, 2]


def test_every_object_counts_the_same() -> None:
    def numbers(views: int, value: float) -> NovelNumbers:
        quality = Quality(value, value / 100)
        return NovelNumbers(1, views, quality, quality, quality)

    found = average([numbers(3, 10.0), numbers(250, 30.0)])
    assert (found.objects, found.views) == (2, 253)
    assert found.method == Quality(20.0, 0.2) == found.nearest_view


def test_objects_that_cannot_be_measured(tmp_path: Path) -> None:
    lone = write_set(tmp_path / "lone", {"a": ("test", flat(1, 1))})
    with pytest.raises(UserError, match="a has one view"):
        find_objects([SRNDataset(lone, "test")], 3, SIZE)
    small = write_set(tmp_path / "small", {"a": ("test", flat(1, 3))})
    with pytest.raises(UserError, match="render the data with --size 16"):
        find_objects([SRNDataset(small, "test")], 3, 16)
    # Larger ones are shrunk, and no more objects are taken than asked for.
    large = {name: ("test", flat(9, 2, size=32)) for name in "abc"}
    found = find_objects([SRNDataset(write_set(tmp_path / "l", large), "test")], 2, 16)
    assert [item.image.shape for item in found] == [(3, 16, 16)] * 2
