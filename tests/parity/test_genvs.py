"""GeNVS computes what a public port does (fixtures genvs and genvs_full)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.genvs_port import read_genvs
from unseen.diffusion.samplers import heun, times_karras
from unseen.diffusion.schedules import EDMSchedule
from unseen.geometry.cameras import Cameras
from unseen.methods.genvs import GeNVS
from unseen.networks.feature_mlp import FeatureMLP, FeatureMLPConfig
from unseen.scenes.frustum_features import (
    PORT_RENDERING,
    FrustumFeatures,
    jitter_inner,
)

PREFIX = "ema.pixel_nerf_net.mlp."


@dataclasses.dataclass(frozen=True)
class Fixture:
    """Golden numbers."""

    folder: Path
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(
            value, self.outputs[name], rtol=0, atol=self.tolerance[name]
        )

    def cameras(self, name: str) -> Cameras:
        """Our cameras (scene, view) of poses with OpenGL's axes."""
        poses = self.inputs[name] @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        focal = float(self.inputs["focal"])
        intrinsics = torch.tensor([[focal / 2, 0, 0.5], [0, focal / 2, 0.5], [0, 0, 1]])
        # The port's range is one of a ray's parameter, at which depth is the focal.
        near, far = (focal * self.inputs["near_far"]).tolist()
        shape = poses.shape[:2]
        return Cameras(
            poses,
            intrinsics.expand(*shape, 3, 3),
            torch.full(shape, near),
            torch.full(shape, far),
        )

    def jitter(self, monkeypatch: pytest.MonkeyPatch) -> torch.Generator:
        """A generator that draws the fixture's random numbers."""
        drawn = self.inputs["rand_times"][..., 0].flatten(1, 2)[None]

        def rand(shape, *, generator: torch.Generator, device) -> Tensor:
            assert tuple(shape) == drawn.shape
            return drawn

        monkeypatch.setattr(torch, "rand", rand)
        return torch.Generator()


def load(system: str) -> Fixture:
    folder = fixture_folder(system)
    return Fixture(
        folder,
        load_arrays(folder / "inputs.npz"),
        load_arrays(folder / "outputs.npz"),
        load_meta(folder)["tolerance"]["suggested_atol"],
    )


@pytest.fixture(scope="module")
def small() -> Fixture:
    return load("genvs")


@torch.no_grad()
@pytest.mark.parametrize("views", [2, 1])
def test_feature_images(small: Fixture, views: int, monkeypatch) -> None:
    tensors = synthetic_state_dict(small.folder)
    mlp = FeatureMLP(FeatureMLPConfig(density="relu"), 16)
    mlp.load_state_dict({k.removeprefix(PREFIX): v for k, v in tensors.items()})
    # Theirs is (feature, slice from far, row, column), ours (row, column, slice, ...).
    volumes = small.inputs["frustum"].flip(3).permute(0, 1, 4, 5, 3, 2).contiguous()
    features = FrustumFeatures(
        volumes[:, :views], small.cameras("input_poses")[:, :views], mlp, PORT_RENDERING
    )
    targets = small.cameras("target_poses")
    images = features.render(targets, (32, 32), small.jitter(monkeypatch))
    small.check(f"feature_images_{views}view", images[0, :, :, ::2, ::2])


def test_samples(small: Fixture, monkeypatch) -> None:
    near, far = small.inputs["near_far"]
    depths = near + (far - near) * torch.linspace(0, 1, 64)
    random = small.inputs["rand_times"][:, ::5, ::5, :, 0]
    small.check("times_slice", jitter_inner(depths.expand(2, 4, 4, -1), random))


@pytest.fixture(scope="module")
def full() -> Fixture:
    return load("genvs_full")


@pytest.fixture(scope="module")
def method(full: Fixture, tmp_path_factory: pytest.TempPathFactory) -> GeNVS:
    path = tmp_path_factory.mktemp("port") / "genvs.pt"
    torch.save(synthetic_state_dict(full.folder), path)
    return read_genvs(path)


@pytest.mark.slow
@torch.no_grad()
def test_encoder_features_and_denoiser(
    full: Fixture, method: GeNVS, monkeypatch
) -> None:
    i = full.inputs
    frustums = method.frustums(i["images"], full.cameras("input_poses"))
    volumes = frustums.volumes[0].permute(0, 4, 3, 1, 2).flip(2)
    full.check("frustum_slice", volumes[:, ::4, ::8, ::16, ::16])
    jitter = full.jitter(monkeypatch)
    features = frustums.render(full.cameras("target_poses"), (128, 128), jitter)[0]
    full.check("feature_image_slice", features[0, :, ::8, ::8])
    x_t = i["images"][0, :1] + i["sigma"] * i["noise"]
    denoised = method.denoise(x_t, i["sigma"], features)
    full.check("denoised_slice", denoised[..., ::4, ::4])


@pytest.mark.slow
@torch.no_grad()
def test_sampler(full: Fixture, method: GeNVS, monkeypatch) -> None:
    """25 steps, of a denoiser in closed form that sees the feature image."""
    i, schedule = full.inputs, EDMSchedule()
    frustums = method.frustums(i["images"], full.cameras("input_poses"))
    jitter = full.jitter(monkeypatch)
    features = frustums.render(full.cameras("target_poses"), (128, 128), jitter)
    seen = 0.1 * features[0, :, :, ::8, ::8].double().mean(dim=1, keepdim=True)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        variance = schedule.sigma(t).square()[:, None, None, None]
        return 0.5 * x_t / (1 + variance) + seen

    start = 80 * i["noise"][..., ::8, ::8].double()
    found = heun(denoise, start, schedule, times_karras(25, schedule))
    full.check("edm_sample_analytic", found.float())
