"""From frustum volumes and rays to the compiled renderer's arrays."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.scenes.occupancy import Occupancy


@dataclasses.dataclass(frozen=True)
class MarchRays:
    """Rays with equally spaced samples.

    `directions` have z = 1 in their camera, `starts` are the depths of the first
    samples, `steps` and `lengths` the distances between samples in depth and in world
    units.
    """

    origins: Float[Tensor, "*batch ray 3"]
    directions: Float[Tensor, "*batch ray 3"]
    starts: Float[Tensor, "*batch ray"]
    steps: Float[Tensor, "*batch 1"]
    lengths: Float[Tensor, "*batch ray"]


def is_compiled(device: torch.device) -> bool:
    """Whether compiled loops stand in for torch: on a CPU."""
    return device.type == "cpu"


def march(
    volumes: Float[Tensor, "*scene view height width slice channel"],
    cameras: Cameras,
    rays: MarchRays,
    num_samples: int,
    density: tuple[float, float],
    occupancy: Occupancy | None = None,
) -> tuple[Float[Tensor, "*batch ray sample"], Float[Tensor, "*batch ray value"]]:
    """Weights of the samples, and composited colours and features.

    The rays' batch axes begin with those of the scenes. `density` are gain and bias of
    evidence (see `render_frusta`). With `occupancy`, which is that of one scene, empty
    space is skipped. Differentiable in the volumes.
    """
    # Compiled code takes a second to load, which `--help` need not wait for.
    from unseen.rendering.compiled_frustum import FrustumRays, render_frusta

    shape, batch = rays.starts.shape, math.prod(volumes.shape[:-5])
    views = cameras.reshape(batch, -1)

    def flat(x: Tensor, *last: int) -> Tensor:
        return x.expand(*shape, *last).reshape(batch, -1, *last)

    origins, directions = flat(rays.origins, 3), flat(rays.directions, 3)
    # A ray's image point is a line in homogeneous coordinates, in every view.
    rotation = views.extrinsics[..., :3, :3]
    to_image = views.intrinsics @ rotation.transpose(-1, -2)
    offset = origins[:, :, None] - views.centers[:, None]
    line = [
        torch.einsum("bvij,brvj->brvi", to_image, offset),
        torch.einsum("bvij,brj->brvi", to_image, directions),
    ]
    cells = paths = None
    if occupancy is not None:
        cells = occupancy.cells[None]
        low, high = occupancy.box
        scale = torch.tensor(cells.shape[1:]) / (high - low)
        paths = torch.cat([(origins - low) * scale, directions * scale], dim=-1)
    prepared = FrustumRays(
        torch.cat(line, dim=-1),
        flat(rays.starts),
        flat(rays.steps),
        flat(rays.lengths),
        torch.stack([views.near, views.far], dim=-1),
        cells,
        paths,
    )
    flat_volumes = volumes.reshape(batch, *volumes.shape[-5:])
    weights, values = render_frusta(flat_volumes, prepared, num_samples, *density)
    return weights.reshape(*shape, -1), values.reshape(*shape, -1)
