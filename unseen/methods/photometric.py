"""Losses between renderings and posed images, shared by methods."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.ray_choice import ChosenRays
from unseen.geometry.rays import random_pixels
from unseen.geometry.views import Views
from unseen.methods.method import Losses
from unseen.networks.latent import Autoencoder
from unseen.rendering.volume import distortion_loss
from unseen.scenes.scene import PixelRendering, Scene

Pattern = Literal["scattered", "patch"]


def choose_pixels(
    views: Views, count: int, pattern: Pattern, generator: torch.Generator
) -> Int[Tensor, "batch view ray"]:
    """Random pixels of every view (batch, view), as flat indices.

    "scattered": `count` distinct ones, drawn for each view. "patch": a square of
    `count` pixels at one random place per scene, the same in all of its views. Fewer
    where the image has fewer.
    """
    batch, view = views.shape
    height, width = views.size
    if pattern == "scattered":
        count = min(count, height * width)
        pixels = random_pixels(views.size, batch * view, count, generator)
        # In order, neighbouring rays read neighbouring voxels.
        pixels = pixels.sort(dim=-1).values.unflatten(0, (batch, view))
        return pixels.to(views.images.device)
    side = min(math.isqrt(count), height, width)
    top = torch.randint(height - side + 1, (batch, 1, 1), generator=generator)
    left = torch.randint(width - side + 1, (batch, 1, 1), generator=generator)
    inner = torch.arange(side)
    rows, columns = top + inner[:, None], left + inner
    pixels = (rows * width + columns).flatten(1)[:, None].expand(-1, view, -1)
    return pixels.to(views.images.device)


def pixel_colors(
    views: Views, pixels: Int[Tensor, "batch view ray"]
) -> Float[Tensor, "batch view ray 3"]:
    """What views show at pixels with flat indices; in [0, 1]."""
    index = pixels[:, :, None].expand(-1, -1, 3, -1)
    return views.images.flatten(-2).gather(-1, index).transpose(-1, -2)


@dataclasses.dataclass(frozen=True)
class PhotometricErrors:
    """Errors per scene; zero where the data or the scene knows nothing of the kind."""

    color: Float[Tensor, "batch"]
    """Mean squared error of colours in [-1, 1]."""
    proposal: Float[Tensor, "batch"]
    """The same, of what the network that places samples renders by itself."""
    opacity: Float[Tensor, "batch"]
    """Mean squared error against the masks."""
    distortion: Float[Tensor, "batch"]
    """How far matter is spread along rays (Mip-NeRF 360, equation 15)."""
    smoothness: Float[Tensor, "batch"]
    """How rough inverse depth is where the image is smooth; of patches only."""


def compare(
    rendered: PixelRendering,
    views: Views,
    pixels: Int[Tensor, "batch view ray"],
    pattern: Pattern,
) -> PhotometricErrors:
    """Compare rendered pixels with the views that they show."""
    truth = pixel_colors(views, pixels)
    color = 4 * (rendered.color - truth).square().mean(dim=(1, 2, 3))
    proposal = distortion = opacity = smoothness = torch.zeros_like(color)
    if "proposal_color" in rendered.extras:
        error = rendered.extras["proposal_color"] - truth
        proposal = 4 * error.square().mean(dim=(1, 2, 3))
    if "weights" in rendered.extras:
        weights, edges = rendered.extras["weights"], rendered.extras["edges"]
        distortion = distortion_loss(weights, edges).mean(dim=(1, 2))
    if views.masks is not None and rendered.opacity is not None:
        mask = views.masks.flatten(-2).gather(-1, pixels)
        opacity = (rendered.opacity - mask).square().mean(dim=(1, 2))
    if pattern == "patch" and rendered.depth is not None:
        side = math.isqrt(pixels.shape[-1])
        smoothness = edge_aware_smoothness(
            rendered.depth.unflatten(-1, (side, side)),
            truth.unflatten(-2, (side, side)),
        ).mean(dim=1)
    return PhotometricErrors(color, proposal, opacity, distortion, smoothness)


def edge_aware_smoothness(
    depth: Float[Tensor, "*batch height width"],
    image: Float[Tensor, "*batch height width 3"],
) -> Float[Tensor, "*batch"]:
    """|d disparity| exp(-|d image|), disparity being 1 / depth over its mean.

    (Godard et al. 2017, "Unsupervised monocular depth estimation", equation 6.)
    """
    disparity = 1 / depth.clamp(min=1e-3)
    disparity = disparity / disparity.mean(dim=(-1, -2), keepdim=True)
    x_edge = image.diff(dim=-2).abs().mean(dim=-1)
    y_edge = image.diff(dim=-3).abs().mean(dim=-1)
    x = disparity.diff(dim=-1).abs() * torch.exp(-x_edge)
    y = disparity.diff(dim=-2).abs() * torch.exp(-y_edge)
    return x.mean(dim=(-1, -2)) + y.mean(dim=(-1, -2))


def resized_error(
    color: Float[Tensor, "batch view 3 small_height small_width"], views: Views
) -> Float[Tensor, "batch"]:
    """Mean squared error (in [-1, 1]) of a smaller rendering of whole views."""
    height, width = color.shape[-2:]
    truth = views.shrink((height, width)).images
    return 4 * (color - truth).square().mean(dim=(1, 2, 3, 4))


def weighted_losses(
    weighted: Sequence[tuple[str, float, Float[Tensor, "batch"]]],
) -> Losses:
    """Average (name, weight, error) over scenes and add them up; weight 0 is none."""
    terms = {name: error.mean() for name, weight, error in weighted if weight}
    total = torch.stack(
        [weight * terms[name] for name, weight, _ in weighted if weight]
    ).sum()
    return Losses(total, {name: term.detach() for name, term in terms.items()})


def draw_latents(
    autoencoder: Autoencoder,
    images: Float[Tensor, "image 3 height width"],
    generator: torch.Generator,
    divergence_weight: float | None,
) -> tuple[
    Float[Tensor, "image channel latent_height latent_width"],
    list[tuple[str, float, Float[Tensor, "image"]]],
]:
    """Scaled latents of images in [0, 1], to diffuse, and what the autoencoder learns.

    Latents are drawn from the encoder's distribution and carry no gradients: diffusion
    does not move what it is trained on. An autoencoder that is trained with the rest
    (a weight is given) learns from the squared error of its images, in [-1, 1], and
    from the divergence of its latents from a standard normal, per number.
    """
    images, scale = 2 * images - 1, autoencoder.config.scale
    if divergence_weight is None:
        with torch.no_grad():
            return autoencoder.draw(images, generator), []
    mean, std = autoencoder.encode(images)
    latents = mean + std * torch.randn(mean.shape, generator=generator).to(mean)
    error = (autoencoder.decode(latents) - images).square().mean(dim=(1, 2, 3))
    divergence = 0.5 * (mean.square() + std.square() - 1) - std.log()
    return scale * latents.detach(), [
        ("reconstruction", 1.0, error),
        ("divergence", divergence_weight, divergence.mean(dim=(1, 2, 3))),
    ]


def color_error(
    rendered: PixelRendering, views: Views, pixels: Int[Tensor, "batch view ray"]
) -> Float[Tensor, "batch"]:
    """Mean squared error of colours in [-1, 1], of any rendering."""
    error = rendered.color - pixel_colors(views, pixels)
    return 4 * error.square().mean(dim=(1, 2, 3))


def coarse_and_fine(
    scene: Scene, rays: ChosenRays, size: tuple[int, int], generator: torch.Generator
) -> Losses:
    """Mean squared errors, in [0, 1], of a scene's two renderings of chosen rays.

    `size` is the (height, width) of the images that the rays come from; the scene's
    renderings of pixels have the extra "coarse_color".
    """
    # A ray is a camera with one pixel.
    r = scene.render_pixels(rays.cameras, size, rays.pixels[..., None], generator)
    coarse, truth = r.extras["coarse_color"], rays.colors[:, :, None]
    return weighted_losses(
        [
            ("fine", 1.0, (r.color - truth).square().mean(dim=(1, 2, 3))),
            ("coarse", 1.0, (coarse - truth).square().mean(dim=(1, 2, 3))),
        ]
    )


def structural_similarity(
    first: Float[Tensor, "batch channel height width"],
    second: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, "batch"]:
    """SSIM of images in [0, 1] (Wang et al. 2004), averaged over pixels and channels.

    Windows are Gaussian (sigma 1.5, 11 pixels wide) and stay inside of the image;
    images that are smaller than a window are compared by as much of it as fits.
    Differentiable; `evaluation.metrics` has the one of published tables, whose windows
    are uniform.
    """
    channels = first.shape[1]
    # The five moments of both images, in one pass.
    moments = [first, second, first * first, second * second, first * second]
    stacked = torch.cat(moments, dim=1)
    for axis in (-1, -2):
        width = min(11, stacked.shape[axis])
        offset = torch.arange(width).to(stacked) - (width - 1) / 2
        window = torch.exp(-0.5 * (offset / 1.5).square())
        window = (window / window.sum()).reshape(1, 1, -1)
        moved = stacked.movedim(axis, -1)
        rows = torch.nn.functional.conv1d(moved.reshape(-1, 1, moved.shape[-1]), window)
        stacked = rows.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
    mean_1, mean_2, square_1, square_2, product = stacked.split(channels, dim=1)
    variances = square_1 - mean_1.square() + square_2 - mean_2.square()
    covariance = product - mean_1 * mean_2
    c_1, c_2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c_2) / (variances + c_2)
    means = 2 * mean_1 * mean_2 + c_1
    luminance = means / (mean_1.square() + mean_2.square() + c_1)
    return (luminance * structure).mean(dim=(1, 2, 3))
