"""The conditional field: analytic truth, twins, invariances, on small sizes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.geometry.cameras import Cameras, intrinsics_from_fov, look_at
from unseen.geometry.projection import world_to_camera
from unseen.geometry.rays import image_points
from unseen.networks.resnet_fc import ResnetFCConfig, TimeResnetFC
from unseen.scenes.aligned_field import AlignedField, look_up_views
from unseen.scenes.conditional_field import ConditionalFieldScene
from unseen.scenes.io import load_scene, save_scene
from unseen.scenes.ray_sampling import RaySampling

NETWORK = ResnetFCConfig(width=10, features=6, out_features=2, time_width=8)
AUTHORS = RaySampling(
    6, 4, "corners", "distance", quadrature="endpoint", proposal_loss=False
)
SAMPLINGS = {"ours": RaySampling(6, 4), "authors": AUTHORS}
NEAR, FAR = 1.5, 4.5


def make_cameras(batch: int, views: int, generator: torch.Generator) -> Cameras:
    centers = torch.randn(batch, views, 3, generator=generator)
    centers = 3 * functional.normalize(centers, dim=-1)
    ones = torch.ones(batch, views)
    return Cameras(
        look_at(centers, torch.zeros(3)),
        intrinsics_from_fov(0.8 * ones),
        NEAR * ones,
        FAR * ones,
    )


def make_network(generator: torch.Generator) -> TimeResnetFC:
    network = TimeResnetFC(NETWORK)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network


def make_scene(
    generator: torch.Generator, sampling: RaySampling, views: int = 3
) -> ConditionalFieldScene:
    cameras = make_cameras(2, views, generator)
    steps = torch.zeros(2, views)
    steps[:, -1] = torch.tensor([30.0, 700.0])

    def make_field() -> AlignedField:
        maps = torch.randn(2, views, 10, 6, 8, generator=generator)
        return AlignedField(
            make_network(generator),
            maps,
            cameras,
            steps,
            steps[:, -1],
            sampling.pixel_grid,
            sampling.max_points,
        )

    background = torch.tensor([0.2, 0.5, 0.9])
    return ConditionalFieldScene(make_field(), make_field(), background, sampling)


@pytest.fixture(params=SAMPLINGS)
def scene(
    request: pytest.FixtureRequest, generator: torch.Generator
) -> ConditionalFieldScene:
    return make_scene(generator, SAMPLINGS[request.param])


@pytest.fixture
def cameras(generator: torch.Generator) -> Cameras:
    return make_cameras(2, 2, torch.Generator().manual_seed(7))


def change_fields(scene: ConditionalFieldScene, change) -> ConditionalFieldScene:
    assert scene.proposal is not None
    return dataclasses.replace(
        scene, field=change(scene.field), proposal=change(scene.proposal)
    )


# ---- Pixels and look-ups ------------------------------------------------------------


def test_both_pixel_grids() -> None:
    pixels = torch.tensor([0, 3, 11])  # of an image of 3 x 4
    torch.testing.assert_close(
        image_points((3, 4), pixels, "corners"),
        torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]),
    )
    torch.testing.assert_close(
        image_points((3, 4), pixels, "centers"),
        torch.tensor([[0.5 / 4, 0.5 / 3], [3.5 / 4, 0.5 / 3], [3.5 / 4, 2.5 / 3]]),
    )


@pytest.mark.parametrize("pixel_grid", ["centers", "corners"])
def test_look_up_equals_grid_sample(
    pixel_grid, cameras: Cameras, generator: torch.Generator
) -> None:
    """Inside, outside and behind, forward and backward."""
    maps = torch.randn(2, 2, 5, 6, 8, generator=generator, requires_grad=True)
    local = torch.randn(2, 2, 40, 3, generator=generator) + torch.tensor([0, 0, 1.0])
    cotangent = torch.randn(2, 2, 40, 5, generator=generator)
    fast = look_up_views(maps, cameras, local, pixel_grid)
    pinhole = local @ cameras.intrinsics.mT
    xy = pinhole[..., :2] / pinhole[..., 2:]
    assert ((xy < 0) | (xy > 1)).any() and (local[..., 2] < 0).any()
    slow = functional.grid_sample(
        maps.flatten(0, 1),
        2 * xy.flatten(0, 1)[:, :, None] - 1,
        padding_mode="border",
        align_corners=pixel_grid == "corners",
    )
    slow = slow[..., 0].mT.unflatten(0, (2, 2))
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad((x * cotangent).sum(), maps)[0] for x in (fast, slow)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


# ---- The field ----------------------------------------------------------------------


def test_query_equals_the_plain_network(
    cameras: Cameras, generator: torch.Generator
) -> None:
    """The projected maps against features at samples, forward and backward."""
    network = make_network(generator)
    features = torch.randn(2, 2, 6, 6, 8, generator=generator, requires_grad=True)
    steps = torch.tensor([[0.0, 30.0], [0.0, 700.0]])
    points = torch.randn(2, 9, 3, generator=generator)
    cotangent = torch.randn(2, 9, 6, generator=generator)
    field = AlignedField(
        network, network.project_features(features), cameras, steps, steps[:, -1]
    )
    fast = field.query(points)
    local = world_to_camera(cameras, points[:, None])
    found = look_up_views(features, cameras, local, "centers")
    out = network(local, found, steps, steps[:, -1])
    slow = torch.cat([out[..., 3:4].relu(), out[..., :3].sigmoid(), out[..., 4:]], -1)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    learned = [features, *network.parameters()]
    pairs = (torch.autograd.grad((x * cotangent).sum(), learned) for x in (fast, slow))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_pieces_and_known_views_change_nothing(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    pixels = torch.arange(20).expand(2, 2, -1)
    plain = scene.render_pixels(cameras, (4, 5), pixels)
    pieces = change_fields(scene, lambda f: dataclasses.replace(f, max_points=400))
    rays = scene.sampling.camera_rays(cameras, (4, 5), pixels)
    known = pieces.ask_views(rays, 2)
    cached = pieces.render_rays(rays, known=known).color.unflatten(1, (2, 20))
    found = pieces.render_pixels(cameras, (4, 5), pixels)
    for color in (found.color, cached):
        torch.testing.assert_close(color, plain.color, rtol=1e-4, atol=1e-5)
    # The first layer's feature part is in the maps already.
    learned = [
        parameter
        for name, parameter in scene.field.network.named_parameters()
        if not name.startswith("feature_in")
    ]
    results = []
    for color in (plain.color, found.color, cached):
        results.append(torch.autograd.grad(color.square().sum(), learned))
    for a, b, c in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(c, a, rtol=1e-3, atol=1e-4)


def test_known_views_are_not_asked_again(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    pixels = torch.arange(20).expand(2, 2, -1)
    rays = scene.sampling.camera_rays(cameras, (4, 5), pixels)
    sampling = dataclasses.replace(scene.sampling, num_importance=0)
    scene = dataclasses.replace(scene, sampling=sampling)
    known = scene.ask_views(rays, 2)
    assert known.proposal is None
    expected = scene.render_rays(rays, known=known).color
    # Spoil the known views: their features are not looked at any more.
    maps = scene.field.maps.clone()
    maps[:, :2] = torch.nan
    spoilt = dataclasses.replace(
        scene, field=dataclasses.replace(scene.field, maps=maps)
    )
    torch.testing.assert_close(spoilt.render_rays(rays, known=known).color, expected)


# ---- Rendering ----------------------------------------------------------------------


def fog(scene: ConditionalFieldScene, density: float) -> ConditionalFieldScene:
    """Make the fields constant: grey fog with features 1 and 2."""

    def change(field: AlignedField) -> AlignedField:
        with torch.no_grad():
            field.network.out.weight.zero_()
            values = [0.0, 0.0, 0.0, density, 1.0, 2.0]
            field.network.out.bias.copy_(torch.tensor(values))
        return field

    return change_fields(scene, change)


def test_fog_has_the_opacity_of_its_length(
    generator: torch.Generator, cameras: Cameras
) -> None:
    """1 - exp(-density length); the length is Euclidean, whichever bound is meant."""
    density, size = 0.4, (3, 3)
    for name, sampling in SAMPLINGS.items():
        scene = fog(make_scene(generator, sampling), density)
        r = scene.render(cameras, size)
        assert r.opacity is not None
        length = torch.full_like(r.opacity, FAR - NEAR)
        if name == "ours":
            xy = image_points(size, torch.arange(9), "centers")
            offset = 2 * math.tan(0.4) * (xy - 0.5)
            length = length * (1 + offset.square().sum(-1)).sqrt().view(size)
            opacity = 1 - (-density * length).exp()
            torch.testing.assert_close(r.opacity, opacity)
        else:
            # The endpoint rule overshoots by its last, repeated interval.
            assert (r.opacity > 1 - (-density * length).exp()).all()
            assert (r.opacity < 1 - (-1.3 * density * length).exp()).all()
        background = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)
        seen = r.opacity[:, :, None]
        torch.testing.assert_close(r.color, 0.5 * seen + (1 - seen) * background)
        assert r.features is not None
        torch.testing.assert_close(r.features[:, :, 1], 2 * r.opacity)


def test_empty_space_is_as_far_as_can_be(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    """Depth is z: at the image's corner, distance `far` is nearer in depth."""
    r = fog(scene, -1.0).render(cameras, (3, 3))
    assert r.opacity is not None and r.depth is not None
    assert r.opacity.abs().max() == 0
    if scene.sampling.measure == "depth":
        torch.testing.assert_close(r.depth, torch.full_like(r.depth, FAR))
        return
    corner = 1 / math.sqrt(1 + 2 * math.tan(0.4) ** 2)
    span = (FAR - NEAR) / 9
    assert r.depth[0, 0, 1, 1].item() == pytest.approx(FAR, abs=span)
    ratio = r.depth[0, 0, 0, 0] / r.depth[0, 0, 1, 1]
    assert ratio.item() == pytest.approx(corner, rel=1e-4)


def test_moving_the_world_changes_nothing(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    motion = look_at(torch.tensor([0.3, -2.0, 0.7]), torch.tensor([0.1, 1.0, 0.0]))
    moved = change_fields(
        scene, lambda f: dataclasses.replace(f, cameras=f.cameras.transform(motion))
    )
    expected = scene.render(cameras, (4, 5))
    found = moved.render(cameras.transform(motion), (4, 5))
    torch.testing.assert_close(found.color, expected.color, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.depth, expected.depth, rtol=1e-3, atol=1e-4)


def test_the_order_of_views_does_not_matter(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    order = [1, 2, 0]
    permuted = change_fields(
        scene,
        lambda f: dataclasses.replace(
            f,
            maps=f.maps[:, order],
            cameras=f.cameras[:, order],
            steps=f.steps[:, order],
        ),
    )
    found, expected = (s.render(cameras, (4, 5)) for s in (permuted, scene))
    torch.testing.assert_close(found.color, expected.color, rtol=1e-3, atol=1e-4)


def test_one_scene_of_a_batch(scene: ConditionalFieldScene, cameras: Cameras) -> None:
    expected = scene.render(cameras, (4, 5))
    single = scene[1]
    assert single.shape == () and scene[0:1].shape == (1,)
    found = single.render(cameras[1], (4, 5))
    for name in ("color", "depth", "opacity", "features"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name)[1], rtol=1e-3, atol=1e-4
        )
    points = torch.randn(2, 7, 3)
    density, color = scene.evaluate(points)
    alone = single.evaluate(points[1])
    torch.testing.assert_close(alone[0], density[1])
    torch.testing.assert_close(alone[1], color[1])


def test_chosen_pixels_are_those_of_the_image(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    image = scene.render(cameras, (4, 5))
    pixels = torch.tensor([3, 11, 19]).expand(2, 2, -1)
    found = scene.render_pixels(cameras, (4, 5), pixels)
    expected = image.color.flatten(-2)[..., [3, 11, 19]].mT
    torch.testing.assert_close(found.color, expected)
    assert image.depth is not None
    torch.testing.assert_close(found.depth, image.depth.flatten(-2)[..., [3, 11, 19]])


def test_samples_are_random_with_a_generator_only(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    pixels = torch.arange(20).expand(2, 2, -1)

    def render(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return scene.render_pixels(cameras, (4, 5), pixels, generator).color

    assert torch.equal(render(None), render(None))
    assert torch.equal(render(3), render(3))
    assert not torch.equal(render(3), render(4))


def test_the_proposal_learns_by_its_own_colour(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    """The published code never trains it; ours does unless told otherwise."""
    assert scene.proposal is not None
    pixels = torch.arange(20).expand(2, 2, -1)
    learned = [
        parameter
        for name, parameter in scene.proposal.network.named_parameters()
        if not name.startswith("feature_in")
    ]
    r = scene.render_pixels(cameras, (4, 5), pixels)
    through_color = torch.autograd.grad(
        r.color.sum(), learned, retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in through_color)
    if not scene.sampling.proposal_loss:
        assert "proposal_color" not in r.extras
        return
    assert r.extras["proposal_color"].shape == r.color.shape
    loss = r.extras["proposal_color"].square().sum()
    gradients = torch.autograd.grad(loss, learned)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_extras_describe_the_rays(
    scene: ConditionalFieldScene, cameras: Cameras
) -> None:
    r = scene.render_pixels(cameras, (4, 5), torch.arange(20).expand(2, 2, -1))
    edges, weights = r.extras["edges"], r.extras["weights"]
    assert weights.shape == (2, 2, 20, 10) and edges.shape == (2, 2, 20, 11)
    assert (edges.diff(dim=-1) >= 0).all() and edges.min() >= 0
    torch.testing.assert_close(weights.sum(dim=-1), r.opacity)
    if scene.sampling.quadrature == "midpoint":
        assert edges.max() == 1


def test_bounds_hold_every_view(scene: ConditionalFieldScene) -> None:
    low, high = scene.bounds()
    centers = scene.field.cameras.centers
    # The scene's centre, on every view's axis, lies at a distance of 3.
    assert (low < 0).all() and (high > 0).all()
    ahead = centers + scene.field.cameras.extrinsics[..., :3, 2] * 0.99 * FAR
    if scene.sampling.measure == "depth":
        assert (ahead > low).all() and (ahead < high).all()


def test_a_saved_scene_renders_identically(
    scene: ConditionalFieldScene, cameras: Cameras, tmp_path: Path
) -> None:
    save_scene(scene[1], tmp_path / "scene.safetensors")
    loaded = load_scene(tmp_path / "scene.safetensors")
    expected = scene[1].render(cameras[1], (4, 5))
    assert torch.equal(loaded.render(cameras[1], (4, 5)).color, expected.color)
