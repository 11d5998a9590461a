"""Any scene that renders depth, baked into 3D Gaussians.

The surface points that renderings from all around show become the first Gaussians.
Then they are fitted to the same renderings with Adam (Kingma & Ba, 2015).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from unseen.errors import UserError
from unseen.export.surrounding import random_views, surrounding_sphere
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.rendering.rendering import (  # arrow: names what scenes return
    Rendering,
    stack_renderings,
)
from unseen.scenes.gaussians import GaussianScene, harmonics_of_colors
from unseen.scenes.scene import Scene

Report = Callable[[int, int], None]
"""Called with the steps that are done and the steps in all."""

RATES = {
    "means": 2e-3,
    "log_scales": 2e-2,
    "rotations": 1e-2,
    "opacity_logits": 5e-2,
    "harmonics": 2e-2,
}
"""Adam's step sizes at the start; that of the means is in radii of the scene."""


@dataclasses.dataclass(frozen=True)
class BakeOptions:
    """How much work and how many Gaussians.

    `views` renderings of `size` pixels (square) are fitted in `steps` steps of
    `views_per_step` each; `degree` is that of the spherical harmonics, 0 for colours
    that depend on no view. The fit starts with at most about `max_gaussians`.
    """

    max_gaussians: int = 8000
    views: int = 48
    size: int = 96
    fov: float = 40.0
    steps: int = 300
    views_per_step: int = 2
    degree: int = 0
    seed: int = 0


QUICK = BakeOptions(max_gaussians=6000, views=24, size=64, steps=100)
"""A fit of few seconds, for who waits for it, or for many scenes."""


def bake_splats(
    scene: Scene, options: BakeOptions = BakeOptions(), report: Report | None = None
) -> GaussianScene:
    """Gaussians that look like one scene from all around.

    The loss is the mean absolute error of colour, over the scene's own background,
    plus that of opacity where the scene has one. Raises UserError for a scene without
    depth, or one where nothing is seen; ValueError for a batch.
    """
    if scene.shape != ():
        raise ValueError(f"expected one scene, not a batch {scene.shape}: index it")
    total = options.views + options.steps
    generator = torch.Generator().manual_seed(options.seed)
    cameras = random_views(scene, options.views, options.fov, generator)
    cameras = cameras.to(scene.bounds().device)
    views = render_views(scene, cameras, (options.size, options.size), report, total)
    baked = initial_gaussians(scene, cameras, views, options)
    return _fit(baked, scene, cameras, views, options, generator, report)


@torch.no_grad()
def render_views(
    scene: Scene,
    cameras: Cameras,
    size: tuple[int, int],
    report: Report | None = None,
    total: int = 0,
) -> Rendering:
    """Render cameras (view) one after another, which bounds the memory."""
    found = []
    for index in range(len(cameras)):
        found.append(scene.render(cameras[index : index + 1], size)[0])
        if report is not None:
            report(index + 1, total)
    return stack_renderings(found)


def initial_gaussians(
    scene: Scene, cameras: Cameras, views: Rendering, options: BakeOptions
) -> GaussianScene:
    """Balls at the surface points that views show, thinned out evenly."""
    points, colors, background = _surface_points(scene, cameras, views)
    if len(points) < 4:
        raise UserError(
            "the scene is empty: from all around, no surface is seen that splats could "
            "be made from."
        )
    kept = _thin_out(points, options.max_gaussians)
    points, colors = points[kept], colors[kept]
    distance, _ = cKDTree(points.numpy()).query(points.numpy(), k=4)
    spacing = torch.from_numpy(distance[:, 1:].mean(axis=1)).float().clamp(min=1e-6)
    count = len(points)
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
    return GaussianScene(
        points,
        (0.7 * spacing).log()[:, None].repeat(1, 3),
        identity.repeat(count, 1),
        torch.full((count,), 1.0),
        harmonics_of_colors(colors, options.degree),
        background,
    )


def _surface_points(
    scene: Scene, cameras: Cameras, views: Rendering
) -> tuple[Float[Tensor, "point 3"], Float[Tensor, "point 3"], Float[Tensor, "3"]]:
    """Points that are seen, their colours, and the colour where nothing is."""
    if views.depth is None:
        raise UserError(
            f"a {type(scene).__name__} renders no depth, so its surface is unknown and "
            "it cannot become splats: make a video of it instead."
        )
    depth, far = views.depth, cameras.far[:, None, None]
    opacity = views.opacity
    if opacity is None:
        opacity = (depth < far * (1 - 1e-4)).to(depth)
    seen = opacity > 0.5
    color = views.color.movedim(1, -1)
    background = empty_color(views.color, opacity)
    # Renderings mix in the background and its depth, `far`.
    share = opacity.clamp(min=0.5)
    depth = (depth - (1 - share) * far) / share
    pure = (color - (1 - share)[..., None] * background) / share[..., None]
    origins, directions = image_rays(cameras, (depth.shape[1], depth.shape[2]))
    points = origins + depth.flatten(1)[..., None] * directions
    chosen = seen.flatten(1)
    return (
        points[chosen].cpu(),
        pure.flatten(1, 2)[chosen].clamp(0, 1).cpu(),
        background.cpu(),
    )


def empty_color(
    color: Float[Tensor, "view 3 height width"],
    opacity: Float[Tensor, "view height width"],
) -> Float[Tensor, "3"]:
    """The colour that renderings have where nothing is; white if they are full."""
    empty = opacity < 0.01
    if not empty.any():
        return torch.ones(3, device=color.device)
    return color.movedim(1, -1)[empty].median(dim=0).values


def _thin_out(points: Float[Tensor, "point 3"], limit: int) -> Tensor:
    """Indices of one point per cell of a grid that leaves at most `limit` points."""
    low = points.amin(dim=0)
    extent = float((points.amax(dim=0) - low).max()) + 1e-9
    cells = 2 * round(limit**0.5)
    while True:
        index = ((points - low) / extent * cells).floor().long()
        flat = (index[:, 0] * (cells + 1) + index[:, 1]) * (cells + 1) + index[:, 2]
        _, first = np.unique(flat.numpy(), return_index=True)
        if len(first) <= limit:
            return torch.from_numpy(first)
        cells = int(cells * 0.93)


def _fit(
    baked: GaussianScene,
    scene: Scene,
    cameras: Cameras,
    views: Rendering,
    options: BakeOptions,
    generator: torch.Generator,
    report: Report | None,
) -> GaussianScene:
    """Adam on all tensors of the Gaussians; see `bake_splats` for the loss."""
    _, radius = surrounding_sphere(scene)
    device = cameras.device
    leaves = {name: getattr(baked, name).to(device).requires_grad_() for name in RATES}
    background = baked.background.to(device)
    baked = dataclasses.replace(baked, **leaves, background=background)
    groups = [
        {"params": [leaf], "lr": RATES[name] * (radius if name == "means" else 1)}
        for name, leaf in leaves.items()
    ]
    optimizer = torch.optim.Adam(groups, eps=1e-15)
    # The steps shrink to a hundredth, so that the end does not jitter.
    schedule = torch.optim.lr_scheduler.ExponentialLR(
        optimizer, 0.01 ** (1 / max(options.steps, 1))
    )
    size = (views.color.shape[-2], views.color.shape[-1])
    order = torch.empty(0, dtype=torch.long)
    for step in range(options.steps):
        if len(order) < options.views_per_step:
            order = torch.randperm(len(cameras), generator=generator)
        chosen, order = order.split(
            [options.views_per_step, len(order) - options.views_per_step]
        )
        with torch.enable_grad():
            found = baked.render_unlimited(cameras[chosen], size)
            loss = (found.color - views.color[chosen]).abs().mean()
            if views.opacity is not None and found.opacity is not None:
                loss = loss + (found.opacity - views.opacity[chosen]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        if report is not None:
            report(options.views + step + 1, options.views + options.steps)
    final = {name: leaf.detach() for name, leaf in leaves.items()}
    baked = dataclasses.replace(baked, **final)
    return baked.select(baked.opacity_logits.sigmoid() > 0.02)
