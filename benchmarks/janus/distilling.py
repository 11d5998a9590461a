"""How scenes are made: distilled from a prior, sampled by DFM, or rendered."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.janus.prior import SCHEDULE, TASKS, Kind, Task, TruckPrior, ViewNetwork
from benchmarks.janus.world import (
    ELEVATIONS,
    FIELD_OF_VIEW,
    GROUP,
    SIZE,
    TEST_SEEDS,
    cameras_at,
    make_truck,
    turntable,
)
from unseen.cli.progress import Bar, progress_bars
from unseen.data.cameras import MARGIN
from unseen.diffusion.from_noise import sample_from_noise
from unseen.diffusion.prediction import x0_from_v
from unseen.diffusion.schedules import unsqueeze_like
from unseen.distillation.cameras import CameraPrior
from unseen.distillation.config import (
    DistillConfig,
    GuidanceConfig,
    RegularizerConfig,
    TimeConfig,
)
from unseen.distillation.distiller import Distiller
from unseen.distillation.forms import SDS
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.ramp import ramp
from unseen.distillation.representations import GaussianCloud
from unseen.files import read_tensors, write_tensors
from unseen.geometry.views import Views
from unseen.model import Model
from unseen.scenes.scene import Scene
from unseen.training.random import derive_generator, derive_seed

VIEWS = 24
"""Views of a turntable that is scored."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """A scene's turntable (view), and the seconds of one core that the scene needed."""

    name: str
    images: Float[Tensor, "view 3 height width"]
    seconds: float


def distill_config(steps: int) -> DistillConfig:
    """Score distillation of Gaussians, from cameras as in training, for all priors.

    Priors of one view are asked about the same groups of four views as the one that
    sees them together, at one noise level.
    """
    return dataclasses.replace(
        DISTILL_PRESETS["small-gaussians"],
        # Enough for 32 pixels, and fast enough for few steps.
        representation=GaussianCloud(count=2000, rate=6e-3),
        form=SDS(),
        cameras=CameraPrior(
            elevation=ELEVATIONS,
            elevations="even",
            fov=(FIELD_OF_VIEW, FIELD_OF_VIEW),
            distance=(MARGIN, MARGIN),
            distance_unit="sine",
            group=GROUP,
        ),
        guidance=GuidanceConfig(1.0),
        times=TimeConfig(0.02, ramp(0, 0.98, 0.5, 2 * steps // 3), shared=True),
        regularizers=RegularizerConfig(),
        steps=steps,
        views=GROUP,
        size=SIZE,
    )


def kept(path: Path, make: Callable[[], Turn]) -> Turn:
    """What `make` makes, or what it made earlier."""
    if path.exists():
        tensors, metadata = read_tensors(path)
        seconds = float(metadata["seconds"])
        return Turn(path.stem, tensors["images"], seconds)
    turn = make()
    write_tensors(path, {"images": turn.images}, {"seconds": f"{turn.seconds:.1f}"})
    return turn


@torch.no_grad()
def look_around(scene: Scene, side: int) -> Float[Tensor, "view 3 height width"]:
    """The turntable of a scene (), rendered with `side` pixels and shrunk to SIZE."""
    cameras = turntable(VIEWS)
    views = Views(scene.render(cameras, (side, side)).color, cameras)
    return views.shrink((SIZE, SIZE)).images.clamp(0, 1)


def distill(
    network: ViewNetwork, kind: Kind, seed: int, config: DistillConfig, path: Path
) -> Turn:
    """The turntable of a scene that a prior finds likely; the scene goes to `path`."""
    started = time.process_time()
    prior = TruckPrior(network, kind)
    distiller = Distiller(prior, config, lambda step: derive_generator(seed, step))
    with progress_bars() as progress:
        bar = Bar(progress, path.stem)
        for step in range(config.steps):
            distiller.step(step)
            bar.report(step + 1, config.steps)
    seconds = time.process_time() - started
    scene = distiller.scene(config.steps)
    scene.save(path)
    return Turn(path.stem, look_around(scene, SIZE), seconds)


def given_view(number: int, side: int) -> Views:
    """The one view (1,) of held-out truck `number` that DFM is given.

    Neighbouring trucks are seen from directions that are a golden section of the circle
    apart, the first one from behind.
    """
    share = (0.5 + number * (math.sqrt(5) - 1) / 2) % 1
    azimuth = torch.tensor([2 * math.pi * share])
    cameras = cameras_at(azimuth, torch.tensor([math.radians(20.0)]))
    views = make_truck(TEST_SEEDS + number).render(cameras, side)
    return dataclasses.replace(views, depths=None)


def sample_directly(model: Model, number: int, steps: int | None, path: Path) -> Turn:
    """The turntable of what DFM samples of one view of a held-out truck."""
    given = given_view(number, model.image_size)
    with progress_bars() as progress:
        bar = Bar(progress, path.stem)
        started = time.process_time()
        scene = model.complete(given, 1, number, steps, progress=bar.report)[0]
        seconds = time.process_time() - started
    scene.save(path)
    return Turn(path.stem, look_around(scene, model.image_size), seconds)


def real_truck(number: int) -> Turn:
    """The turntable of a held-out truck itself."""
    started = time.process_time()
    views = make_truck(TEST_SEEDS + number).render(turntable(VIEWS), SIZE)
    return Turn(f"real-{number}", views.images, time.process_time() - started)


@torch.no_grad()
def sample_views(
    network: ViewNetwork, task: Task, groups: int, steps: int
) -> Float[Tensor, "group view 3 height width"]:
    """Images that the network draws by itself, at 20 degrees of elevation.

    Where it is told cameras, it is told azimuths 0, 90, 180 and 270 degrees.
    """
    azimuth = (2 * math.pi * torch.arange(GROUP) / GROUP).repeat(groups)
    elevation = torch.full_like(azimuth, math.radians(20.0))

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        level = t.repeat_interleave(GROUP)
        noisy = x_t.flatten(0, 1)
        v = network(noisy, level, azimuth, elevation, task)
        alpha, sigma = (unsqueeze_like(s, noisy) for s in SCHEDULE.alpha_sigma(level))
        return x0_from_v(noisy, v, alpha, sigma).clamp(-1, 1).unflatten(0, (-1, GROUP))

    seeds = [derive_seed(TASKS.index(task), group) for group in range(groups)]
    shape = (GROUP, 3, SIZE, SIZE)
    found = sample_from_noise(denoise, shape, seeds, SCHEDULE, steps)
    return (0.5 * (found + 1)).clamp(0, 1)
