"""Settings of distillation, as plain values."""

from __future__ import annotations

import dataclasses
from typing import Literal

from unseen.diffusion.guidance import Origin
from unseen.distillation.cameras import CameraPrior, Interval
from unseen.distillation.forms import SDS, SJC, VSD, ImageSDS, MultiStep, Reconstruction
from unseen.distillation.prompts import PromptConfig
from unseen.distillation.ramp import Number
from unseen.distillation.representations import GaussianCloud, HashGrid, ValueGrid

AnyForm = SDS | ImageSDS | SJC | Reconstruction | MultiStep | VSD
AnyRepresentation = HashGrid | ValueGrid | GaussianCloud


@dataclasses.dataclass(frozen=True)
class GuidanceConfig:
    """Classifier-free guidance of the prior."""

    scale: float = 100.0
    """Strength, counted from `origin`."""

    origin: Origin = "unconditional"
    """Whether scale 1 (from the unconditional estimate) or 0 (from the conditional
    one) is no guidance."""

    @property
    def is_none(self) -> bool:
        """Whether the conditional estimate is all that is needed."""
        return self.scale == (1 if self.origin == "unconditional" else 0)


@dataclasses.dataclass(frozen=True)
class TimeConfig:
    """Noise levels: t is uniform between two numbers, which may change (annealing)."""

    low: Number = 0.02
    """The least noise."""

    high: Number = 0.98
    """The most noise."""

    shared: bool = False
    """One level for all views of a step, or one for each."""


@dataclasses.dataclass(frozen=True)
class LightConfig:
    """Shading with normals (DreamFusion, section 3.2)."""

    after: int = 2001
    """Steps that show the bare colours first."""

    lit: float = 0.75
    """How often a later step is lit."""

    textureless: float = 0.5
    """How often a lit step shows white surfaces."""

    ambient: float = 0.1
    """Share of the light that comes from everywhere."""

    spread: float = 1.0
    """How far lights stray from the camera's direction."""

    distance: Interval = (0.8, 1.5)
    """Of the lights from the origin."""


@dataclasses.dataclass(frozen=True)
class RegularizerConfig:
    """Weights of what else a scene should be; 0 leaves a term out."""

    orientation: Number = 0.0
    """Surfaces that are seen face the camera (see `Look.orientation`)."""

    opacity: Number = 0.0
    """sqrt(alpha^2 + 0.01) over pixels: what need not be there is not."""

    entropy: Number = 0.0
    """Entropy of alpha in nats over pixels: a pixel sees something, or does not."""

    emptiness: Number = 0.0
    """log(1 + 10 w) over the weights of samples (SJC): matter is in few places."""

    depth_smoothness: Number = 0.0
    """Half the mean absolute differences of depth between neighbouring pixels."""

    reference_color: Number = 0.0
    """Mean squared error of the colours that the given image shows."""

    reference_mask: Number = 0.0
    """Mean squared error of alpha where the given image is."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam or Adamax; the rates are the representation's."""

    kind: Literal["adam", "adamax"] = "adam"
    """Which of the two."""

    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the moments."""

    eps: float = 1e-15
    """Added to the root of the second moment."""


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """All that a distillation depends on, besides the prior, what it is told, and a
    seed."""

    representation: AnyRepresentation = dataclasses.field(default_factory=HashGrid)
    """What is optimised."""

    form: AnyForm = dataclasses.field(default_factory=SDS)
    """How the prior's answer becomes a gradient."""

    cameras: CameraPrior = dataclasses.field(default_factory=CameraPrior)
    """Where the scene is looked at from."""

    prompts: PromptConfig = dataclasses.field(default_factory=PromptConfig)
    """How prompts depend on the view."""

    guidance: GuidanceConfig = dataclasses.field(default_factory=GuidanceConfig)
    """Classifier-free guidance."""

    times: TimeConfig = dataclasses.field(default_factory=TimeConfig)
    """Noise levels."""

    regularizers: RegularizerConfig = dataclasses.field(
        default_factory=RegularizerConfig
    )
    """Further terms of the loss."""

    light: LightConfig | None = None
    """Shading; None shows bare colours."""

    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    """The optimiser."""

    weight: Number = 1.0
    """Of the prior's term."""

    steps: int = 10_000
    """Optimiser steps."""

    views: Number = 1
    """Views per step."""

    size: Number = 64
    """Side of the rendered views in pixels."""

    random_background: float = 0.0
    """How often a view has one random colour behind it."""

    needs_poses: bool = False
    """Whether it makes sense only with a prior that is told the cameras."""
