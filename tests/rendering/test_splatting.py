"""Gaussians against closed forms, and the compiled loops against the plain ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import random_sphere_cameras
from unseen.rendering.rendering import Rendering
from unseen.rendering.spherical_harmonics import (
    SH_C0,
    degree_of,
    num_coefficients,
    spherical_harmonics,
)
from unseen.rendering.splatting import (
    FAINTEST,
    Filter,
    Gaussians,
    render_gaussians,
    rotation_matrices,
)

BLACK = torch.zeros(3, dtype=torch.float64)


def some_gaussians(count: int, degree: int, generator: torch.Generator) -> Gaussians:
    """Gaussians of all sizes, some of them opaque, around the origin."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Gaussians(
        0.6 * normal(count, 3),
        (-2.0 + 0.7 * normal(count, 3)).exp(),
        normal(count, 4),
        torch.sigmoid(1.5 * normal(count)),
        0.5 * normal(count, num_coefficients(degree), 3),
    )


def some_cameras(count: int, generator: torch.Generator) -> Cameras:
    cameras = random_sphere_cameras(
        count, (-0.5, 1.0), (2.5, 3.5), 0.9, 1.5, 4.0, generator
    )
    intrinsics = cameras.intrinsics.clone()
    # A skew, unequal focal lengths and a principal point off the middle.
    intrinsics[:, 0] += torch.tensor([0.1, 0.05, 0.02])
    return Cameras(cameras.extrinsics, intrinsics, cameras.near, cameras.far).to(
        torch.float64
    )


def fields(rendering: Rendering) -> list[Tensor]:
    assert rendering.depth is not None and rendering.opacity is not None
    return [rendering.color, rendering.depth, rendering.opacity]


def isotropic(
    mean: list[float], scale: float, opacity: float, color: list[float]
) -> Gaussians:
    def make(values: list[float]) -> Tensor:
        return torch.tensor([values], dtype=torch.float64)

    harmonics = (make(color) - 0.5) / SH_C0
    turned = make([0.3, -0.5, 0.7, 0.1])
    return Gaussians(
        make(mean), make([scale] * 3), turned, make([opacity])[0], harmonics[:, None]
    )


@pytest.mark.parametrize("low_pass", ["none", "classic", "antialiased"])
@pytest.mark.parametrize("degree", [0, 3])
def test_compiled_equals_plain(
    low_pass: Filter, degree: int, generator: torch.Generator
):
    """Forward, and backward with random cotangents, on an image of no whole tiles."""
    gaussians = some_gaussians(120, degree, generator)
    cameras, size = some_cameras(2, generator), (37, 21)
    background = torch.rand(2, 3, *size, generator=generator, dtype=torch.float64)
    leaves = [
        x.requires_grad_()
        for x in (
            gaussians.means,
            gaussians.scales,
            gaussians.rotations,
            gaussians.opacities,
            gaussians.harmonics,
        )
    ]
    found = []
    for backend in ("plain", "compiled"):
        images = fields(
            render_gaussians(gaussians, cameras, size, background, low_pass, backend)
        )
        if not found:
            cotangents = [
                torch.randn(x.shape, generator=generator).double() for x in images
            ]
        gradients = torch.autograd.grad(images, leaves, cotangents)
        found.append((*images, *gradients))
    assert float(found[0][2].detach().max()) > 0.99
    for plain, compiled in zip(*found, strict=True):
        assert float(plain.detach().abs().max()) > 0.1
        torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-9)


def test_single_precision_is_near_double(generator: torch.Generator):
    gaussians = some_gaussians(300, 1, generator)
    cameras = some_cameras(1, generator)
    single = Gaussians(*(x.float() for x in vars(gaussians).values()))
    exact = render_gaussians(gaussians, cameras, (40, 40), BLACK)
    rounded = render_gaussians(
        single, cameras.to(torch.float32), (40, 40), BLACK.float()
    )
    for a, b in zip(fields(exact), fields(rounded), strict=True):
        error = (a - b).abs()
        # Where an alpha is at the threshold, rounding may decide about 1/255.
        assert float(error.mean()) < 1e-4 and float(error.max()) < 0.02


def test_threads_do_not_change_the_result(generator: torch.Generator):
    gaussians = some_gaussians(200, 0, generator)
    gaussians.means.requires_grad_()
    cameras = some_cameras(1, generator)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            color = render_gaussians(gaussians, cameras, (48, 48), BLACK).color
            (gradient,) = torch.autograd.grad(color.square().sum(), gaussians.means)
        finally:
            torch.set_num_threads(before)
        found.append((color, gradient))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("backend", ["plain", "compiled"])
@pytest.mark.parametrize("low_pass", ["none", "classic", "antialiased"])
def test_one_gaussian_is_a_gaussian(backend, low_pass: Filter):
    """On the optical axis, a ball of deviation s at depth z has f s / z in pixels."""
    focal, depth, scale, opacity, side = 1.2, 3.0, 0.2, 0.8, 33
    camera = Cameras(
        torch.eye(4, dtype=torch.float64)[None],
        torch.tensor(
            [[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1.0]], dtype=torch.float64
        )[None],
        torch.tensor([1.0], dtype=torch.float64),
        torch.tensor([5.0], dtype=torch.float64),
    )
    gaussians = isotropic([0, 0, depth], scale, opacity, [0.9, 0.4, 0.1])
    white = torch.ones(3, dtype=torch.float64)
    found = render_gaussians(gaussians, camera, (side, side), white, low_pass, backend)
    variance = (focal * side * scale / depth) ** 2
    added = 0.0 if low_pass == "none" else 0.3
    if low_pass == "antialiased":
        opacity *= variance / (variance + added)
    x = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    square = x[:, None] ** 2 + x**2
    alpha = opacity * torch.exp(-0.5 * square / (variance + added))
    alpha = torch.where(alpha < FAINTEST, 0.0, alpha)
    color = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float64)[:, None, None]
    expected = [alpha * color + 1 - alpha, alpha * depth + (1 - alpha) * 5.0, alpha]
    for a, b in zip(fields(found), expected, strict=True):
        torch.testing.assert_close(a[0], b, rtol=1e-10, atol=1e-10)


def test_nearer_gaussians_cover_further_ones(generator: torch.Generator):
    near = isotropic([0.0, 0.0, 2.0], 0.3, 0.75, [1.0, 0.0, 0.0])
    far = isotropic([0.0, 0.0, 3.0], 0.3, 0.5, [0.0, 1.0, 0.0])
    both = Gaussians(
        *(torch.cat([vars(far)[name], value]) for name, value in vars(near).items())
    )
    camera = some_cameras(1, generator)
    camera = Cameras(
        torch.eye(4).double()[None], camera.intrinsics, camera.near, camera.far
    )
    one, other = (render_gaussians(x, camera, (9, 9), BLACK) for x in (near, far))
    found = render_gaussians(both, camera, (9, 9), BLACK)
    assert one.opacity is not None
    expected = one.color + (1 - one.opacity[:, None]) * other.color
    torch.testing.assert_close(found.color, expected)


def test_a_rigid_motion_of_the_world_changes_nothing(generator: torch.Generator):
    gaussians = some_gaussians(60, 0, generator)
    cameras = some_cameras(2, generator)
    turn = torch.tensor([0.4, 0.1, -0.8, 0.3], dtype=torch.float64)
    turn = turn / turn.norm()
    rotation = rotation_matrices(turn)
    shift = torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = rotation, shift
    # The product of quaternions is the rotation after the Gaussian's own.
    w, v = gaussians.rotations[:, :1], gaussians.rotations[:, 1:]
    a, u = turn[:1], turn[1:].expand_as(v)
    product = torch.cat(
        [
            a * w - (u * v).sum(-1, keepdim=True),
            a * v + w * u + torch.linalg.cross(u, v),
        ],
        dim=-1,
    )
    moved = Gaussians(
        gaussians.means @ rotation.T + shift,
        gaussians.scales,
        product,
        gaussians.opacities,
        gaussians.harmonics,
    )
    torch.testing.assert_close(
        rotation_matrices(product), rotation @ rotation_matrices(gaussians.rotations)
    )
    first = render_gaussians(gaussians, cameras, (30, 20), BLACK)
    second = render_gaussians(moved, cameras.transform(motion), (30, 20), BLACK)
    for x, y in zip(fields(first), fields(second), strict=True):
        torch.testing.assert_close(x, y)


def test_pixel_centres_keep_their_values_when_images_grow(
    generator: torch.Generator,
):
    """Without a low-pass, the middle one of three by three pixels is the pixel."""
    gaussians, cameras = some_gaussians(40, 2, generator), some_cameras(1, generator)
    small = render_gaussians(gaussians, cameras, (12, 15), BLACK, "none")
    large = render_gaussians(gaussians, cameras, (36, 45), BLACK, "none")
    for x, y in zip(fields(small), fields(large), strict=True):
        torch.testing.assert_close(x, y[..., 1::3, 1::3])


def test_the_antialiased_filter_keeps_the_light_of_a_speck():
    """Its integral over the image falls as the filter says, and classic's does not."""
    camera = Cameras(
        torch.eye(4)[None],
        torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]])[None],
        torch.tensor([1.0]),
        torch.tensor([5.0]),
    ).to(torch.float64)
    speck = isotropic([0, 0, 3.0], 0.06, 0.5, [1, 1, 1])
    sums = {}
    for low_pass in ("classic", "antialiased"):
        found = render_gaussians(speck, camera, (33, 33), BLACK, low_pass).opacity
        assert found is not None
        sums[low_pass] = float(found.sum())
    variance = (33 * 0.06 / 3) ** 2
    true = 0.5 * 2 * math.pi * variance
    assert sums["antialiased"] == pytest.approx(true, rel=0.05)
    assert sums["classic"] > 1.5 * true


def test_what_is_out_of_sight_does_not_render(generator: torch.Generator):
    camera = some_cameras(1, generator)
    forward = camera.extrinsics[0, :3, 2]
    for depth in (-2.0, 0.0, 1.4, 4.1):
        mean = camera.centers[0] + depth * forward
        hidden = isotropic(mean.tolist(), 0.1, 0.9, [1, 1, 1])
        assert not render_gaussians(hidden, camera, (8, 8), BLACK).color.any()


def test_no_gaussians_leave_the_background(generator: torch.Generator):
    gaussians = some_gaussians(5, 1, generator)[torch.zeros(0, dtype=torch.long)]
    camera = some_cameras(1, generator)
    red = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    found = render_gaussians(gaussians, camera, (8, 8), red)
    assert (found.color == red[:, None, None]).all()
    assert (found.depth == camera.far).all()


def test_harmonics_are_orthonormal_and_known():
    """Against scipy's complex harmonics, and as an integral over the sphere."""
    from scipy.special import sph_harm_y

    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    found = spherical_harmonics(directions, 3)
    polar = directions[:, 2].arccos().numpy()
    azimuth = torch.atan2(directions[:, 1], directions[:, 0]).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = torch.from_numpy(sph_harm_y(degree, abs(order), polar, azimuth))
            expected = value.real if order >= 0 else value.imag
            expected = expected * (math.sqrt(2) if order else 1)
            index = degree * (degree + 1) + order
            torch.testing.assert_close(found[:, index], expected)
    assert [degree_of(n) for n in (1, 4, 9, 16)] == [0, 1, 2, 3]
    for wrong in (0, 2, 25):
        with pytest.raises(ValueError):
            degree_of(wrong)
