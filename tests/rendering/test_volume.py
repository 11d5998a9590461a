"""Volume rendering against closed forms, and what it must not depend on."""

import math

import pytest
import torch

from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.rays import image_rays
from unseen.geometry.trajectories import orbit
from unseen.rendering.volume import (
    distortion_loss,
    integrate,
    render_image,
    render_rays,
    share_scenes,
)


def camera_at(*center: float, fov: float = 0.7, near: float = 1.0, far: float = 5.0):
    centers = torch.tensor([center])
    return Cameras(
        look_at(centers, torch.zeros(1, 3)),
        intrinsics_from_fov(torch.tensor([fov])),
        torch.tensor([near]),
        torch.tensor([far]),
    )


def blob(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth, lopsided object with colour and two features."""
    offset = points - torch.tensor([0.1, -0.2, 0.05])
    density = 6 * torch.exp(-4 * offset.square().sum(dim=-1))
    color = torch.sigmoid(3 * points)
    return density, torch.cat([color, points.sin()[..., :2]], dim=-1)


def constant(sigma: float):
    """Density `sigma` everywhere, grey."""

    def field(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full_like(points[..., 0], sigma), torch.full_like(points, 0.5)

    return field


@pytest.mark.parametrize("lindisp", [False, True])
@pytest.mark.parametrize("num_fine", [0, 7])
def test_constant_density_has_its_closed_form_opacity(lindisp, num_fine):
    # The optical length of a slanted ray is that of the ray, not of its depth.
    cameras, sigma = camera_at(3.0, 0.0, 0.0, fov=1.5), 0.3
    origins, directions = image_rays(cameras, (5, 5))
    length = (cameras.far - cameras.near)[:, None] * directions.norm(dim=-1)
    for generator in (None, torch.Generator().manual_seed(0)):
        rays = render_rays(
            constant(sigma),
            origins,
            directions,
            cameras.near,
            cameras.far,
            9,
            num_fine=num_fine,
            background=0.0,
            generator=generator,
            lindisp=lindisp,
        )
        expected = 1 - torch.exp(-sigma * length)
        torch.testing.assert_close(rays.opacity, expected)
        torch.testing.assert_close(
            rays.color, 0.5 * expected[..., None].expand(1, 25, 3)
        )
        assert rays.features is None


def test_depth_converges_to_its_closed_form():
    # E[z] = near + (1 - exp(-k L)) / k for density k along the depth, z = far if free.
    cameras, sigma = camera_at(3.0, 0.0, 0.0, fov=1.2), 0.8
    origins, directions = image_rays(cameras, (3, 3))
    rate = sigma * directions.norm(dim=-1)
    length = cameras.far - cameras.near
    expected = cameras.near + (1 - torch.exp(-rate * length)) / rate
    errors = []
    for num_samples in (8, 16, 32, 64):
        rays = render_rays(
            constant(sigma),
            origins,
            directions,
            cameras.near,
            cameras.far,
            num_samples,
        )
        errors.append(float((rays.depth - expected).abs().max()))
    # Midpoints are second order: the error falls by four with every doubling.
    order = math.log2(errors[0] / errors[-1]) / 3
    assert 1.8 < order < 2.2
    assert errors[-1] < 1e-3


def test_color_converges_on_a_smooth_field():
    cameras = camera_at(2.0, 1.5, 1.0)
    images = [render_image(blob, cameras, (6, 6), n).color for n in (16, 32, 512)]
    errors = [float((image - images[-1]).abs().max()) for image in images[:2]]
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < 1e-2


def test_a_solid_wall_is_seen_at_its_depth():
    def wall(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (points[..., 0] < 0).float() * 1e4, torch.zeros_like(points)

    rendering = render_image(wall, camera_at(3.0, 0.0, 0.0), (7, 9), 400)
    # The wall faces the camera: the same depth (not distance) in every pixel.
    torch.testing.assert_close(
        rendering.depth, torch.full((1, 7, 9), 3.0), atol=0.01, rtol=0
    )
    torch.testing.assert_close(rendering.opacity, torch.ones(1, 7, 9))
    assert rendering.color.abs().max() < 1e-5


def test_empty_space_is_background_at_far():
    cameras = camera_at(3.0, 0.0, 0.0)
    background = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    rendering = render_image(constant(0.0), cameras, (2, 3), 4, background=background)
    expected = background[:, None, None].expand(1, 3, 2, 3)
    torch.testing.assert_close(rendering.color, expected)
    torch.testing.assert_close(rendering.depth, torch.full((1, 2, 3), 5.0))
    (gradient,) = torch.autograd.grad(rendering.color.sum(), background)
    torch.testing.assert_close(gradient, torch.full((3,), 6.0))


def test_one_background_per_batch_entry():
    cameras = orbit(2, 0.2, 3.0, 0.7, 1.0, 5.0)
    background = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rendering = render_image(constant(0.0), cameras, (2, 2), 4, background=background)
    torch.testing.assert_close(rendering.color[:, :, 0, 0], background)


def test_a_rigid_motion_of_the_world_leaves_images_equal():
    motion = look_at(torch.tensor([0.4, -1.0, 2.0]), torch.tensor([1.0, 3.0, 0.0]))
    cameras = camera_at(2.0, 1.5, 1.0)

    def moved(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return blob((points - motion[:3, 3]) @ motion[:3, :3])

    still = render_image(blob, cameras, (8, 8), 24, num_fine=8)
    after = render_image(moved, cameras.transform(motion), (8, 8), 24, num_fine=8)
    for name in ("color", "depth", "opacity", "features"):
        torch.testing.assert_close(
            getattr(still, name), getattr(after, name), atol=1e-4, rtol=1e-4
        )


def test_a_resize_samples_the_same_image():
    # Pixel (i, j) of size n is pixel (3 i + 1, 3 j + 1) of size 3 n.
    cameras = camera_at(2.0, 1.5, 1.0)
    small = render_image(blob, cameras, (5, 4), 16)
    large = render_image(blob, cameras, (15, 12), 16)
    torch.testing.assert_close(small.color, large.color[..., 1::3, 1::3])
    assert large.depth is not None
    torch.testing.assert_close(small.depth, large.depth[..., 1::3, 1::3])


def test_the_chunk_size_changes_nothing_and_bounds_the_calls():
    cameras = orbit(2, 0.3, 3.0, 0.7, 1.0, 5.0)
    sizes = []

    def counted(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(points.shape[-2])
        return blob(points)

    whole = render_image(blob, cameras, (6, 7), 8, num_fine=4, chunk=1000)
    parts = render_image(counted, cameras, (6, 7), 8, num_fine=4, chunk=5)
    assert max(sizes) == 5 * 8
    for name in ("color", "depth", "opacity", "features"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name))


def test_reusing_coarse_samples_equals_evaluating_them_again():
    cameras = camera_at(2.0, 1.5, 1.0)
    arguments = (*image_rays(cameras, (4, 4)), cameras.near, cameras.far, 6, 5)
    reused = render_rays(blob, *arguments)
    evaluated = render_rays(blob, *arguments, fine_field=blob)
    for name in ("color", "depth", "opacity", "features", "weights", "positions"):
        torch.testing.assert_close(getattr(reused, name), getattr(evaluated, name))
    assert reused.coarse is not None and reused.coarse.positions.shape[-1] == 6
    assert (reused.positions.diff(dim=-1) >= 0).all()


def test_fine_samples_find_a_thin_shell():
    def shell(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        near_surface = (points.norm(dim=-1) - 0.5).abs() < 0.05
        return near_surface * 200.0, torch.ones_like(points)

    cameras = camera_at(3.0, 0.0, 0.0, fov=0.05)
    coarse = render_image(shell, cameras, (1, 1), 64)
    fine = render_image(shell, cameras, (1, 1), 64, num_fine=64)
    truth = 2.45 + 1 / 200
    errors = [abs(float(image.depth) - truth) for image in (coarse, fine)]
    assert errors[1] < 0.25 * errors[0]
    assert errors[1] < 0.01


def test_near_and_far_may_differ_between_rays():
    cameras = camera_at(3.0, 0.0, 0.0)
    origins, directions = image_rays(cameras, (1, 2))
    near, far = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 5.0]])
    rays = render_rays(constant(0.5), origins, directions, near, far, 4)
    length = (far - near) * directions.norm(dim=-1)
    torch.testing.assert_close(rays.opacity, 1 - torch.exp(-0.5 * length))
    assert (rays.positions > near[..., None]).all()
    assert (rays.positions < far[..., None]).all()


def test_samples_may_be_even_in_disparity():
    cameras = camera_at(3.0, 0.0, 0.0)
    rays = image_rays(cameras, (1, 1))
    arguments = (*rays, cameras.near, cameras.far, 8)
    positions = render_rays(constant(0.5), *arguments, lindisp=True).positions
    # Eight bins between 1 / near = 1 and 1 / far = 0.2, nearest first.
    expected = 1 - 0.1 * (torch.arange(8) + 0.5)
    torch.testing.assert_close(1 / positions[0, 0], expected)


def test_views_share_the_field_of_their_scene():
    shift = torch.tensor([0.0, 0.4])[:, None, None]

    def scenes(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert points.ndim == 3 and len(points) == 2
        return blob(points - shift)

    cameras = orbit(6, 0.3, 3.0, 0.7, 1.0, 5.0).reshape(2, 3)
    rendering = render_image(share_scenes(scenes), cameras, (4, 5), 8)
    assert rendering.color.shape == (2, 3, 3, 4, 5)
    for scene in range(2):
        alone = render_image(
            lambda points, s=scene: blob(points - shift[s]), cameras[scene], (4, 5), 8
        )
        torch.testing.assert_close(rendering.color[scene], alone.color)
        torch.testing.assert_close(rendering[scene].features, alone.features)


def test_gradients_reach_the_field_and_agree_with_differences():
    cameras = camera_at(2.0, 1.5, 1.0)
    directions = image_rays(cameras, (2, 2))[1].double()
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(1, 4, 6, generator=generator).double().sort(dim=-1).values
    edges = torch.linspace(0, 1, 7).double().expand(1, 4, 7)
    density = torch.rand(1, 4, 6, generator=generator).double().requires_grad_()
    values = torch.rand(1, 4, 6, 4, generator=generator).double().requires_grad_()

    def outputs(density: torch.Tensor, values: torch.Tensor):
        rays = integrate(density, values, directions, positions, edges)
        return rays.color, rays.depth, rays.opacity, rays.features

    assert torch.autograd.gradcheck(outputs, (density, values))


def distortion_pairs(weights: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """The slow twin of `distortion_loss`: all pairs."""
    middle = 0.5 * (edges[..., 1:] + edges[..., :-1])
    gaps = (middle[..., :, None] - middle[..., None, :]).abs()
    pairs = weights[..., :, None] * weights[..., None, :] * gaps
    own = weights.square() * edges.diff(dim=-1) / 3
    return pairs.sum(dim=(-1, -2)) + own.sum(dim=-1)


def test_distortion_equals_all_pairs_forward_and_backward():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(3, 5, 12, generator=generator).double().requires_grad_()
    edges = torch.rand(3, 5, 13, generator=generator).double().sort(dim=-1).values
    edges.requires_grad_()
    fast, slow = distortion_loss(weights, edges), distortion_pairs(weights, edges)
    torch.testing.assert_close(fast, slow)
    cotangent = torch.randn(3, 5, generator=generator).double()
    torch.testing.assert_close(
        torch.autograd.grad(fast, (weights, edges), cotangent),
        torch.autograd.grad(slow, (weights, edges), cotangent),
    )


def test_distortion_does_not_change_when_an_interval_is_split():
    edges = torch.tensor([0.0, 0.4, 1.0])
    weights = torch.tensor([0.5, 0.3])
    finer = torch.tensor([0.0, 0.2, 0.4, 0.7, 1.0])
    torch.testing.assert_close(
        distortion_loss(weights, edges),
        distortion_loss(weights.repeat_interleave(2) / 2, finer),
    )
