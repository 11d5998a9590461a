"""DFM with frustum volumes: training, sampling, and the authors' defects."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unseen.data.cameras import object_cameras
from unseen.data.procedural import make_object
from unseen.encoders.frustum import FrustumConfig
from unseen.encoders.scene_model import plain_denoiser
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Example, Views
from unseen.methods.dfm import DFM, DFMConfig, SampleConfig
from unseen.networks.unet2d import UNet2dConfig

SIZE = (16, 16)
TINY = DFMConfig(
    scene=FrustumConfig(
        unet=UNet2dConfig(channels=(8, 16), attention=(False, True), embedding=32),
        num_slices=8,
        num_features=2,
        head_channels=8,
        num_samples=8,
        num_render_samples=16,
    ),
    image_size=16,
    target_pixels=128,
    other_pixels=64,
    sampling=SampleConfig(num_steps=3, azimuths=(120.0, 240.0)),
)


def make_dfm(config: DFMConfig = TINY, trained: bool = True) -> DFM:
    torch.manual_seed(0)
    dfm = DFM(config)
    if trained:
        # Leave the zero initialisations, where half of the network is silent.
        for parameter in dfm.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return dfm.eval()


def make_views(batch: int = 2, views: int = 4) -> Views:
    generator = torch.Generator().manual_seed(0)
    rendered = []
    for i in range(batch):
        cameras = object_cameras(views, generator)
        rendered.append(make_object("crate", i).render(cameras, SIZE))
    return dataclasses.replace(Views.stack(rendered), depths=None)


def make_example(batch: int = 2) -> Example:
    views = make_views(batch)
    return Example(views[:, :2], views[:, 2:])


def test_every_parameter_is_trained() -> None:
    # The authors leave the network that places the samples without a gradient.
    dfm = make_dfm().train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        dfm.loss(make_example(), generator).total.backward()
    still = [n for n, p in dfm.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_loss_depends_on_the_generator_only() -> None:
    dfm, example = make_dfm().train(), make_example()
    first = dfm.loss(example, torch.Generator().manual_seed(3)).total
    again = dfm.loss(example, torch.Generator().manual_seed(3)).total
    other = dfm.loss(example, torch.Generator().manual_seed(4)).total
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_reduces_the_loss() -> None:
    dfm, example = make_dfm(trained=False).train(), make_example(1)
    optimizer = torch.optim.Adam(dfm.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = dfm.loss(example, torch.Generator().manual_seed(step % 3)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-6:]) < 0.4 * sum(losses[:6])


@torch.no_grad()
def test_denoiser_equals_its_plain_twin() -> None:
    config = dataclasses.replace(
        TINY, scene=dataclasses.replace(TINY.scene, num_render_samples=8)
    )
    dfm, views = make_dfm(config), make_views()
    camera = views.cameras[:, 2:3]
    state = dfm.model.encode_context(views[:, :2])
    condition = dfm.model.condition(state, camera, SIZE)
    x_t = torch.randn(2, 1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.9])
    fast, _ = dfm.model.denoiser(state, condition, camera, SIZE)(x_t, t)
    slow, _ = plain_denoiser(dfm.model, state, condition, camera, SIZE)(x_t, t)
    assert torch.allclose(fast, slow, atol=1e-2)
    assert (fast - slow).abs().mean() < 1e-4


@torch.no_grad()
def test_the_world_frame_does_not_matter() -> None:
    dfm, views = make_dfm(), make_views()
    motion = torch.eye(4)
    motion[:3, :3] = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    )[0]
    motion[:3, :3] *= torch.linalg.det(motion[:3, :3])
    motion[:3, 3] = torch.tensor([1.0, -0.5, 0.2])
    before = dfm.reconstruct(views[:, :2])
    moved = dataclasses.replace(views, cameras=views.cameras.transform(motion))
    after = dfm.reconstruct(moved[:, :2])
    a = before.render(views.cameras[:, 2:], SIZE).color
    b = after.render(moved.cameras[:, 2:], SIZE).color
    assert (a - b).abs().median() < 1e-4


def test_same_seed_same_bytes_and_samples_differ() -> None:
    dfm, views = make_dfm(), make_views()
    context = Views.cat([views[:1, :1]] * 3)
    first = dfm.sample_scene(context, [1, 2, 3])
    again = dfm.sample_scene(context, [1, 2, 3])
    assert torch.equal(first.tensors()["volumes"], again.tensors()["volumes"])
    assert not torch.allclose(
        first.tensors()["volumes"][0], first.tensors()["volumes"][1], atol=1e-3
    )


def test_sampling_is_in_evaluation_mode_and_leaves_the_mode_alone() -> None:
    # The authors sample in training mode, with its dropout.
    dfm, views = make_dfm(), make_views(1)
    expected = dfm.sample_scene(views[:, :1], [0])
    scene = dfm.train().sample_scene(views[:, :1], [0])
    assert scene.config() == expected.config() == {"num_samples": 16}
    assert torch.equal(scene.tensors()["volumes"], expected.tensors()["volumes"])
    assert not scene.tensors()["volumes"].requires_grad
    mean = dfm.reconstruct(views[:, :1])
    assert mean.config() == {"num_samples": 16}
    assert all(module.training for module in dfm.modules())


def test_a_scene_does_not_depend_on_its_batch() -> None:
    dfm, views = make_dfm(), make_views()
    many = dfm.sample_scene(Views.cat([views[:1, :1]] * 3), [1, 2, 3])
    one = dfm.sample_scene(views[:1, :1], [2])
    a, b = many.tensors()["volumes"][1], one.tensors()["volumes"][0]
    assert torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_kept_scene_shows_the_sampled_image(guidance: float) -> None:
    # Guidance is in the scene, not only in the images that led to it.
    dfm, views = make_dfm(), make_views(1)
    options = SampleConfig(num_steps=4, guidance=guidance)
    camera = views.cameras[:, 1:2]
    seen: list[torch.Tensor] = []
    sample_views = dfm._sample_views

    def spy(*args):
        image, scene = sample_views(*args)
        seen.append(image)
        return image, scene

    dfm._sample_views = spy  # type: ignore[method-assign]
    scene = dfm.complete(views[:, :1], camera, [0], options)
    shown = scene.render(camera, SIZE).color
    error = (shown - seen[0]).abs().mean()
    assert error < (0.03 if guidance == 1 else 0.1)


def test_autoregressive_completion_adds_views() -> None:
    dfm, views = make_dfm(), make_views()
    steps: list[tuple[int, int]] = []
    scene = dfm.sample_scene(
        views[:, :1], [0, 1], on_step=lambda done, total, _: steps.append((done, total))
    )
    # One context, one completed target, and the last noisy target.
    assert scene.tensors()["volumes"].shape[:2] == (2, 3)
    assert steps == [(i + 1, 6) for i in range(6)]
    # The scene is sampled once and rendered from anywhere: rendering again is equal.
    cameras = views.cameras[:, 1:]
    assert torch.equal(
        scene.render(cameras, SIZE).color, scene.render(cameras, SIZE).color
    )


def test_completion_cameras_look_at_the_object() -> None:
    dfm, views = make_dfm(), make_views()
    cameras: Cameras = dfm.completion_cameras(views[:, :1])
    assert cameras.shape == (2, 2)
    distance = views.cameras.centers[:, :1].norm(dim=-1)
    assert torch.allclose(
        cameras.centers.norm(dim=-1), distance.expand(-1, 2), atol=1e-4
    )
    assert torch.allclose(
        cameras.centers[..., 2],
        views.cameras.centers[:, :1, 2].expand(-1, 2),
        atol=1e-4,
    )


def test_unused_contexts_and_masks_are_optional() -> None:
    dfm, example = make_dfm().train(), make_example()
    bare = Example(
        dataclasses.replace(example.context[:, :1], masks=None),
        dataclasses.replace(example.target, masks=None),
    )
    losses = dfm.loss(bare, torch.Generator().manual_seed(0))
    assert torch.isfinite(losses.total) and losses.terms["opacity"] == 0


def test_reported_scenes_are_the_samples_alone() -> None:
    # With guidance the network also infers scenes of grey contexts; nobody asked.
    dfm, views = make_dfm(), make_views()
    shapes: list[tuple[int, ...]] = []
    dfm.complete(
        views[:, :1],
        views.cameras[:, 1:2],
        [0, 1],
        SampleConfig(num_steps=2, guidance=2.0),
        lambda done, total, scene: shapes.append(tuple(scene.shape)),
    )
    assert shapes == [(2,), (2,)]


def test_the_noisy_view_may_count_by_its_signal_to_noise_ratio() -> None:
    example = make_example()

    def target(low: float, high: float) -> float:
        dfm = make_dfm(dataclasses.replace(TINY, snr_range=(low, high)))
        return float(
            dfm.loss(example, torch.Generator().manual_seed(1)).terms["target"]
        )

    assert target(3.0, 3.0) == pytest.approx(3 * target(1.0, 1.0), rel=1e-5)
    # Without a clamp, the ratios of the two scenes' own noise levels.
    assert target(0.0, 1e9) != pytest.approx(target(1.0, 1.0), rel=0.1)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_targets_denoised_jointly_are_of_one_scene(guidance: float) -> None:
    dfm, views = make_dfm(), make_views()
    cameras = views.cameras[:, 1:3]
    steps: list[tuple[int, int]] = []
    scene = dfm.complete(
        views[:, :1],
        cameras,
        [0, 1],
        SampleConfig(num_steps=4, guidance=guidance, joint=True),
        lambda done, total, _: steps.append((done, total)),
    )
    # One context and two noisy targets, in as many steps as one target takes.
    assert scene.tensors()["volumes"].shape[:2] == (2, 3)
    assert steps == [(i + 1, 4) for i in range(4)]
    other = dfm.complete(views[:, :1], cameras, [0, 1], SampleConfig(num_steps=4))
    assert other.tensors()["volumes"].shape[:2] == (2, 3)


def test_one_target_is_the_same_jointly_and_alone() -> None:
    dfm, views = make_dfm(), make_views()
    found = [
        dfm.complete(
            views[:, :1], views.cameras[:, 1:2], [5, 6], SampleConfig(3, joint=joint)
        )
        for joint in (False, True)
    ]
    first, second = (scene.tensors()["volumes"] for scene in found)
    assert torch.equal(first, second)


@torch.no_grad()
def test_denoiser_of_several_targets_equals_its_plain_twin() -> None:
    """And each of several targets sees what the others show."""
    dfm, views = make_dfm(), make_views()
    cameras = views.cameras[:, 1:3]
    state = dfm.model.encode_context(views[:, :1])
    condition = dfm.model.condition(state, cameras, SIZE)
    x_t = torch.randn(2, 2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.9])
    denoise = dfm.model.denoiser(state, condition, cameras, SIZE)
    plain = plain_denoiser(dfm.model, state, condition, cameras, SIZE)
    assert torch.allclose(denoise(x_t, t)[0], plain(x_t, t)[0], atol=1e-5)
    other = x_t.clone()
    other[:, 1] = -other[:, 1]
    assert not torch.allclose(denoise(other, t)[0][:, 0], denoise(x_t, t)[0][:, 0])


def test_training_may_noise_several_targets() -> None:
    example = make_example()
    seen: list[int] = []
    dfm = make_dfm(dataclasses.replace(TINY, noisy_weights=(0.5, 0.5))).train()
    joint = dfm.model.joint

    def spy(context, noisy, condition, t):
        seen.append(noisy.shape[1])
        return joint(context, noisy, condition, t)

    dfm.model.joint = spy  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        assert torch.isfinite(dfm.loss(example, generator).total)
    assert set(seen) == {1, 2}
