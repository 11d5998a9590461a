"""SparseFusion computes what its authors' code does (sparsefusion_eft, _vldm, sd_vae).

The epipolar transformer is compared step by step; the diffusion model (400 M weights)
and the autoencoder are slow.
"""

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
from unseen.checkpoints.latent_files import ldm_autoencoder, select
from unseen.checkpoints.sparsefusion_authors import (
    AUTOENCODER,
    rename_epipolar,
    rename_network,
)
from unseen.diffusion.guidance import classifier_free
from unseen.diffusion.prediction import x0_from_eps
from unseen.diffusion.samplers import ancestral
from unseen.diffusion.schedules import LogSNRSchedule
from unseen.encoders.epipolar import EpipolarConfig, EpipolarTransformer
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.methods.sparsefusion import ray_points
from unseen.networks.feature_unet import FeatureUNet, FeatureUNetConfig
from unseen.networks.image_latents import StableDiffusionLatents
from unseen.networks.latent import AutoencoderConfig


@dataclasses.dataclass(frozen=True)
class Case:
    """A fixture's numbers."""

    system: str

    def __post_init__(self) -> None:
        folder = fixture_folder(self.system)
        object.__setattr__(self, "inputs", load_arrays(folder / "inputs.npz"))
        object.__setattr__(self, "outputs", load_arrays(folder / "outputs.npz"))
        limits = load_meta(folder)["tolerance"]["suggested_atol"]
        object.__setattr__(self, "limits", limits)

    inputs: dict[str, Tensor] = dataclasses.field(init=False)
    outputs: dict[str, Tensor] = dataclasses.field(init=False)
    limits: dict[str, float] = dataclasses.field(init=False)

    def official(self) -> dict[str, Tensor]:
        return synthetic_state_dict(fixture_folder(self.system))

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(
            value, self.outputs[name], rtol=0, atol=self.limits[name]
        )


def cameras_of(case: Case) -> Cameras:
    """Our cameras of the fixture's PyTorch3D ones, in the same world.

    Points as rows: x_camera = x R + T, with x left and y up; NDC is 1 at the left and
    upper edge of a square image.
    """
    i = case.inputs
    flip = torch.tensor([-1.0, -1.0, 1.0])
    count = len(i["T"])
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    extrinsics[:, :3, :3] = i["R"] * flip
    extrinsics[:, :3, 3] = -torch.einsum("bij,bj->bi", i["R"], i["T"])
    intrinsics = torch.eye(3).repeat(count, 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = (0.5 * i["focal"]).unbind(dim=-1)
    intrinsics[:, :2, 2] = 0.5 - 0.5 * i["principal"]
    near, far = i["min_max_depth"].expand(count, 2).unbind(dim=-1)
    return Cameras(extrinsics, intrinsics, near, far)


@torch.no_grad()
def test_epipolar_transformer() -> None:
    case = Case("sparsefusion_eft")
    network = EpipolarTransformer(EpipolarConfig()).eval()
    network.load_state_dict(rename_epipolar(case.official()))
    cameras, images = cameras_of(case), case.inputs["images"][None]
    maps = network.encode(images)
    case.check("encoder_slice", maps[0, :, ::16, ::8, ::8])
    row, column = case.inputs["pixel_rc"].unbind(dim=-1)
    # NDC grow to the left and upwards.
    points = ray_points(32, 256, "edges")[row * 32 + column]
    case.check("ray_xys", 1 - 2 * points)
    target = cameras[-1:]
    found = network.look_along(Views(images, cameras[None, :-1]), maps, target, points)
    case.check("rgb", found.color[0])
    case.check("features", found.features[0])
    case.check("coarse_rgb", found.blended[0])
    case.check("t2_weights", found.depth_weights[0])
    case.check("t3_weights", found.view_weights[0])


def test_schedule() -> None:
    case = Case("sparsefusion_vldm")
    schedule = LogSNRSchedule.cosine()
    case.check("log_snr_schedule_500", schedule.log_snr(torch.linspace(0, 1, 501)))
    times, i = case.inputs["times"], case.inputs
    case.check("log_snr", schedule.log_snr(times))
    case.check("q_sample", schedule.add_noise(i["x"], i["step_noise"], times))


@pytest.mark.slow
@torch.no_grad()
def test_diffusion_model() -> None:
    case = Case("sparsefusion_vldm")
    with torch.device("meta"):
        network = FeatureUNet(FeatureUNetConfig(), latent=4, features=256)
    tensors = rename_network(case.official(), 4)
    network.load_state_dict(tensors, assign=True)
    i, schedule = case.inputs, LogSNRSchedule.cosine()
    log_snr = case.outputs["log_snr"]
    eps = network(i["x"], log_snr, i["cond_images"])
    null = network(i["x"], log_snr, torch.zeros_like(i["cond_images"]))
    case.check("eps", eps)
    case.check("eps_null", null)
    guided = classifier_free(eps, null, 2.0)
    case.check("eps_guided", guided)
    alpha = log_snr.sigmoid().sqrt()[:, None, None, None]
    sigma = (-log_snr).sigmoid().sqrt()[:, None, None, None]
    x_0 = x0_from_eps(i["x"], guided, alpha, sigma).clamp(-10, 10)
    case.check("x_start", x_0)

    def step(entry: int, noise: float) -> Tensor:
        t = i["times"][entry].double()
        return ancestral(
            lambda x_t, _: x_0[entry : entry + 1],
            i["x"][entry : entry + 1],
            schedule,
            torch.stack([t, t - 1 / 500]),
            noise=lambda x: torch.full_like(x, noise),
        )

    means = torch.cat([step(entry, 0.0) for entry in range(2)])
    case.check("mean", means)
    spread = torch.cat([step(entry, 1.0) for entry in range(2)]) - means
    case.check("log_variance", 2 * spread.mean(dim=(1, 2, 3)).log())


@pytest.mark.slow
@torch.no_grad()
def test_autoencoder() -> None:
    case = Case("sd_vae")
    latents = StableDiffusionLatents(AutoencoderConfig()).eval()
    tensors = ldm_autoencoder(select(case.official(), AUTOENCODER))
    latents.autoencoder.model.load_state_dict(tensors)
    case.check("mode_scaled", latents.encode(case.inputs["image"]))
    # The stored latent lacks the scale.
    latent = case.inputs["latent"] * latents.autoencoder.config.scale
    case.check("decoded", latents.decode(latent))
