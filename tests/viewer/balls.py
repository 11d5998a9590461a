"""Balls to look at, a method that blows up balls step by step, and a page of them."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import nn

from tests.analytic_scene import BallScene, ball
from unseen.data.cameras import object_camera
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.method import Losses, OnStep, SampleOptions, SceneMethod
from unseen.model import Model
from unseen.scenes.scene import Scene
from unseen.viewer.sample import Sample
from unseen.viewer.server import Viewer
from unseen.viewer.studio import Exhibition


def given_view() -> Views:
    """A half red, half blue input (1,), taken from where models take theirs."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, :, :16] = image[:, 2, :, 16:] = 1
    return Views(image, object_camera(40.0, 20.0))


def ball_samples(*radii: float, given: Views | None = None) -> list[Sample]:
    """Balls of some radii, or of 0.6."""
    found = radii or (0.6,)
    return [Sample(f"ball {i}", ball(radius=r), given) for i, r in enumerate(found)]


@dataclasses.dataclass(frozen=True)
class Balls(BallScene):
    """A batch of equal balls."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def __getitem__(self, index: int | slice) -> BallScene:
        return ball(radius=float(self.radius))


@dataclasses.dataclass(frozen=True)
class BallConfig:
    image_size: int = 16


class BallMethod(SceneMethod):
    """Every step makes the balls larger; calls `on_any_step` before it reports."""

    sample_options: ClassVar[frozenset[str]] = frozenset({"num_steps"})
    scenes_at_once: ClassVar[int] = 2

    def __init__(self, on_any_step: Callable[[int], None]) -> None:
        super().__init__()
        self.config = BallConfig()
        self.weight = nn.Parameter(torch.zeros(1))
        self.on_any_step = on_any_step

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        raise AssertionError("not trained")

    def sample_scene(
        self,
        context: Views,
        seeds: Sequence[int],
        cameras: Cameras | None = None,
        options: SampleOptions | None = None,
        on_step: OnStep | None = None,
    ) -> Scene:
        steps = (options and options.num_steps) or 4
        scene = None
        for step in range(1, steps + 1):
            self.on_any_step(step)
            radius = torch.tensor(0.3 + 0.3 * step / steps)
            scene = Balls(torch.zeros(3), radius)
            if on_step is not None:
                on_step(step, steps, scene)
        assert scene is not None
        return scene


def ball_model(on_any_step: Callable[[int], None] = lambda step: None) -> Model:
    return Model(BallMethod(on_any_step))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def viewing(exhibition: Exhibition) -> Iterator[Viewer]:
    """A page on a free port."""
    with Viewer(exhibition, port=free_port()) as viewer:
        yield viewer


def wait_until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    """Poll; an assertion error when it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
