"""What is shown of scenes: colour, depth, opacity, spread, what the input saw."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unseen.evaluation.visibility import seen_pixels, seen_points
from unseen.export.colormap import colorize
from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.geometry.views import Views
from unseen.rendering.rendering import Rendering
from unseen.scenes.scene import FieldScene
from unseen.viewer.gaussians import Gaussians
from unseen.viewer.sample import Sample

FULL_SPREAD = 0.3
"""The standard deviation (of colours in [0, 1]) that has the lightest colour."""
SEEN, INVENTED = (0.10, 0.45, 0.75), (0.95, 0.50, 0.05)
"""Blue and orange, which almost everybody can tell apart."""
INK = 0.15
"""The grey of full opacity, on white."""


class Mode(enum.Enum):
    """What is shown."""

    COLOR = "colour"
    DEPTH = "depth"
    OPACITY = "opacity"
    SPREAD = "spread over the samples"
    SEEN = "seen or invented"


def possible_modes(samples: Sequence[Sample]) -> list[Mode]:
    """The modes that say something about all of `samples`."""
    modes = [Mode.COLOR, Mode.DEPTH, Mode.OPACITY]
    if len(samples) > 1:
        modes.append(Mode.SPREAD)
    if samples and all(sample.knows_seen for sample in samples):
        modes.append(Mode.SEEN)
    return modes


@dataclasses.dataclass(frozen=True)
class Picture:
    """A part of the view: colour over white, and opacity and depth where known."""

    color: Float[Tensor, "3 height width"]
    opacity: Float[Tensor, "height width"] | None
    depth: Float[Tensor, "height width"] | None


@torch.no_grad()
def draw_picture(
    mode: Mode, samples: Sequence[Sample], camera: Cameras, size: tuple[int, int]
) -> Picture:
    """The exact rendering of a sample (of all, for the spread) at a camera (1,).

    In a mode that a scene does not support (depth of a light field), it is white.
    """
    found = []
    for sample in samples if mode == Mode.SPREAD else samples[:1]:
        there = camera.to(sample.scene.bounds().device)
        found.append(sample.scene.render(there, size)._map(lambda x: x[0].cpu()))
    if mode == Mode.SPREAD:
        return _spread_picture(found)
    rendered = found[0]
    opacity, depth = rendered.opacity, rendered.depth
    if mode == Mode.COLOR:
        return Picture(rendered.color.clamp(0, 1), opacity, depth)
    white = torch.ones(3, *size)
    if mode == Mode.OPACITY and opacity is not None:
        return Picture(_over_white(INK * white, opacity), opacity, depth)
    if mode == Mode.DEPTH and depth is not None:
        color = _depth_colors(depth, camera)
        return Picture(_over_white(color, opacity), opacity, depth)
    if mode == Mode.SEEN and opacity is not None and depth is not None:
        assert samples[0].surface is not None
        surface = torch.where(opacity > 0.5, depth, 0.0)[None]
        novel = Views(rendered.color[None], camera, depths=surface)
        color = _tint(rendered.color, seen_pixels(samples[0].surface, novel)[0])
        return Picture(_over_white(color, opacity), opacity, depth)
    return Picture(white, opacity, depth)


def _spread_picture(rendered: Sequence[Rendering]) -> Picture:
    """Standard deviation of colours over samples, where any of them has matter."""
    colors = torch.stack([r.color for r in rendered])
    color = _spread_colors(colors)
    opacities = [r.opacity for r in rendered if r.opacity is not None]
    if len(opacities) < len(rendered):
        return Picture(color, None, None)
    opacity = torch.stack(opacities).amax(dim=0)
    depths = [r.depth for r in rendered if r.depth is not None]
    depth = torch.stack(depths).amin(dim=0) if depths else None
    return Picture(_over_white(color, opacity), opacity, depth)


def gaussian_colors(
    mode: Mode, sample: Sample, samples: Sequence[Sample], camera: Cameras
) -> Float[Tensor, "point 3"]:
    """What the Gaussians of one of `samples` look like, seen from a camera (1,)."""
    gaussians = sample.gaussians
    assert gaussians is not None
    if mode == Mode.DEPTH:
        depth = world_to_camera(camera, gaussians.centers[None])[0, :, 2]
        return _depth_colors(depth[None], camera)[:, 0].T
    if mode == Mode.OPACITY:
        return torch.full_like(gaussians.colors, INK)
    if mode == Mode.SPREAD:
        return _spread_at(gaussians, samples)
    if mode == Mode.SEEN and sample.surface is not None:
        seen = seen_points(sample.surface, gaussians.centers)
        return _tint(gaussians.colors.T[:, None], seen[None])[:, 0].T
    return gaussians.colors


@torch.no_grad()
def _spread_at(
    gaussians: Gaussians, samples: Sequence[Sample]
) -> Float[Tensor, "point 3"]:
    """The spread of what the samples have at the Gaussians' centres, over white."""
    # About the path of a ray through a Gaussian.
    length = 3 * gaussians.covariances.diagonal(dim1=-2, dim2=-1).mean(-1).sqrt()
    colors = []
    for sample in samples:
        scene, own = sample.scene, sample.gaussians
        if isinstance(scene, FieldScene):
            points = gaussians.centers.to(scene.bounds().device)
            density, color = (x.cpu() for x in scene.evaluate(points))
            opacity = 1 - torch.exp(-density * length)
        elif own is not None:
            opacity, color = own.evaluate(gaussians.centers)
        else:
            continue  # Neither: a light field says nothing about points.
        colors.append(_over_white(color.T[:, None], opacity[None]))
    return _spread_colors(torch.stack(colors))[:, 0].T


def _spread_colors(
    colors: Float[Tensor, "sample 3 height width"],
) -> Float[Tensor, "3 height width"]:
    spread = colors.std(dim=0, correction=0).mean(dim=0)
    return colorize(spread / FULL_SPREAD)


def _over_white(
    color: Float[Tensor, "3 height width"],
    opacity: Float[Tensor, "height width"] | None,
) -> Float[Tensor, "3 height width"]:
    return color if opacity is None else 1 + opacity * (color - 1)


def _depth_colors(
    depth: Float[Tensor, "height width"], camera: Cameras
) -> Float[Tensor, "3 height width"]:
    """From light (the camera's near) to dark (its far)."""
    near, far = float(camera.near[0]), float(camera.far[0])
    return colorize(0.1 + 0.9 * ((far - depth) / (far - near)).clamp(0, 1))


def _tint(
    color: Float[Tensor, "3 height width"], seen: Bool[Tensor, "height width"]
) -> Float[Tensor, "3 height width"]:
    """Blue where seen, orange where invented; light and dark remain."""
    hue = torch.where(
        seen, torch.tensor(SEEN)[:, None, None], torch.tensor(INVENTED)[:, None, None]
    )
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    light = (weights * color.clamp(0, 1)).sum(dim=0)
    return hue * (0.45 + 0.55 * light) + 0.25 * light * (1 - hue)
