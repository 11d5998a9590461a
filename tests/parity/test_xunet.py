"""3DiM computes what the public port does (tests/fixtures/xunet_small, xunet_full)."""

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
from unseen.checkpoints.threedim_port import read_3dim
from unseen.diffusion.samplers import ancestral
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.threedim import ThreeDiM, pair_rays


@dataclasses.dataclass(frozen=True)
class Case:
    """A fixture, and the method that the importer made of its weights."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]
    method: ThreeDiM

    @property
    def cameras(self) -> Cameras:
        """Our cameras (batch, frame)."""
        poses = torch.eye(4).repeat(2, 2, 1, 1)
        poses[..., :3, :3], poses[..., :3, 3] = self.inputs["R"], self.inputs["t"]
        side = self.inputs["x"].shape[-1]
        intrinsics = self.inputs["K"] / torch.tensor([side, side, 1.0])[:, None]
        intrinsics = intrinsics[:, None].expand(-1, 2, -1, -1)
        return Cameras(poses, intrinsics, torch.full((2, 2), 0.1), torch.ones(2, 2))

    @property
    def rays(self) -> Tensor:
        side = self.inputs["x"].shape[-1]
        return pair_rays(self.cameras[:, 0], self.cameras[:, 1], (side, side))

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(
            value, self.outputs[name], rtol=0, atol=self.tolerance[name]
        )


@pytest.fixture(
    scope="module",
    params=["xunet_small", pytest.param("xunet_full", marks=pytest.mark.slow)],
)
def case(request, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = fixture_folder(request.param)
    path = tmp_path_factory.mktemp("port") / "latest.pt"
    tensors = synthetic_state_dict(folder)
    torch.save({"optim": {}, "model": tensors, "step": 1, "epoch": 0}, path)
    return Case(
        load_arrays(folder / "inputs.npz"),
        load_arrays(folder / "outputs.npz"),
        load_meta(folder)["tolerance"]["suggested_atol"],
        read_3dim(path),
    )


def test_rays(case: Case) -> None:
    step = case.rays.shape[-1] // 8
    origins, directions = case.rays.movedim(2, -1)[:, :, ::step, ::step].split(3, -1)
    case.check("ray_pos_slice", origins)
    case.check("ray_dir_slice", directions)


@torch.no_grad()
def test_conditioning(case: Case) -> None:
    conditioning = case.method.network.conditioning
    case.check("logsnr_emb", conditioning.embed_level(case.inputs["logsnr"]))
    kept = case.inputs["cond_mask"].bool()
    assert kept.any() and not kept.all()
    for level, pose in enumerate(conditioning.embed_poses(case.rays, kept)):
        name = f"pose_emb_level{level}_slice"
        step = max(1, pose.shape[-1] // case.outputs[name].shape[-1])
        sliced = pose[:, ::64, ::step, ::step].unflatten(0, (2, 2))
        case.check(name, sliced)


@torch.no_grad()
def test_prediction(case: Case) -> None:
    i = case.inputs
    frames = torch.stack([i["x"], i["z"]], dim=1)
    kept = i["cond_mask"].bool()
    case.check("eps", case.method.network(frames, i["logsnr"], case.rays, kept))


@torch.no_grad()
def test_prediction_from_the_stored_noise_level(case: Case, monkeypatch) -> None:
    """What is left of the difference in `test_prediction` is rounding of sinusoids.

    The port takes the sine of 20,000 times a frequency, so the last bit of `exp`, which
    is the processor's choice, is seen.
    """
    i, conditioning = case.inputs, case.method.network.conditioning
    stored = case.outputs["logsnr_emb"]
    monkeypatch.setattr(conditioning, "embed_level", lambda log_snr: stored)
    frames = torch.stack([i["x"], i["z"]], dim=1)
    kept = i["cond_mask"].bool()
    found = case.method.network(frames, i["logsnr"], case.rays, kept)
    atol = 0.25 * case.tolerance["eps"]
    torch.testing.assert_close(found, case.outputs["eps"], rtol=0, atol=atol)


@torch.no_grad()
def test_a_step_of_the_sampler(case: Case) -> None:
    i, method = case.inputs, case.method
    clean = Views(0.5 * (i["x"][:1] + 1), case.cameras[:1, 0])
    camera, scale = case.cameras[:1, 1], 1 + i["step_w"].item()
    times = method.schedule.t_from_log_snr(
        torch.cat([i["step_logsnr"], i["step_logsnr_next"]]).double()
    )

    def step(noise: Tensor) -> Tensor:
        # In float32, t would round the log-SNR, which the port multiplies by 1000.
        return ancestral(
            lambda x_t, _: method.denoise(
                clean, x_t, camera, times[:1], scale, lambda x: i["step_uncond_x"]
            ),
            i["z"][:1],
            method.schedule,
            times,
            noise=lambda x: noise,
        )

    # Guidance adds four times one prediction and three times another: twice as much as
    # is forgiven in one.
    atol = 2 * case.tolerance["eps"]
    mean = step(torch.zeros_like(i["step_noise"]))
    for name, value in (("step_mean", mean), ("step_next", step(i["step_noise"]))):
        torch.testing.assert_close(value, case.outputs[name], rtol=0, atol=atol)
    spread = (step(torch.ones_like(mean)) - mean).square().mean(dim=(1, 2, 3))
    case.check("step_variance", spread)


def test_schedule(case: Case) -> None:
    t = torch.linspace(1, 0, 257)
    case.check("logsnr_schedule_256", case.method.schedule.log_snr(t))
