"""DFM with other forward models: light fields, Gaussians, and motions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.test_dfm import make_example, make_views
from unseen.encoders.light_field import LightFieldConfig
from unseen.encoders.motion import MotionConfig, MotionSceneModel
from unseen.encoders.pixel_gaussians import (
    PixelGaussiansConfig,
    PixelGaussiansSceneModel,
    quaternions,
)
from unseen.encoders.view_unet import pixel_guess
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.dfm import DFM, DFMConfig, SampleConfig
from unseen.networks.hypernetwork import HyperNetworkConfig
from unseen.networks.unet2d import UNet2dConfig
from unseen.rendering.splatting import rotation_matrices
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.light_field import LightFieldScene
from unseen.scenes.motion import MotionScene, warp

SIZE = (16, 16)
UNET = UNet2dConfig(channels=(8, 16), num_blocks=1, attention=(False, True))
HYPER = HyperNetworkConfig(16, 16, 1, (6, 16, 16, 3))
SCENES: dict[type, Any] = {
    LightFieldScene: LightFieldConfig(UNET, head_channels=8, grid=4, hyper=HYPER),
    GaussianScene: PixelGaussiansConfig(UNET, head_channels=8, stride=4),
    MotionScene: MotionConfig(UNET, head_channels=8, num_layers=3),
}
BASE = DFMConfig(
    image_size=16,
    target_pixels=256,
    other_pixels=256,
    sampling=SampleConfig(num_steps=2),
)


def make(kind: type, **settings: Any) -> DFM:
    if kind is MotionScene:
        settings = {
            "supervise_context": False,
            "deterministic_weight": 0.0,
            "sampling": SampleConfig(num_steps=2, azimuths=(0.0,)),
            **settings,
        }
    torch.manual_seed(0)
    dfm = DFM(dataclasses.replace(BASE, scene=SCENES[kind], **settings))
    with torch.no_grad():
        for parameter in dfm.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return dfm.eval()


@pytest.mark.parametrize("kind", SCENES)
def test_everything_is_trained(kind: type) -> None:
    dfm, generator = make(kind).train(), torch.Generator().manual_seed(0)
    for _ in range(2):
        dfm.loss(make_example(), generator).total.backward()
    still = [n for n, p in dfm.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("kind", SCENES)
def test_samples_are_scenes_of_their_kind_and_differ(kind: type) -> None:
    dfm, views = make(kind), make_views()
    context = Views.cat([views[:1, :1]] * 2)
    scene = dfm.sample_scene(context, [1, 2])
    again = dfm.sample_scene(context, [1, 2])
    assert type(scene) is kind and scene.shape == (2,)
    camera = views.cameras[:1, 1:2].expand(2, 1)
    first, second = (s.render(camera, SIZE).color for s in (scene, again))
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1], atol=1e-4)


@pytest.mark.parametrize("kind", [LightFieldScene, GaussianScene])
@torch.no_grad()
def test_the_world_frame_does_not_matter(kind: type) -> None:
    dfm, views = make(kind), make_views()
    motion = torch.eye(4)
    turn = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    motion[:3, :3] = torch.linalg.qr(turn)[0]
    motion[:3, :3] *= torch.linalg.det(motion[:3, :3])
    motion[:3, 3] = torch.tensor([1.0, -0.5, 0.2])
    moved = dataclasses.replace(views, cameras=views.cameras.transform(motion))
    first, second = (dfm.reconstruct(v[:, :2]) for v in (views, moved))
    a = first.render(views.cameras[:, 2:], SIZE).color
    b = second.render(moved.cameras[:, 2:], SIZE).color
    assert (a - b).abs().median() < 1e-4


@torch.no_grad()
def test_gaussians_of_a_view_start_from_its_pixels() -> None:
    """A head that says nothing puts the view's own colours along its own rays."""
    torch.manual_seed(0)
    dfm, views = (
        DFM(dataclasses.replace(BASE, scene=SCENES[GaussianScene])),
        make_views(),
    )
    assert isinstance(dfm.model, PixelGaussiansSceneModel)
    torch.nn.init.zeros_(dfm.model.mean_head.weight)
    given = dataclasses.replace(views[:, :1], images=2 * views.images[:, :1] - 1)
    state = dfm.model.encode_context(given)
    scene = dfm.model.deterministic(state)
    places = views[:, :1].shrink((4, 4))
    guess = pixel_guess(2 * places.images - 1, torch.zeros(2), 0.25).sigmoid()
    expected = guess[:, 0].flatten(2).transpose(1, 2).repeat_interleave(2, dim=1)
    torch.testing.assert_close(scene.base_colors, expected, rtol=0, atol=1e-4)
    found = scene.render(places.cameras, (4, 4))
    assert found.opacity is not None and found.opacity.min() > 0.1


def test_quaternions() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(50, 4, generator=generator)
    # Half turns have no real part, which simpler formulas divide by.
    drawn[:10, 0] = 0
    turns = rotation_matrices(drawn)
    torch.testing.assert_close(
        rotation_matrices(quaternions(turns)), turns, rtol=0, atol=1e-5
    )


def test_made_up_motions_are_rigid() -> None:
    """A dark point ends up where the motion takes it."""
    config = MotionConfig(UNET, num_layers=3, shift=0.25, turn=0.0)
    model = MotionSceneModel(config)
    image = torch.ones(4, 1, 3, 32, 32)
    image[..., 14:18, 14:18] = 0
    cameras = make_views(4, 1).cameras
    example = model.observe(
        Example(Views(image, cameras), Views(image, cameras)),
        torch.Generator().manual_seed(0),
    )
    dark = 1 - example.target.images[:, 0, 0]
    place = (torch.arange(32) + 0.5) / 32 - 0.5
    x, y = (dark.sum(dim=d) @ place / dark.sum(dim=(1, 2)) for d in (1, 2))
    torch.testing.assert_close(torch.hypot(x, y), torch.full((4,), 0.25))
    angles = torch.atan2(y, x)
    assert angles.std() > 0.5
    assert torch.equal(example.target.cameras.extrinsics, cameras.extrinsics)
    plain = MotionSceneModel(dataclasses.replace(config, made_up=False))
    assert plain.observe(example, torch.Generator()) is example


def test_turned_pictures_turn_back() -> None:
    model = MotionSceneModel(MotionConfig(UNET, num_layers=3, shift=0.0, turn=40.0))
    flow = model.random_flow(3, (32, 32), torch.Generator().manual_seed(1))
    x = (torch.arange(32) + 0.5) / 32 - 0.5
    grid = torch.stack(torch.meshgrid(x, x, indexing="xy"))
    # Distances from the middle stay, and so does the middle.
    before = grid + flow
    torch.testing.assert_close(
        before.norm(dim=1), grid.norm(dim=0).expand(3, -1, -1), rtol=0, atol=1e-5
    )
    assert flow[:, :, 15:17, 15:17].abs().max() < 0.03
    image = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(warp(image, flow), image, atol=0.1)


def test_one_target_is_the_same_jointly_and_alone() -> None:
    dfm, views = make(GaussianScene), make_views()
    camera, both = views.cameras[:, 1:2], views.cameras[:, 1:3]
    alone, joint = SampleConfig(2, joint=False), SampleConfig(2, joint=True)

    def colors(cameras: Cameras, options: SampleConfig) -> Tensor:
        scene = dfm.complete(views[:, :1], cameras, [3, 4], options)
        return scene.render(both, SIZE).color

    assert torch.equal(colors(camera, alone), colors(camera, joint))
    assert not torch.equal(colors(both, alone), colors(both, joint))


@pytest.mark.slow
def test_a_motion_model_learns_where_things_go() -> None:
    """A disc moves by a quarter of the picture in any direction; no flow is shown."""
    config = DFMConfig(
        MotionConfig(
            UNet2dConfig((16, 32), 1, (False, True), 32, 4),
            head_channels=16,
            shift=0.25,
            turn=0.0,
        ),
        image_size=16,
        context_weights=(1.0,),
        drop_context=0.0,
        target_pixels=256,
        snr_range=(1.0, 10.0),
        deterministic_weight=0.0,
        supervise_context=False,
        opacity_weight=0.0,
        sampling=SampleConfig(20, guidance=1.0, eta=1.0, azimuths=(0.0,)),
    )
    place = (torch.arange(16) + 0.5) / 16 - 0.5
    disc = (torch.hypot(place[:, None], place) < 0.18).float()
    images = (1 - 0.8 * disc).expand(8, 1, 3, 16, 16)
    views = Views(images, make_views(1, 1).cameras.expand(8, 1))
    torch.manual_seed(0)
    dfm, generator = DFM(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(dfm.parameters(), lr=2e-3)
    fade = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 1000)
    for _ in range(1000):
        loss = dfm.loss(Example(views, views), generator).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fade.step()
    scene = dfm.sample_scene(views, range(8))
    dark = 1 - scene.render(views.cameras, SIZE).color[:, 0, 0]
    mass = dark.sum(dim=(1, 2)) / (0.8 * disc.sum())
    x, y = (dark.sum(dim=d) @ place / dark.sum(dim=(1, 2)) for d in (1, 2))
    # Most are one disc, moved as far as it should be, in directions of their own.
    good = (torch.hypot(x, y) > 0.15) & (mass > 0.7) & (mass < 1.5)
    assert good.sum() >= 6, (x, y, mass)
    angles = torch.atan2(y, x)[good]
    spread = torch.hypot(angles.cos().mean(), angles.sin().mean())
    assert spread < 0.95 and angles.std() > 0.2
