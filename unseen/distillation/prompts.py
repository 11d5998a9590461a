"""Prompts that depend on where a view looks from, and their embeddings."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.distillation.cameras import Viewpoints
from unseen.distillation.prior import Branch, ViewPrior

Direction = Literal["front", "side", "back", "overhead"]
DIRECTIONS: tuple[Direction, ...] = ("front", "side", "back", "overhead")


@dataclasses.dataclass(frozen=True)
class PromptConfig:
    """How prompts depend on the view; angles in degrees."""

    views: Literal["none", "suffix", "prefix"] = "suffix"
    """'P, front view', as DreamFusion and threestudio; 'front view of P', as SJC, whose
    back is the 'backside'; or the same prompt for all views."""

    front: float = 45.0
    """The front is seen up to this azimuth, the back from 180 less this on."""

    overhead: float = 60.0
    """From this elevation on, the view is overhead."""

    negative: str = ""
    """What is not wanted: the unconditional branch's prompt."""

    perpendicular: bool = False
    """Whether the directions that are not seen are negative prompts (Perp-Neg)."""


def direction_of(azimuth: float, elevation: float, config: PromptConfig) -> Direction:
    """The direction that a viewpoint is called."""
    if elevation > config.overhead:
        return "overhead"
    if abs(azimuth) < config.front:
        return "front"
    return "back" if abs(azimuth) > 180 - config.front else "side"


def view_prompt(prompt: str, direction: Direction, config: PromptConfig) -> str:
    """The prompt of one direction."""
    if config.views == "none":
        return prompt
    if config.views == "suffix":
        return f"{prompt}, {direction} view"
    word = "backside" if direction == "back" else direction
    return f"{word} view of {prompt}"


class Prompts:
    """A prompt's embeddings for all directions, computed once."""

    def __init__(self, prior: ViewPrior, prompt: str, config: PromptConfig) -> None:
        self.config = config
        ending = prior.abilities.suffix
        texts = [view_prompt(prompt, d, config) + ending for d in DIRECTIONS]
        found = prior.embed([*texts, config.negative])
        self._embedded = dict(zip([*DIRECTIONS, "negative"], found, strict=True))

    def branches(self, seen: Viewpoints, guided: bool) -> list[Branch]:
        """Conditional, and if `guided` unconditional, branches of views."""
        pairs = zip(seen.azimuth.tolist(), seen.elevation.tolist(), strict=True)
        names = [direction_of(a, e, self.config) for a, e in pairs]
        found = [Branch(True, self._stack(names))]
        if guided:
            found.append(Branch(False, self._stack(["negative"] * len(names))))
        return found

    def perpendicular_branches(
        self, seen: Viewpoints
    ) -> tuple[list[Branch], Float[Tensor, "negative=2 view"]]:
        """Conditional, unconditional and two negative branches, and their weights.

        The condition is interpolated between the two nearest directions of front, side
        and back. threestudio's weights: -(a exp(-b r) + c) of the interpolation's r.
        """
        rows = [
            _perpendicular(azimuth, elevation, self.config)
            for azimuth, elevation in zip(
                seen.azimuth.tolist(), seen.elevation.tolist(), strict=True
            )
        ]
        positive = torch.stack(
            [
                sum(share * self._embedded[name] for name, share in row.mixed)  # type: ignore[misc]
                for row in rows
            ]
        )
        branches = [
            Branch(True, positive),
            Branch(False, self._stack(["negative"] * len(rows))),
            *(Branch(False, self._stack([r.names[i] for r in rows])) for i in range(2)),
        ]
        weights = torch.tensor([[row.weights[i] for row in rows] for i in range(2)])
        return branches, weights.to(positive.device)

    def _stack(self, names: list) -> Float[Tensor, "view token channel"]:
        return torch.stack([self._embedded[name] for name in names])


@dataclasses.dataclass(frozen=True)
class _Perpendicular:
    mixed: tuple[tuple[str, float], ...]
    names: tuple[str, str]
    weights: tuple[float, float]


def _perpendicular(
    azimuth: float, elevation: float, config: PromptConfig
) -> _Perpendicular:
    if elevation > config.overhead:
        names = ("negative", "negative")
        return _Perpendicular((("overhead", 1.0),), names, (0.0, 0.0))
    turned = abs(azimuth) / 90
    if turned < 1:
        front = 1 - turned
        weights = _decay(4.0, 0.5, -2.426, front), _decay(4.0, 0.5, -2.426, 1 - front)
        return _Perpendicular(
            (("front", front), ("side", 1 - front)), ("front", "side"), weights
        )
    side = 2 - turned
    weights = _decay(1.0, 0.5, -0.606, side), _decay(1.0, 0.5, 0.967, side)
    return _Perpendicular(
        (("side", side), ("back", 1 - side)), ("side", "front"), weights
    )


def _decay(a: float, b: float, c: float, r: float) -> float:
    return -(a * math.exp(-b * r) + c)
