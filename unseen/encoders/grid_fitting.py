"""Voxel grids fitted to the images of many objects, and kept on disk.

The first stage of DiffRF (Mueller et al., CVPR 2023, section 3.1): an explicit radiance
field on a grid for every training object, by optimisation against its posed images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from jaxtyping import Float, Int
from torch import Tensor

from unseen.configuration import read_json, write_json
from unseen.errors import UserError
from unseen.files import check_finite, make_folder, read_tensors, write_tensors
from unseen.geometry.cameras import Cameras
from unseen.geometry.ray_choice import ChosenRays
from unseen.geometry.views import Views
from unseen.scenes.grid_space import GridSpace
from unseen.scenes.scene import Scene


@dataclasses.dataclass(frozen=True)
class GridFitConfig:
    """How grids are fitted. The numbers are our choice, not the paper's."""

    num_steps: int = 300
    """Steps of Adam."""

    learning_rate: float = 0.05
    """Its step length at first, in units of the grid's range [-1, 1]; it falls to zero
    along half a cosine."""

    rays: int = 1024
    """Pixels of each object that a step looks at, pooled over its views."""

    smoothness: float = 0.1
    """Weight of the mean squared difference of neighbouring voxels: what no ray sees
    becomes like what is around it, and objects become alike where nothing is seen."""

    objects_at_once: int = 8
    """Objects that are fitted together."""


def draw_rays(
    views: Sequence[Views], count: int, generators: Sequence[torch.Generator]
) -> ChosenRays:
    """`count` random pixels of each object, pooled over its views (view,).

    Those of object i come from generator i; they may repeat.
    """
    cameras, pixels, colors = [], [], []
    for shown, generator in zip(views, generators, strict=True):
        height, width = shown.size
        total = len(shown) * height * width
        index = torch.randint(total, (count,), generator=generator)
        index = index.to(shown.images.device)
        which, pixel = index // (height * width), index % (height * width)
        cameras.append(shown.cameras[which])
        pixels.append(pixel)
        colors.append(shown.images.flatten(2)[which, :, pixel])
    return ChosenRays(Cameras.stack(cameras), torch.stack(pixels), torch.stack(colors))


def image_errors(
    scenes: Scene,
    views: Sequence[Views],
    count: int,
    generators: Sequence[torch.Generator],
) -> Float[Tensor, "batch"]:
    """Mean squared colour errors, in [0, 1], of scenes (batch,) at random pixels.

    See `draw_rays`; images of all objects have one size.
    """
    rays = draw_rays(views, count, generators)
    # A ray is a camera with one pixel.
    found = scenes.render_pixels(rays.cameras, views[0].size, rays.pixels[..., None])
    return (found.color[:, :, 0] - rays.colors).square().mean(dim=(1, 2))


def roughness(
    grid: Float[Tensor, "batch channel depth height width"],
) -> Float[Tensor, "batch"]:
    """Mean squared difference of neighbouring voxels, summed over the three axes."""
    parts = [grid.diff(dim=axis).square().mean(dim=(1, 2, 3, 4)) for axis in (2, 3, 4)]
    return torch.stack(parts).sum(dim=0)


def fit_grids(
    views: Sequence[Views],
    space: GridSpace,
    config: GridFitConfig,
    seeds: Sequence[int],
) -> Float[Tensor, "batch 4 depth height width"]:
    """Grids in [-1, 1] whose scenes look like the views (view,) of each object.

    Images of all objects have one size. What is random about object i comes from
    `seeds[i]`: it is fitted as if alone.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    device = views[0].images.device
    grid = torch.zeros(len(views), *space.shape, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([grid], betas=(0.9, 0.99))
    for step in range(config.num_steps):
        share = 0.5 + 0.5 * math.cos(math.pi * step / config.num_steps)
        optimizer.param_groups[0]["lr"] = config.learning_rate * share
        with torch.enable_grad():
            error = image_errors(space.scene(grid), views, config.rays, generators)
            loss = (error + config.smoothness * roughness(grid)).sum()
            (grid.grad,) = torch.autograd.grad(loss, grid)
        optimizer.step()
        with torch.no_grad():
            grid.clamp_(-1, 1)
    return grid.detach()


class GridStore:
    """Grids on disk, one file per object, and what they were made of.

    Raises:
        UserError: the folder holds grids of other objects, or of other settings.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.names = folder, tuple(names)
        path = folder / "grids.json"
        wanted = {"settings": dict(settings), "objects": list(names)}
        if path.is_file():
            found = read_json(path)
            for key in wanted:
                if found.get(key) != wanted[key]:
                    raise UserError(
                        f"{folder} holds grids of other {key}: name another folder "
                        "with --prepared, or remove this one."
                    )
        else:
            make_folder(folder)
            write_json(path, wanted)

    def __len__(self) -> int:
        return len(self.names)

    def missing(self) -> list[int]:
        """The objects without a grid."""
        return [k for k in range(len(self)) if not self._path(k).is_file()]

    def write(self, number: int, grid: Float[Tensor, "channel d h w"]) -> None:
        """Keep the grid of an object, as half floats."""
        write_tensors(self._path(number), {"grid": grid.half()}, {})

    def read(
        self, objects: Int[Tensor, "batch"] | None
    ) -> Float[Tensor, "batch channel d h w"]:
        """The grids of objects, by their numbers.

        Raises:
            UserError: the data do not say which objects they show, or a grid is missing
                or damaged.
        """
        if objects is None or (objects.numel() and int(objects.max()) >= len(self)):
            raise UserError(
                "this method learns from a grid of each object, but the data do not "
                "say which object is which, or show one that no grid was fitted to: "
                "give examples with the `objects` that it was prepared with."
            )
        grids = []
        for number in objects.tolist():
            path = self._path(number)
            tensors, _ = read_tensors(path)
            check_finite(tensors, path)
            if "grid" not in tensors or tensors["grid"].ndim != 4:
                raise UserError(f"{path} holds no grid: remove it, and fit it again.")
            grids.append(tensors["grid"].float())
        if len({grid.shape for grid in grids}) > 1:
            raise UserError(
                f"the grids in {self.folder} differ in size: remove the folder, and "
                "fit them again."
            )
        return torch.stack(grids).to(objects.device)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def fit_missing(
    store: GridStore,
    load: Callable[[int], Views],
    space: GridSpace,
    config: GridFitConfig,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fit a grid to every object of the store that has none, and keep it.

    `load` gives the views (view,) of an object; `on_progress` gets the objects done
    and to do. An interruption loses what is being fitted.

    Of several processes (torch.distributed) each fits its own share, all of them have
    to call, and the store is whole when the last one is done.
    """
    own = _own_share(len(store))
    missing, total = [k for k in store.missing() if k in own], len(own)
    for first in range(0, len(missing), config.objects_at_once):
        if on_progress is not None:
            on_progress(total - len(missing) + first, total)
        chosen = missing[first : first + config.objects_at_once]
        grids = fit_grids([load(k) for k in chosen], space, config, chosen)
        for number, grid in zip(chosen, grids, strict=True):
            store.write(number, grid)
    if on_progress is not None and missing:
        on_progress(total, total)


def _own_share(count: int) -> range:
    """The numbers below `count` that are this process's.

    They do not depend on which grids there are: other processes add to those meanwhile.
    """
    if not torch.distributed.is_initialized():
        return range(count)
    first, step = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return range(first, count, step)
