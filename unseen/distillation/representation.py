"""Scenes as something to optimise: how they start, learn and are seen."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.scenes.look import Lighting, Look
from unseen.scenes.scene import Scene


class Representation(abc.ABC):
    """Settings of one kind of scene; a scene is a function of tensors by name."""

    @property
    def latents(self) -> bool:
        """Whether a scene shows a prior's latents, and no colours."""
        return False

    @property
    def has_normals(self) -> bool:
        """Whether a scene can be lit, and asked where its surfaces face."""
        return False

    @abc.abstractmethod
    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """All tensors of a new scene."""

    @abc.abstractmethod
    def rates(self) -> Mapping[str, float]:
        """Learning rates by the tensors' names (up to their first dot). What is not
        named stays as it is."""

    @abc.abstractmethod
    def scene(self, tensors: dict[str, Tensor], step: int) -> Scene:
        """The scene () that tensors make at a step, differentiably."""

    @abc.abstractmethod
    def see(
        self,
        scene: Scene,
        cameras: Cameras,
        size: tuple[int, int],
        lighting: Lighting | None,
        with_normals: bool,
        generator: torch.Generator | None,
    ) -> Look:
        """Views (view) of a scene that `scene` made."""

    @abc.abstractmethod
    def maintain(self, tensors: dict[str, Tensor], step: int) -> None:
        """Bring up to date, before a step, what is not optimised."""


def optimised(
    representation: Representation, tensors: Mapping[str, Any]
) -> dict[str, float]:
    """The rate of every tensor that is optimised, by its full name."""
    rates = representation.rates()
    found = {name: rates.get(name.split(".")[0], 0.0) for name in tensors}
    return {name: rate for name, rate in found.items() if rate > 0}
