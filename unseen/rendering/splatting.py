"""3D Gaussians to images (Kerbl et al., "3D Gaussian Splatting", 2023).

A Gaussian's projection is a 2D Gaussian in the first order (EWA splatting, Zwicker et
al., 2001). Sorted by the depth of their centres, the projections are composited from
front to back. `render_gaussians` is the entrance; `composite_plain` is the obvious twin
of the compiled compositing in `compiled_splats.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.projection import world_to_camera
from unseen.rendering.rendering import Rendering, stack_renderings
from unseen.rendering.spherical_harmonics import colors_from_harmonics

Filter = Literal["none", "classic", "antialiased"]
"""What is done against aliasing. "classic" widens projections by 0.3 square pixels, as
3D Gaussian Splatting does, which thickens what is thin; "antialiased" also lowers their
opacity, so that their light stays the same (Mip-Splatting, Yu et al., 2024, eq. 9)."""

Backend = Literal["plain", "compiled", "gsplat"]

LOW_PASS = 0.3
"""Variance in square pixels that the filters add."""
FAINTEST = 1 / 255
"""Alphas below this are left out: bytes would not show them."""
MAX_ALPHA = 0.999
OPAQUE = 1e-4
"""A pixel is finished when less than this share of the light passes."""
MARGIN = 0.15
"""Shares of the image's sides beyond which the projection's slope is kept constant: far
outside of the image its linear approximation would blow up."""


@dataclasses.dataclass(frozen=True)
class Gaussians:
    """3D Gaussians in the world's frame.

    `scales` are standard deviations along the Gaussian's own axes in world units;
    `rotations` are quaternions (w, x, y, z) of any length but 0 that turn these axes
    into the world's; `opacities` are in [0, 1]; `harmonics` are coefficients for the
    colour (see `colors_from_harmonics`).
    """

    means: Float[Tensor, "gaussian 3"]
    scales: Float[Tensor, "gaussian 3"]
    rotations: Float[Tensor, "gaussian 4"]
    opacities: Float[Tensor, "gaussian"]
    harmonics: Float[Tensor, "gaussian coefficient 3"]

    def __getitem__(self, index: Int[Tensor, "chosen"]) -> Gaussians:
        fields = dataclasses.fields(self)
        return Gaussians(*(getattr(self, field.name)[index] for field in fields))


@dataclasses.dataclass(frozen=True)
class Projected:
    """Gaussians in one image, from the nearest to the furthest, in pixels.

    `conics` are the entries (xx, xy, yy) of the inverse covariances. `values` are what
    is composited: colour (3) and depth. `extents` are the half sides of the boxes
    outside of which alpha is below `FAINTEST`; they carry no gradient.
    """

    centers: Float[Tensor, "gaussian 2"]
    conics: Float[Tensor, "gaussian 3"]
    opacities: Float[Tensor, "gaussian"]
    values: Float[Tensor, "gaussian value"]
    extents: Float[Tensor, "gaussian 2"]


def rotation_matrices(
    quaternions: Float[Tensor, "*batch 4"],
) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of any length but 0."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(dim=-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def project_gaussians(
    gaussians: Gaussians, camera: Cameras, size: tuple[int, int], low_pass: Filter
) -> Projected:
    """The Gaussians whose centres lie between near and far, in one camera's image."""
    with torch.no_grad():
        depth = world_to_camera(camera, gaussians.means)[:, 2]
        kept = (depth >= camera.near) & (depth <= camera.far) & (depth > 1e-6)
        kept = kept.nonzero()[:, 0]
        # Stable, so that equal depths keep one order on every machine.
        order = kept[depth[kept].argsort(stable=True)]
    gaussians = gaussians[order]
    local = world_to_camera(camera, gaussians.means)
    depth = local[:, 2]
    pixels = local.new_tensor([size[1], size[0]])
    intrinsics = camera.intrinsics[:2] * pixels[:, None]
    offset = (local[:, :2] @ intrinsics[:, :2].T) / depth[:, None]
    centers = offset + intrinsics[:, 2]
    # Rows of the projection's Jacobian, times the camera's rotation and the axes.
    limited = centers.maximum(-MARGIN * pixels).minimum((1 + MARGIN) * pixels)
    slope = limited - intrinsics[:, 2]
    turn = camera.extrinsics[:3, :3].T @ rotation_matrices(gaussians.rotations)
    axes = turn * (gaussians.scales / depth[:, None])[:, None, :]
    flat = torch.einsum("ij,njk->nik", intrinsics[:, :2], axes[:, :2])
    flat = flat - slope[:, :, None] * axes[:, 2:]
    first, second = flat.unbind(dim=1)
    xx, xy, yy = (first**2).sum(-1), (first * second).sum(-1), (second**2).sum(-1)
    # The determinant as a square cannot become negative by rounding.
    area = (torch.linalg.cross(first, second) ** 2).sum(-1)
    opacities = gaussians.opacities
    added = 0.0 if low_pass == "none" else LOW_PASS
    determinant = area + added * (xx + yy) + added**2
    if low_pass == "antialiased":
        opacities = opacities * (area / determinant).clamp(min=1e-12).sqrt()
    determinant = determinant.clamp(min=1e-12)
    xx, yy = xx + added, yy + added
    conics = torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None]
    directions = gaussians.means - camera.centers
    directions = torch.nn.functional.normalize(directions, dim=-1)
    colors = colors_from_harmonics(gaussians.harmonics, directions)
    with torch.no_grad():
        # The level set of FAINTEST: half d^T conic d = log(opacity / FAINTEST).
        level = 2 * (opacities / FAINTEST).clamp(min=1e-12).log()
        level = torch.where(level > 0, level, -1.0)
        extents = (level[:, None] * torch.stack([xx, yy], dim=-1)).clamp(min=0).sqrt()
        extents = torch.where(level[:, None] > 0, extents, -1.0)
    values = torch.cat([colors, depth[:, None]], dim=-1)
    return Projected(centers, conics, opacities, values, extents)


def composite_plain(
    projected: Projected, size: tuple[int, int]
) -> tuple[Float[Tensor, "height width value"], Float[Tensor, "height width"]]:
    """Every Gaussian at every pixel, front to back.

    Returns the composited values on zero, and the share of light that passes all.
    """
    centers = projected.centers
    y, x = (torch.arange(side).to(centers) + 0.5 for side in size)
    dx, dy = x[:, None] - centers[:, 0], y[:, None, None] - centers[:, 1]
    a, b, c = projected.conics.unbind(dim=-1)
    exponent = 0.5 * (a * dx**2 + c * dy**2) + b * dx * dy
    alpha = (projected.opacities * torch.exp(-exponent)).clamp(max=MAX_ALPHA)
    alpha = torch.where(alpha >= FAINTEST, alpha, 0.0)
    passed = _passed(alpha)
    alpha = torch.where(passed.detach() >= OPAQUE, alpha, 0.0)
    weights = alpha * _passed(alpha)
    return weights @ projected.values, (1 - alpha).prod(dim=-1)


def _passed(
    alpha: Float[Tensor, "*batch gaussian"],
) -> Float[Tensor, "*batch gaussian"]:
    """The share of light that reaches each Gaussian."""
    through = (1 - alpha).cumprod(dim=-1)
    return torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], dim=-1)


def render_gaussians(
    gaussians: Gaussians,
    cameras: Cameras,
    size: tuple[int, int],
    background: Float[Tensor, "3"] | Float[Tensor, "view 3 height width"],
    low_pass: Filter = "classic",
    backend: Backend | None = None,
) -> Rendering:
    """Render views (view) into images of (height, width) `size`, differentiably.

    `background` is one colour, or an image per view. Colours have no upper limit, as
    in 3D Gaussian Splatting. Gaussians count whose centres lie between the camera's
    near and far. By default the compiled loops run on a CPU, and on CUDA gsplat where
    it is installed, else the plain code.
    """
    # Imported late, because they need the definitions above.
    from unseen.rendering.compiled_splats import composite_compiled
    from unseen.rendering.gsplat_backend import has_gsplat, render_with_gsplat

    if backend is None:
        backend = "compiled"
        if gaussians.means.device.type != "cpu":
            backend = "gsplat" if has_gsplat() else "plain"
    if backend == "gsplat":
        found = render_with_gsplat(gaussians, cameras, size, low_pass)
    else:
        composite = composite_plain if backend == "plain" else composite_compiled
        pieces = []
        for camera in cameras:
            projected = project_gaussians(gaussians, camera, size, low_pass)
            values, passed = composite(projected, size)
            values = values.movedim(-1, 0)
            pieces.append(Rendering(values[:3], values[3], 1 - passed))
        found = stack_renderings(pieces)
    assert found.depth is not None and found.opacity is not None
    missed = 1 - found.opacity
    if background.ndim == 1:
        background = background[:, None, None]
    color = found.color + missed[:, None] * background
    depth = found.depth + missed * cameras.far[:, None, None]
    return Rendering(color, depth, found.opacity)
