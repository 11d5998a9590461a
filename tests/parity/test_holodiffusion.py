"""HoloDiffusion computes what the authors' code does (tests/fixtures/holodiffusion).

`step_noise` of the fixture here is zero outside of the voxels that are compared.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor, nn

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
    synthetic_tensor,
)
from unseen.checkpoints.holodiffusion_authors import read_holodiffusion, rename
from unseen.diffusion.samplers import ancestral
from unseen.diffusion.schedules import LinearSchedule
from unseen.encoders.unprojection import (
    UnprojectionConfig,
    UnprojectionEncoder,
    voxel_centers,
)
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import image_rays
from unseen.geometry.views import Views
from unseen.methods.holodiffusion import HoloDiffusion, HoloDiffusionConfig
from unseen.networks.render_mlp import RenderMLP, RenderMLPConfig
from unseen.scenes.voxel_features import VoxelFeatureScene, ball_range


@dataclasses.dataclass(frozen=True)
class Fixture:
    """Inputs and outputs of the authors' code."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]

    @property
    def cameras(self) -> Cameras:
        """Our cameras of PyTorch3D's (x left, y up; row vectors; NDC of squares)."""
        i, count = self.inputs, len(self.inputs["R"])
        poses = torch.eye(4).repeat(count, 1, 1)
        poses[:, :3, :3] = i["R"] @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
        poses[:, :3, 3] = -torch.einsum("nij,nj->ni", i["R"], i["T"])
        intrinsics = torch.eye(3).repeat(count, 1, 1)
        intrinsics[:, [0, 1], [0, 1]] = 0.5 * i["focal"]
        intrinsics[:, :2, 2] = 0.5 * (1 - i["principal"])
        return Cameras(poses, intrinsics, torch.ones(count), torch.full((count,), 9.0))

    @property
    def sources(self) -> Views:
        """The source views (1, 3), with their background."""
        i = self.inputs
        views = Views(i["image_rgb"], self.cameras, i["fg"][:, 0])[1:]
        return Views.stack([views])

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(
            value, self.outputs[name], rtol=0, atol=self.tolerance[name]
        )


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    folder = fixture_folder("holodiffusion")
    return Fixture(
        load_arrays(folder / "inputs.npz"),
        load_arrays(folder / "outputs.npz"),
        load_meta(folder)["tolerance"]["suggested_atol"],
    )


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> HoloDiffusion:
    """The published file, as far as its tensors can be made up: 187 million weights,
    seconds to make up, read and run."""
    path = tmp_path_factory.mktemp("authors") / "model_epoch_00000001.pth"
    torch.save(synthetic_state_dict(fixture_folder("holodiffusion")), path)
    method = read_holodiffusion(path, image_size=100)
    path.unlink()
    shrink_images(method.encoder)
    return method


def shrink_images(encoder: UnprojectionEncoder) -> None:
    """The fixture's images are smaller than the authors'."""
    encoder.config = dataclasses.replace(encoder.config, image_size=64)


def part(module: nn.Module, prefix: str, starts: tuple[str, ...]) -> nn.Module:
    """A part of the method with its tensors, and no others made up."""
    folder = fixture_folder("holodiffusion")
    meta, keys = load_meta(folder), json.loads((folder / "keys.json").read_text())
    network, found = HoloDiffusionConfig().network, {}
    for key, entry in keys.items():
        if key.startswith(starts):
            scale = meta["scale_overrides"].get(key, 1)
            shape, dtype = tuple(entry["shape"]), entry["dtype"]
            value = synthetic_tensor(key, shape, dtype, meta["salt"], scale)
            found[(rename(key, network) or key).removeprefix(prefix)] = value
    module.load_state_dict(found)
    return module.eval()


@pytest.fixture(scope="module")
def encoder() -> UnprojectionEncoder:
    encoder = UnprojectionEncoder(UnprojectionConfig(), 64, 16, 8.0)
    starts = ("image_feature_extractor.", "view_pooler.", "pooled_feature_mapper.")
    part(encoder, "encoder.", starts)
    shrink_images(encoder)
    return encoder


def sliced(volume: Tensor) -> Tensor:
    return volume[0, ::2, ::3, ::3, ::3]


@torch.no_grad()
def test_image_features(fixture: Fixture, encoder: UnprojectionEncoder) -> None:
    # The stored features are those of images with their background.
    views = fixture.sources[0]
    assert views.masks is not None
    *stages, mask, image = encoder.feature_maps(views.images, views.masks)
    for number, stage in enumerate(stages, start=1):
        fixture.check(f"feat/res_layer_{number}", stage[:, ::2, ::4, ::4])
    fixture.check("feat/mask", mask[:, :, ::8, ::8])
    fixture.check("feat/image", image[:, :, ::8, ::8])


@torch.no_grad()
def test_pooling(fixture: Fixture, encoder: UnprojectionEncoder) -> None:
    views, points = fixture.sources, voxel_centers(16, 8.0)
    fixture.check("grid_xyz_slice", points[::37])
    assert views.masks is not None
    maps = encoder.feature_maps(views.images[0], views.masks[0])
    pooled = encoder.pool(maps, views.cameras, points)
    fixture.check("pooled_slice", pooled[0, ::37])
    volume = encoder.volume(pooled)
    fixture.check("voxel_features_slice", volume[0, ::4, ::3, ::3, ::3])


@torch.no_grad()
def test_the_field(fixture: Fixture) -> None:
    """With x and z of the volume swapped, as the authors' code reads it."""
    decoder = RenderMLP(RenderMLPConfig(activation="last"))
    part(decoder, "decoder.", ("_implicit_functions.1.",))
    i, o = fixture.inputs, fixture.outputs
    grid = i["grid_in"].transpose(2, 4)
    scene = VoxelFeatureScene(grid, decoder, 8.0, torch.ones(3))
    density, color = scene.query(o["query_xyz"][None], o["query_dirs"][None])
    values = torch.cat([density[..., None], color], dim=-1)
    fixture.check("query_density_rgb", values[0])


def test_rays(fixture: Fixture) -> None:
    near, far = ball_range(fixture.cameras[0], 4.0)
    fixture.check("ray_lengths_range", torch.stack([near, far]))
    origins, directions = image_rays(fixture.cameras[0], (16, 16))
    directions = torch.nn.functional.normalize(directions, dim=-1)
    fixture.check(
        "ray_origin_dir_corner", torch.cat([origins[0], directions[0], directions[-1]])
    )


def test_schedule(fixture: Fixture) -> None:
    cumprod = LinearSchedule().discrete_alphas_cumprod()
    fixture.check("buffer/alphas_cumprod", cumprod.float())
    before = torch.cat([torch.ones(1).double(), cumprod[:-1]])
    fixture.check("buffer/betas", (1 - cumprod / before).float())


@pytest.mark.slow
@torch.no_grad()
def test_denoising_and_a_step_of_the_sampler(
    fixture: Fixture, method: HoloDiffusion
) -> None:
    i, schedule = fixture.inputs, method.schedule
    t = schedule.t_of_step(i["t"])
    x_t = schedule.add_noise(i["grid_in"], i["noise"], t)
    fixture.check("unet_raw_slice", sliced(method.network(x_t, i["t"].float())))
    x_0 = method.denoise(x_t, t)
    fixture.check("pred_xstart_slice", sliced(x_0))

    def step(noise: Tensor) -> Tensor:
        times = (torch.cat([i["t"], i["t"] - 1]).double() + 1) / 1000
        return ancestral(lambda x, t: x_0, x_t, schedule, times, noise=lambda x: noise)

    mean = step(torch.zeros_like(x_t))
    fixture.check("mean_slice", sliced(mean))
    fixture.check("p_sample_slice", sliced(step(i["step_noise"])))
    spread = (step(torch.ones_like(x_t)) - mean).square().mean()
    fixture.check("variance", spread[None])
    fixture.check("log_variance", spread.log()[None])


@pytest.mark.slow
@torch.no_grad()
def test_the_evaluation_of_views(fixture: Fixture, method: HoloDiffusion) -> None:
    scene = method.sample_scene(fixture.sources, seeds=[0])[0]
    assert isinstance(scene, VoxelFeatureScene)
    camera = fixture.cameras[:1]
    found = scene.render(camera, (16, 16))
    fixture.check("render_rgb", found.color)
    assert found.opacity is not None and found.depth is not None
    fixture.check("render_mask", found.opacity[:, None])
    # Theirs is a distance, and does not count what passes through.
    _, directions = image_rays(camera, (16, 16))
    lengths = directions.norm(dim=-1).reshape(1, 16, 16)
    distance = found.depth * lengths - (1 - found.opacity) * 13.0
    fixture.check("render_depth", distance[:, None])
