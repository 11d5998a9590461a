"""Whole configurations of distillation, by name.

Those named after a system have its published implementation's settings; what differs is
listed in docs/methods/distillation.md.
"""

from __future__ import annotations

import dataclasses

from unseen.distillation.cameras import CameraPrior
from unseen.distillation.config import (
    DistillConfig,
    GuidanceConfig,
    LightConfig,
    OptimizerConfig,
    RegularizerConfig,
    TimeConfig,
)
from unseen.distillation.forms import SJC, VSD, MultiStep, Reconstruction
from unseen.distillation.prompts import PromptConfig
from unseen.distillation.ramp import Ramp, ramp
from unseen.distillation.representations import GaussianCloud, HashGrid, ValueGrid
from unseen.rendering.hash_encoding import HashLayout  # arrow: a setting of a scene
from unseen.scenes.hash_grid import HashGridConfig

_NEGATIVE = (
    "ugly, bad anatomy, blurry, pixelated, unnatural colors, poor lighting, cropped, "
    "lowres, low quality, artifacts, duplicate, deformed, bad proportions"
)

# One level more every 500 steps, from the eighth on.
_LEVELS = ramp(2000, 8, 16, 6000)

_DREAMFUSION = DistillConfig(
    HashGrid(
        HashGridConfig(radius=2.0, normals="analytic", num_samples=512), levels=_LEVELS
    ),
    cameras=CameraPrior(
        distance=(1.5, 2.0), shift=0.1, center=0.2, roll=0.02, radius=2.0
    ),
    guidance=GuidanceConfig(100.0, "conditional"),
    regularizers=RegularizerConfig(orientation=ramp(0, 10, 1000, 5000), opacity=1.0),
    light=LightConfig(),
    random_background=0.5,
)

_MVDREAM = DistillConfig(
    HashGrid(HashGridConfig(normals="analytic", num_samples=512), network_rate=0.001),
    form=Reconstruction(rescale=0.5),
    cameras=CameraPrior(
        elevation=(0.0, 30.0),
        elevations="even",
        fov=(15.0, 60.0),
        distance=(0.8, 1.0),
        distance_unit="tangent",
        group=4,
    ),
    prompts=PromptConfig(views="none", negative=_NEGATIVE),
    guidance=GuidanceConfig(50.0),
    times=TimeConfig(ramp(0, 0.98, 0.02, 8000), ramp(0, 0.98, 0.5, 8000), shared=True),
    views=Ramp(((5000, 8.0), (5000, 4.0))),
    size=Ramp(((5000, 64.0), (5000, 256.0))),
    random_background=0.5,
    needs_poses=True,
)

# Cameras that frame the unit sphere, as those of given images do.
_FRAMING = CameraPrior(
    elevation=(-10.0, 80.0),
    elevations="area",
    fov=(20.0, 20.0),
    distance=(1.05, 1.05),
    distance_unit="sine",
)

_ZERO123 = DistillConfig(
    HashGrid(HashGridConfig(normals="analytic", num_samples=512), hidden=2, sky=False),
    cameras=_FRAMING,
    prompts=PromptConfig(views="none"),
    guidance=GuidanceConfig(3.0),
    times=TimeConfig(ramp(0, 0.4, 0.2, 200), ramp(0, 0.85, 0.5, 200)),
    regularizers=RegularizerConfig(
        orientation=1.0,
        opacity=0.1,
        entropy=0.1,
        reference_color=500.0,
        reference_mask=50.0,
    ),
    optimizer=OptimizerConfig(eps=1e-8),
    weight=0.1,
    steps=600,
    views=Ramp(((200, 12.0), (200, 4.0), (300, 4.0), (300, 2.0))),
    size=Ramp(((200, 64.0), (200, 128.0), (300, 128.0), (300, 256.0))),
)

_SMALL_CAMERAS = CameraPrior(
    elevation=(-5.0, 50.0),
    elevations="even",
    fov=(30.0, 50.0),
    distance=(1.05, 1.05),
    distance_unit="sine",
)
_SMALL_GRID = HashGridConfig(
    HashLayout(levels=8, log2_rows=14, coarsest=8, growth=1.4), num_samples=48
)
_SMALL = DistillConfig(
    HashGrid(_SMALL_GRID, width=32, sky=False, occupancy=24),
    cameras=_SMALL_CAMERAS,
    guidance=GuidanceConfig(4.0),
    times=TimeConfig(0.02, ramp(0, 0.98, 0.5, 1000)),
    regularizers=RegularizerConfig(
        orientation=0.1,
        opacity=0.05,
        entropy=ramp(500, 0, 0.05, 1500),
        reference_color=50.0,
        reference_mask=10.0,
    ),
    weight=1e-3,
    steps=1500,
    views=2,
    size=48,
)

DISTILL_PRESETS: dict[str, DistillConfig] = {
    "dreamfusion": _DREAMFUSION,
    "dreamfusion-if": DistillConfig(
        _DREAMFUSION.representation,
        cameras=CameraPrior(
            elevation=(-10.0, 90.0),
            distance=(1.5, 2.0),
            shift=0.1,
            center=0.2,
            roll=0.02,
            radius=2.0,
        ),
        guidance=GuidanceConfig(20.0, "conditional"),
        regularizers=_DREAMFUSION.regularizers,
        light=LightConfig(),
        random_background=0.5,
    ),
    "sjc": DistillConfig(
        ValueGrid(),
        form=SJC(),
        # Even in the cosine of the angle from the zenith, from 1 to -0.11.
        cameras=CameraPrior(
            elevation=(-6.4, 90.0), elevations="area", distance=(1.5, 1.5)
        ),
        prompts=PromptConfig(views="prefix", overhead=41.8),
        guidance=GuidanceConfig(100.0),
        times=TimeConfig(0.010, 0.970),
        regularizers=RegularizerConfig(emptiness=Ramp(((5000, 1e4), (5000, 2e5)))),
        optimizer=OptimizerConfig("adamax", (0.9, 0.999), 1e-8),
    ),
    "mvdream": _MVDREAM,
    "zero123": _ZERO123,
    "sparsefusion": DistillConfig(
        HashGrid(
            HashGridConfig(
                HashLayout(log2_rows=16, growth=1.3819),
                activation="exp",
                blob="gaussian",
                blob_scale=5.0,
                blob_width=0.2,
            ),
            sky=False,
            background=(0.0, 0.0, 0.0),
            rate=5e-3,
            network_rate=5e-4,
        ),
        form=MultiStep(),
        cameras=_FRAMING,
        prompts=PromptConfig(views="none"),
        guidance=GuidanceConfig(1.0),
        times=TimeConfig(0.02, 0.99, shared=True),
        regularizers=RegularizerConfig(
            opacity=1e-3, reference_color=1.0, reference_mask=1.0
        ),
        steps=3000,
        size=128,
    ),
    "vsd": DistillConfig(
        HashGrid(HashGridConfig(num_samples=256)),
        form=VSD(),
        cameras=_DREAMFUSION.cameras,
        guidance=GuidanceConfig(7.5),
        times=TimeConfig(0.02, Ramp(((5000, 0.98), (5000, 0.5)))),
        random_background=0.5,
    ),
    "small": _SMALL,
    "small-mvdream": dataclasses.replace(
        _SMALL,
        form=Reconstruction(rescale=0.5),
        cameras=dataclasses.replace(_SMALL_CAMERAS, group=4),
        prompts=_MVDREAM.prompts,
        times=dataclasses.replace(_SMALL.times, shared=True),
        views=4,
        needs_poses=True,
    ),
    "small-gaussians": DistillConfig(
        GaussianCloud(),
        cameras=_SMALL_CAMERAS,
        guidance=GuidanceConfig(4.0),
        times=_SMALL.times,
        regularizers=_SMALL.regularizers,
        weight=1e-3,
        steps=1500,
        views=2,
        size=48,
    ),
    "small-latents": DistillConfig(
        ValueGrid(resolution=40, num_samples=80),
        form=SJC(),
        cameras=_SMALL_CAMERAS,
        guidance=GuidanceConfig(10.0),
        times=TimeConfig(0.02, 0.97),
        regularizers=RegularizerConfig(emptiness=Ramp(((1000, 1e3), (1000, 1e4)))),
        optimizer=OptimizerConfig("adamax", (0.9, 0.999), 1e-8),
        steps=2000,
        size=32,
    ),
}
