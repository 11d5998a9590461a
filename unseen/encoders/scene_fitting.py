"""Auto-decoders: scenes whose codes are fitted to images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from unseen.encoders.auto_decoder import Codes, FitConfig, FittedCodes, fit_codes
from unseen.scenes.coded_field import CodedFieldScene
from unseen.scenes.light_field import LightFieldScene
from unseen.scenes.ray_marched import RayMarchedScene

AnyScene = TypeVar("AnyScene", CodedFieldScene, LightFieldScene, RayMarchedScene)


def fit_scenes(
    scenes_of: Callable[[dict[str, Tensor]], AnyScene],
    error: Callable[[AnyScene, Sequence[torch.Generator]], Tensor],
    start: Codes,
    config: FitConfig,
    seeds: Sequence[int],
    prior: Callable[[dict[str, Tensor]], Tensor],
    on_step: Callable[[int, int, AnyScene], None] | None = None,
    rates: Mapping[str, float] | None = None,
) -> tuple[AnyScene, FittedCodes]:
    """The scenes (batch,) of the codes that `fit_codes` finds, and what it found.

    `scenes_of` makes scenes of codes; `error` takes these and one generator per entry,
    and returns one number per entry. `on_step` gets the number of steps done, of steps
    to do, and the scenes before the last of them.
    """
    latest: list[AnyScene] = []

    def loss(codes: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        scenes = scenes_of(codes)
        if on_step is not None:
            # Codes are moved in place: what is reported must not move with them.
            latest[:] = [scenes.detach()]
        return error(scenes, generators)

    def report(done: int, total: int) -> None:
        if on_step is not None:
            on_step(done, total, latest[0])

    fitted = fit_codes(start, loss, config, seeds, prior, rates, report)
    return scenes_of(fitted.codes).detach(), fitted
