"""Data sets and methods whose novel views are known in closed form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from tests.analytic_scene import SkyScene
from unseen.data.cameras import object_cameras
from unseen.data.dataset import PosedDataset
from unseen.data.manifest import ManifestWriter, ObjectRecord
from unseen.data.srn_files import write_object
from unseen.geometry.views import Views
from unseen.methods.method import SceneMethod, ViewMethod

SIZE = 8


class Sky(SceneMethod):
    """Finds the tint of a sky, which one image tells exactly."""

    stochastic: ClassVar = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.contexts: list[Views] = []
        self.seeds: list[int] = []

    def loss(self, example, generator):
        raise AssertionError("evaluation does not train")

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        self.contexts.append(context)
        self.seeds += seeds
        white = SkyScene(torch.ones(context.shape[0], 3))
        shown = white.render(context.cameras, context.size).color
        ratio = context.images.mean(dim=(1, 3, 4)) / shown.mean(dim=(1, 3, 4))
        return SkyScene(self.weight * ratio)


class Flat(Sky):
    """One grey, whatever the input."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def sample_scene(self, context, seeds, cameras=None, options=None, on_step=None):
        assert cameras is not None and len(seeds) == cameras.shape[0] == 1
        self.seeds += seeds
        return [FlatScene(torch.full((3,), self.level / 255))]


class FlatScene(SkyScene):
    def render(self, cameras, size):
        found = super().render(cameras, size)
        color = self.tint[:, None, None].expand_as(found.color)
        return dataclasses.replace(found, color=color)


class InMemory(PosedDataset):
    """Scenes of a memory, by name."""

    def __init__(self, scenes: dict[str, Views], root: str = "memory") -> None:
        self.scenes, self.root = scenes, Path(root)

    @property
    def scene_ids(self) -> list[str]:
        return list(self.scenes)

    def num_views(self, index: int) -> int:
        return len(self.scenes[self.scene_ids[index]])

    def load(self, index: int, view_indices: list[int] | None = None) -> Views:
        views = self.scenes[self.scene_ids[index]]
        return views if view_indices is None else views[view_indices]


def of_counts(counts: dict[str, int]) -> InMemory:
    """A data set of scenes with so many views."""
    return InMemory({name: flat(100, views) for name, views in counts.items()})


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
    """Views of a sky of a random tint."""
    generator = torch.Generator().manual_seed(seed)
    cameras = object_cameras(views, generator)
    scene = SkyScene(0.3 + 0.7 * torch.rand(3, generator=generator))
    return Views(scene.render(cameras, (SIZE, SIZE)).color, cameras)


def decibels(errors: Sequence[float] | float) -> float:
    """PSNR of a difference of so many of 255 levels, averaged over several."""
    several = [errors] if isinstance(errors, int | float) else list(errors)
    return sum(-20 * math.log10(abs(e) / 255) for e in several) / len(several)


class Painter(ViewMethod):
    """Samples flat views: of the given grey, the view's number and the seed's parity.

    A view is one level (of 255) lighter than the last known one; every other sample is
    30 levels lighter than the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.known: list[int] = []
        self.seeds: list[int] = []

    def loss(self, example, generator):
        raise AssertionError("evaluation does not train")

    def sample_view(self, known, camera, seeds, options=None, on_step=None):
        assert known.masks is None and camera.shape == (len(seeds),)
        self.known.append(known.shape[1])
        self.seeds += seeds
        odd = torch.arange(len(seeds)) % 2 if known.shape[1] == 1 else 0
        level = (
            known.images[:, -1]
            + (1 + 30 * torch.as_tensor(odd))[..., None, None, None].expand(
                len(seeds), 3, 1, 1
            )
            / 255
        )
        return self.weight.detach() * level
