"""Are generated views views of one scene? The consistency score of 3DiM.

A radiance field is fitted to some of the views that a method generated, with the
cameras they were asked for, and renders the others (Watson et al., "Novel View
Synthesis with Diffusion Models", ICLR 2023: "3D consistency scoring"). What no one
scene can show, the field cannot learn, and the views left out come out wrong. No truth
is needed, and a scene that is consistent but wrong scores high.

The authors fit a NeRF; here it is a grid of voxels, which takes seconds. The score has
a ceiling, which is what the true views of a scene reach: print it beside, and compare
only scores of the same numbers and sizes of views and the same `FitConfig`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import UserError
from unseen.evaluation.metrics import psnr, ssim
from unseen.evaluation.reprojection import Reprojection, reprojection_consistency
from unseen.geometry.boxes import box_around, object_box
from unseen.geometry.views import Views
from unseen.scenes.voxel_radiance import VoxelRadianceScene


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How the field is fitted."""

    resolution: int = 48
    """Voxels along each side of the box."""
    num_samples: int = 64
    """Samples along a ray."""
    steps: int = 400
    """Steps of Adam."""
    rays: int = 1024
    """Rays per step, drawn from all views alike."""
    learning_rate: float = 0.3
    """At the start; it falls to a tenth by the end, as a geometric sequence."""
    smoothness: float = 1e-3
    """Weight of the mean squared difference of neighbouring voxels."""


@dataclasses.dataclass(frozen=True)
class ViewConsistency:
    """Of the views left out, and (`fitted_psnr`) of those that the field was fitted to.

    PSNR in dB and SSIM (uniform window), averaged over views.
    """

    psnr: float
    ssim: float
    fitted_psnr: float
    fitted: int
    held_out: int


@torch.enable_grad()
def view_consistency(
    views: Views,
    generator: torch.Generator,
    config: FitConfig | None = None,
    every: int = 5,
    box: Float[Tensor, "2 3"] | None = None,
    background: float = 1.0,
    report: Callable[[int, int], None] | None = None,
) -> ViewConsistency:
    """The score of generated views (view,) of one scene.

    Args:
        views: Images with the cameras that they were generated for.
        generator: Draws the rays.
        config: How the field is fitted.
        every: Each `every`-th view is left out, from the middle of the first ones on.
        box: The world box that holds the scene; by default that of an object which
            fills the cameras' depth range about their optical axes.
        background: Grey level of what lies behind.
        report: Called with the steps done and the steps to do.

    Raises:
        UserError: too few views to leave some out.
    """
    held_out = list(range(every // 2, len(views), every))
    given = [i for i in range(len(views)) if i not in held_out]
    if every < 2 or not held_out or len(given) < 2:
        raise UserError(
            f"of {len(views)} views each {every}-th cannot be left out of a fit to at "
            "least two: give more views, or leave out others."
        )
    settings = config or FitConfig()
    scene = fit_voxels(views[given], generator, settings, box, background, report)
    with torch.no_grad():
        images = [
            scene.render(views.cameras[i : i + 1], views.size).color
            for i in range(len(views))
        ]
    rendered = torch.cat(images).clamp(0, 1)
    quality = psnr(rendered, views.images)
    similarity = ssim(rendered[held_out], views.images[held_out])
    return ViewConsistency(
        psnr=float(quality[held_out].mean()),
        ssim=float(similarity.mean()),
        fitted_psnr=float(quality[given].mean()),
        fitted=len(given),
        held_out=len(held_out),
    )


@torch.enable_grad()
def fitted_reprojection(
    views: Views,
    generator: torch.Generator,
    config: FitConfig | None = None,
    background: float = 1.0,
) -> Reprojection:
    """Re-projection of views (view,) through the depth of a field fitted to them all.

    What `reprojection_consistency` says where views were generated without depths:
    whether neighbouring views show the surface that suits all of them best in one
    colour. Compare methods by it alike, those that render depths too.

    Raises:
        UserError: fewer than two views.
    """
    scene = fit_voxels(views, generator, config or FitConfig(), None, background)
    with torch.no_grad():
        found = scene.render(views.cameras, views.size)
        seen = Views(views.images, views.cameras, found.opacity, found.depth)
        return reprojection_consistency(seen)


def fit_voxels(
    views: Views,
    generator: torch.Generator,
    config: FitConfig,
    box: Float[Tensor, "2 3"] | None = None,
    background: float = 1.0,
    report: Callable[[int, int], None] | None = None,
) -> VoxelRadianceScene:
    """A grid of voxels that renders like views (view,); see `view_consistency`."""
    cameras = views.cameras
    space = box_around(object_box(cameras)) if box is None else box.to(cameras.near)
    side = (config.resolution,) * 3
    grid = torch.zeros(4, *side, device=cameras.device, requires_grad=True)
    grey = torch.full((3,), background, device=cameras.device)
    optimizer = torch.optim.Adam([grid], lr=config.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.ExponentialLR(
        optimizer, 0.1 ** (1 / config.steps)
    )
    scene = VoxelRadianceScene(grid, space, grey, config.num_samples)
    colors = views.images.flatten(-2).transpose(-1, -2)
    count = max(1, config.rays // len(views))
    for step in range(config.steps):
        pixels = torch.randint(
            colors.shape[1],
            (len(views), count),
            generator=generator,
            device=generator.device,
        ).to(colors.device)
        truth = colors.gather(1, pixels[..., None].expand(-1, -1, 3))
        found = scene.render_pixels(cameras, views.size, pixels, generator)
        loss = (found.color - truth).square().mean()
        loss = loss + config.smoothness * _roughness(grid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step + 1, config.steps)
    return dataclasses.replace(scene, grid=grid.detach())


def _roughness(
    grid: Float[Tensor, "channel depth height width"],
) -> Float[Tensor, ""]:
    """Mean squared difference of neighbours along each axis, added up."""
    parts = [grid.diff(dim=axis).square().mean() for axis in (1, 2, 3)]
    return parts[0] + parts[1] + parts[2]
