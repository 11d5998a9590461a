"""Volume rendering of frustum volumes, compiled by numba, for the CPU.

The twin is `FrustumVolumeScene.render_pixels` in torch, where every step of the
computation (points, projections, look-ups, pooling, compositing) passes through main
memory. Here a ray stays in the cache from its first sample to its last, samples that
hold nothing read two channels instead of all, and rays end where nothing shines
through. The backward pass repeats the forward pass of a ray and walks back along it.

Work is shared out by entries of the batch, and forward also by rays, so results do
not depend on the number of threads.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.rendering.compiled import run_tasks
from unseen.rendering.frustum_kernels import march_back, march_forward

RAYS_PER_TASK = 256


@dataclasses.dataclass(frozen=True)
class FrustumRays:
    """Rays (batch, ray), and the frusta (batch, view) that they cross.

    `lines` holds, for a ray and a view, offset and slope along the ray's depth of the
    homogeneous image point (x, y, z): offset 3, slope 3. `starts` are the depths of
    the first samples, `steps` the distances between samples in depth, `lengths` the
    same in world units. `ranges` are the near and far of the views. If there are
    `cells`, samples in a cell that is false, or in none, hold nothing; `paths` are the
    rays in units of cells, offset 3 and slope 3.
    """

    lines: Float[Tensor, "batch ray view 6"]
    starts: Float[Tensor, "batch ray"]
    steps: Float[Tensor, "batch ray"]
    lengths: Float[Tensor, "batch ray"]
    ranges: Float[Tensor, "batch view 2"]
    cells: Bool[Tensor, "batch i j k"] | None = None
    paths: Float[Tensor, "batch ray 6"] | None = None


def render_frusta(
    volumes: Float[Tensor, "batch view height width slice channel"],
    rays: FrustumRays,
    num_samples: int,
    gain: float,
    bias: float,
) -> tuple[Float[Tensor, "batch ray sample"], Float[Tensor, "batch ray value"]]:
    """The weights of equally spaced samples, and colours and features composited.

    Channels of the volumes are those of `FrustumVolumeScene`; density is
    `gain` softplus(evidence + `bias`). Differentiable in the volumes.
    """
    return _Render.apply(volumes, rays, num_samples, gain, bias)


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx, volumes: Tensor, rays: FrustumRays, *settings: Any) -> Any:
        volumes = volumes.detach().float().contiguous()
        batch, count = rays.starts.shape
        weights = volumes.new_zeros(batch, count, settings[0])
        values = volumes.new_zeros(batch, count, volumes.shape[-1] - 2)
        ctx.save_for_backward(volumes)
        ctx.rays, ctx.settings = rays, settings
        size = tuple(volumes.shape[2:])
        arrays = [x.numpy() for x in (*_arrays(volumes, rays), weights, values)]
        run_tasks(
            march_forward,
            [
                (*(x[b] for x in arrays), size, *settings[1:], i, i + RAYS_PER_TASK)
                for b in range(batch)
                for i in range(0, count, RAYS_PER_TASK)
            ],
        )
        return weights, values

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Any:
        (volumes,) = ctx.saved_tensors
        given = [x.detach().float().contiguous() for x in gradients]
        found = torch.zeros_like(volumes)
        tensors = (*_arrays(volumes, ctx.rays), *given, found.flatten(1))
        arrays = [x.numpy() for x in tensors]
        settings = (tuple(volumes.shape[2:]), *ctx.settings[1:])
        run_tasks(
            march_back,
            [(*(x[b] for x in arrays), *settings) for b in range(len(volumes))],
        )
        return found, None, None, None, None


def _arrays(volumes: Tensor, rays: FrustumRays) -> list[Tensor]:
    """The kernels' inputs, flat but for the batch, and the rays where they count."""
    lines, ranges = rays.lines.flatten(1), rays.ranges.flatten(1)
    fields = (volumes.flatten(1), lines, rays.starts, rays.steps, rays.lengths, ranges)
    floats = [x.detach().float().contiguous() for x in fields]
    if rays.cells is None or rays.paths is None:
        # No cells at all stand for space about which nothing is known.
        none = torch.ones(len(volumes), 0, 0, 0, dtype=torch.bool)
        return [*floats, none, rays.starts.new_zeros(*rays.starts.shape, 6)]
    return [*floats, rays.cells.contiguous(), rays.paths.contiguous()]
