"""Gaussians on CUDA by gsplat (Ye et al., 2024), where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch

from unseen.errors import UserError
from unseen.geometry.cameras import Cameras
from unseen.rendering.rendering import Rendering
from unseen.rendering.spherical_harmonics import degree_of
from unseen.rendering.splatting import LOW_PASS, Filter, Gaussians


def has_gsplat() -> bool:
    """Whether gsplat can be imported."""
    return importlib.util.find_spec("gsplat") is not None


def render_with_gsplat(
    gaussians: Gaussians, cameras: Cameras, size: tuple[int, int], low_pass: Filter
) -> Rendering:
    """Views on black, with depth on zero; see `splatting.render_gaussians`.

    gsplat clips all views alike, so near and far of the first view are used; it has no
    way to render without its low-pass but to make it vanish.
    """
    if not has_gsplat():
        raise UserError(
            "gsplat is not installed: run `pip install gsplat`, or render with another "
            "backend."
        )
    gsplat: Any = importlib.import_module("gsplat")
    pixels = cameras.near.new_tensor([size[1], size[0], 1.0])
    images, opacity, _ = gsplat.rasterization(
        gaussians.means,
        gaussians.rotations,
        gaussians.scales,
        gaussians.opacities,
        gaussians.harmonics,
        torch.linalg.inv(cameras.extrinsics),
        cameras.intrinsics * pixels[:, None],
        size[1],
        size[0],
        near_plane=float(cameras.near[0]),
        far_plane=float(cameras.far[0]),
        eps2d=0.0 if low_pass == "none" else LOW_PASS,
        sh_degree=degree_of(gaussians.harmonics.shape[1]),
        render_mode="RGB+D",
        rasterize_mode="antialiased" if low_pass == "antialiased" else "classic",
    )
    images = images.movedim(-1, 1)
    return Rendering(images[:, :3], images[:, 3], opacity[..., 0])
