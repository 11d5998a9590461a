"""Zero-1-to-3 computes what the published one does (tests/fixtures/zero123)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.latent_keys import convert_unet
from unseen.data.world import from_opengl, invert
from unseen.diffusion.samplers import ddim
from unseen.diffusion.schedules import ScaledLinearSchedule
from unseen.diffusion.times import times_leading
from unseen.geometry.cameras import Cameras
from unseen.methods.zero123 import Zero123, Zero123Config, pose_vectors
from unseen.networks.conv_encoder import ConvEncoderConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig

pytest.importorskip("diffusers", reason="diffusers is not installed")

UNET = "model.diffusion_model."


@dataclasses.dataclass(frozen=True)
class Case:
    """A fixture, and the official tensors of its weights."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]

    def check(self, name: str, value: Tensor) -> None:
        expected = self.outputs[name]
        atol = self.tolerance[name]
        torch.testing.assert_close(value.to(expected), expected, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def case() -> Case:
    folder = fixture_folder("zero123")
    return Case(
        load_arrays(folder / "inputs.npz"),
        load_arrays(folder / "outputs.npz"),
        load_meta(folder)["tolerance"]["suggested_atol"],
    )


def cameras(w2c: Tensor) -> Cameras:
    poses = torch.eye(4).double().repeat(len(w2c), 1, 1)
    poses[:, :3] = w2c
    count = len(w2c)
    return Cameras(
        from_opengl(invert(poses)),
        torch.eye(3).double().expand(count, 3, 3),
        torch.full((count,), 0.1).double(),
        torch.ones(count).double(),
    )


def test_pose_vectors(case: Case) -> None:
    given, target = (cameras(case.inputs[f"w2c_{x}_f64"]) for x in ("cond", "target"))
    case.check("T_vectors", pose_vectors(given, target))
    # The controls of the authors' demo: degrees of polar angle and azimuth, and radius.
    polar, azimuth, radius = case.inputs["demo_xyz"].double().unbind(dim=1)
    angles = torch.tensor([[1.0, 0.3]]).expand(2, 2).double()
    steps = torch.stack([polar, azimuth], dim=1).deg2rad()

    def at(angles: Tensor, radius: Tensor) -> Cameras:
        poses = torch.eye(4).double().repeat(2, 1, 1)
        theta, phi = angles.unbind(dim=1)
        x, y = theta.sin() * phi.cos(), theta.sin() * phi.sin()
        centers = torch.stack([x, y, theta.cos()], dim=1)
        poses[:, :3, 3] = radius[:, None] * centers
        return dataclasses.replace(given[:2], extrinsics=poses)

    start = torch.full_like(radius, 2.0)
    found = pose_vectors(at(angles, start), at(angles + steps, start + radius))
    case.check("T_demo", found)


def test_stable_zero123_tells_the_polar_angle(case: Case) -> None:
    given, target = (cameras(case.inputs[f"w2c_{x}_f64"]) for x in ("cond", "target"))
    found = pose_vectors(given, target, "stable")
    assert torch.equal(found[:, :3], pose_vectors(given, target)[:, :3])
    elevation = torch.asin(given.centers[:, 2] / given.centers.norm(dim=1))
    torch.testing.assert_close(found[:, 3], torch.deg2rad(90 - elevation.rad2deg()))


def test_the_schedule_and_the_table_of_times(case: Case) -> None:
    schedule = ScaledLinearSchedule()
    case.check("buffer/alphas_cumprod", schedule.discrete_alphas_cumprod())
    for steps, name in (
        (8, "ddim_timesteps_visited"),
        (50, "ddim50_timesteps_visited"),
    ):
        times = times_leading(steps, drop_noisiest=True)
        visited = schedule.step_of_t(times[:-1]).round().long()
        assert torch.equal(visited, case.outputs[name])
        assert float(schedule.step_of_t(times[-1:])) == 0
    whole = schedule.step_of_t(times_leading(8)[:-1]).round().long()
    assert torch.equal(whole.flip(0), case.outputs["ddim_timesteps_table"])


@pytest.fixture(scope="module")
def method() -> Zero123:
    """The published U-Net and projection; the fixture has no other parts."""
    official = synthetic_state_dict(fixture_folder("zero123"))
    config = Zero123Config(
        autoencoder=AutoencoderConfig((8,), 1, groups=4),
        image_encoder=ConvEncoderConfig((8,), 768),
    )
    with torch.device("meta"):
        found = Zero123(config)
    unet = {k.removeprefix(UNET): x for k, x in official.items() if UNET in k}
    found.unet.model.load_state_dict(convert_unet(unet, 2), assign=True)
    tensors = {k: official[f"cc_projection.{k}"] for k in ("weight", "bias")}
    found.projection.load_state_dict(tensors, assign=True)
    return found.eval()


@pytest.mark.slow
@torch.no_grad()
def test_the_network(case: Case, method: Zero123) -> None:
    i, o = case.inputs, case.outputs
    embedding = i["clip_embedding"][:, 0].expand(2, -1)
    token = method.projection(torch.cat([embedding, o["T_demo"]], dim=1))[:, None]
    case.check("cc_projection_out", token)
    t = method.schedule.t_of_step(i["t"])
    latent = i["concat_latent"].expand(2, -1, -1, -1)
    case.check("unet_eps", method.predict_noise(i["x"], t, token, latent))
    zero = torch.zeros_like(token), torch.zeros_like(latent)
    case.check("unet_eps_null", method.predict_noise(i["x"], t, *zero))
    # With one token, queries, keys and the softmax have no influence: see them, too.
    both = torch.cat([i["x"], latent], dim=1)
    two = method.unet(both, i["t"].float(), i["context_two_tokens"])
    case.check("unet_eps_two_tokens", two)
    large = method.predict_noise(i["x16"], t[:1], token[:1], i["x16"].flip(2))
    case.check("unet_eps_16", large)


@pytest.mark.slow
@torch.no_grad()
def test_the_sampler(case: Case, method: Zero123) -> None:
    i, o = case.inputs, case.outputs
    noise = iter(i["ddim_noise"])
    states: list[Tensor] = []
    estimates: list[Tensor] = []

    def keep(index: int, x_t: Tensor, x_0: Tensor) -> None:
        states.append(x_t)
        estimates.append(x_0)

    found = ddim(
        lambda x_t, t: method.denoise(
            x_t, t, o["cc_projection_out"][:1], i["concat_latent"], 3.0
        ),
        i["ddim_xT"],
        method.schedule,
        times_leading(8, drop_noisiest=True),
        eta=1.0,
        noise=lambda x: next(noise),
        on_step=keep,
    )
    case.check("ddim_sample", found)
    case.check("ddim_states", torch.cat([*states, found]))
    case.check("ddim_pred_x0", torch.cat(estimates))


def test_the_size_of_the_published_parts() -> None:
    with torch.device("meta"):
        found = Zero123(Zero123Config())
    count = sum(x.numel() for x in found.unet.parameters())
    assert round(count / 1e6, 2) == 859.53
    assert sum(x.numel() for x in found.projection.parameters()) == 593_664
    # ViT-L/14: 303.97 M and the projection.
    count = sum(x.numel() for x in found.image_encoder.parameters())
    assert round(count / 1e6, 2) == 303.97
    assert isinstance(found.config.unet, LatentUNetConfig)
