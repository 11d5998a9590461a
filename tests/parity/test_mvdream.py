"""MVDream computes what the published one does (tests/fixtures/mvdream)."""

from __future__ import annotations

import dataclasses
import math

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
from unseen.data.world import Y_UP, from_opengl
from unseen.diffusion.samplers import ddim
from unseen.diffusion.schedules import ScaledLinearSchedule
from unseen.diffusion.times import times_leading
from unseen.geometry.cameras import Cameras
from unseen.geometry.trajectories import sphere_cameras
from unseen.methods.mvdream import MVDream, MVDreamConfig, camera_vectors
from unseen.networks.latent import AutoencoderConfig
from unseen.networks.text import WordConfig

pytest.importorskip("diffusers", reason="diffusers is not installed")

UNET = "model.diffusion_model."


@dataclasses.dataclass(frozen=True)
class Case:
    """A fixture."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]

    def check(self, name: str, value: Tensor) -> None:
        atol = self.tolerance[name]
        torch.testing.assert_close(value, self.outputs[name], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def case() -> Case:
    folder = fixture_folder("mvdream")
    return Case(
        load_arrays(folder / "inputs.npz"),
        load_arrays(folder / "outputs.npz"),
        load_meta(folder)["tolerance"]["suggested_atol"],
    )


def ring(settings: Tensor) -> Cameras:
    """Our cameras of the authors' number, elevation, first azimuth and span.

    Their azimuth 90, at which their script begins, is our azimuth 0.
    """
    count, elevation, start, span = settings.tolist()
    azimuths = torch.deg2rad(start - 90 + span * torch.arange(int(count)) / count)
    elevations = torch.full_like(azimuths, math.radians(elevation))
    distance = torch.full_like(azimuths, 3.0)
    return sphere_cameras(azimuths, elevations, distance, 0.7, near=2.0, far=4.0)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_cameras(case: Case, row: int) -> None:
    cameras = ring(case.inputs["camera_settings"][row])
    case.check(f"camera_{row}", camera_vectors(cameras))


def test_free_cameras(case: Case) -> None:
    poses = case.inputs["free_camera"]
    one = torch.ones(2)
    free = Cameras(from_opengl(poses), torch.eye(3).expand(2, 3, 3), one, one)
    case.check("normalized_free_camera", camera_vectors(free))
    turned = torch.from_numpy(Y_UP).float() @ poses
    case.check("blender_free_camera", turned.flatten(1))


def test_the_schedule_and_the_table_of_times(case: Case) -> None:
    schedule = ScaledLinearSchedule()
    cumprod = schedule.discrete_alphas_cumprod().float()
    case.check("buffer/alphas_cumprod", cumprod)
    visited = schedule.step_of_t(times_leading(4)[:-1]).round().long()
    assert torch.equal(visited, case.outputs["ddim_timesteps_visited"])
    table = schedule.step_of_t(times_leading(50)[:-1]).round().long().flip(0)
    assert torch.equal(table, case.outputs["ddim50_timesteps_table"])


@pytest.fixture(scope="module")
def method() -> MVDream:
    """The published U-Net and its cameras; the fixture has no other parts."""
    official = synthetic_state_dict(fixture_folder("mvdream"))
    official = {key.removeprefix(UNET): x for key, x in official.items()}
    config = MVDreamConfig(
        autoencoder=AutoencoderConfig((8,), 1, groups=4), text_encoder=WordConfig(8)
    )
    with torch.device("meta"):
        found = MVDream(config)
    camera = {k[13:]: x for k, x in official.items() if k.startswith("camera_embed.")}
    unet = {k: x for k, x in official.items() if not k.startswith("camera_embed.")}
    found.unet.model.load_state_dict(convert_unet(unet, 2), assign=True)
    found.camera.load_state_dict(camera, assign=True)
    return found.eval()


@pytest.mark.slow
@torch.no_grad()
def test_the_network(case: Case, method: MVDream) -> None:
    i = case.inputs
    cameras = ring(i["camera_settings"][0])
    vectors = camera_vectors(cameras)
    case.check("camera_embedding_slice", method.camera(vectors)[:, ::10])
    x, t = i["x"][None], method.schedule.t_of_step(i["t"])
    four = Cameras.stack([cameras])
    found = method.predict_noise(x, t, i["context"], four)[0]
    case.check("unet_eps_4view", found)
    alone = method.predict_noise(x[:, :1], t, i["context"], four[:, :1])[0]
    case.check("unet_eps_4independent_with_camera", alone)
    picture = method.predict_noise(x[:, :1], t, i["context"], None)[0]
    case.check("unet_eps_2d_mode", picture)


@pytest.mark.slow
@torch.no_grad()
def test_the_sampler(case: Case, method: MVDream) -> None:
    i = case.inputs
    cameras = Cameras.stack([ring(i["camera_settings"][0])])
    found = ddim(
        lambda x_t, t: method.denoise(
            x_t, t, i["context"], i["context_null"], cameras, 7.5
        ),
        i["ddim_xT"][None],
        method.schedule,
        times_leading(4),
    )
    case.check("ddim_sample", found[0])


def test_the_published_size() -> None:
    with torch.device("meta"):
        found = MVDream(MVDreamConfig())
    parts = (found.unet, found.camera)
    count = sum(x.numel() for part in parts for x in part.parameters())
    assert round(count / 1e6, 1) == 867.6
