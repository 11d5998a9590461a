"""The interface of every method."""

from __future__ import annotations

import abc
import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class Losses:
    """The scalar to minimise and the named terms to report (detached)."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


class Method(nn.Module, abc.ABC):
    """A method: how it learns from an `Example` and how it samples novel views.

    Contexts, targets and cameras carry the axes (batch, view). Every random number
    comes from the generator that is passed in.
    """

    @abc.abstractmethod
    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        """The training loss of a batch of scenes."""

    @abc.abstractmethod
    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        """Novel views (batch, view) of one sampled scene per batch entry."""


class SceneMethod(Method):
    """A method whose samples are scenes."""

    @abc.abstractmethod
    def sample_scene(self, context: Views, generator: torch.Generator) -> Scene:
        """One scene per batch entry of `context`."""

    def sample(
        self, context: Views, cameras: Cameras, generator: torch.Generator
    ) -> Views:
        scene = self.sample_scene(context, generator)
        return Views(scene.render(cameras, context.size).color, cameras)
