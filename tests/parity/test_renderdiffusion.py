"""RenderDiffusion computes what its public implementation does (viewset_triplane)."""

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
from unseen.checkpoints.viewset_triplane import read_renderdiffusion
from unseen.geometry.cameras import Cameras, intrinsics_from_fov
from unseen.geometry.rays import image_rays
from unseen.methods.renderdiffusion import RenderDiffusion
from unseen.scenes.triplane import TriplaneScene

SIZE = (128, 128)


@dataclasses.dataclass(frozen=True)
class Case:
    """A fixture, and the method that the importer made of its weights."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: dict[str, float]
    fov: float
    method: RenderDiffusion
    scene: TriplaneScene

    @property
    def cameras(self) -> Cameras:
        """Ours (1, view) of PyTorch3D's: row vectors, x left and y up."""
        axes = self.inputs["target_Rs"] * torch.tensor([-1.0, -1.0, 1.0])
        move = self.inputs["target_Ts"] * torch.tensor([-1.0, -1.0, 1.0])
        poses = torch.eye(4).repeat(1, 2, 1, 1)
        poses[..., :3, :3] = axes
        poses[..., :3, 3] = -(axes @ move[..., None])[..., 0]
        fov = torch.deg2rad(torch.full((1, 2), self.fov))
        near, far = torch.full((1, 2), 0.8), torch.full((1, 2), 1.8)
        return Cameras(poses, intrinsics_from_fov(fov), near, far)

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(
            value, self.outputs[name], rtol=0, atol=self.tolerance[name]
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = fixture_folder("viewset_triplane")
    path = tmp_path_factory.mktemp("port") / "model_best.pth"
    tensors = synthetic_state_dict(folder)
    wrapped = {f"model.{key}": value for key, value in tensors.items()}
    torch.save({"diffuser": wrapped, "optimizer": {}}, path)
    method = read_renderdiffusion(path)
    inputs, meta = load_arrays(folder / "inputs.npz"), load_meta(folder)
    with torch.no_grad():
        x_t, estimate = inputs["noisy"][:, 0], inputs["self_condition"][:, 0]
        t = method.schedule.t_of_step(inputs["t"])
        scene = method.scene(x_t, t, estimate)
    return Case(
        inputs,
        load_arrays(folder / "outputs.npz"),
        meta["tolerance"]["suggested_atol"],
        meta["config"]["fov_degrees"],
        method,
        scene,
    )


def test_rays(case: Case) -> None:
    origins, directions = image_rays(case.cameras[0], SIZE)
    case.check("ray_origins_corner", origins[:, 0])
    grid = directions.unflatten(1, SIZE)[:, ::16, ::16]
    case.check("ray_directions_slice", grid)


def test_planes(case: Case) -> None:
    case.check("triplanes_slice", case.scene.planes[0][:, ::2, ::8, ::8])


@torch.no_grad()
def test_points(case: Case) -> None:
    points, scene = case.outputs["query_xyz"], case.scene[0]
    features = scene.features(points)
    case.check("query_features", features)
    case.check("query_decoded", scene.decoder.decode(features))
    density, _ = scene.evaluate(points)
    inside = case.outputs["query_mask"][:, 0] > 0
    assert (density[~inside] == 0).all() and (density[inside] > 0).all()
    assert 10 < inside.sum() < 90


@torch.no_grad()
def test_images(case: Case) -> None:
    """x_0 at both cameras, at every fourth pixel, and how much light was absorbed."""
    rows = torch.arange(0, 128, 4)
    pixels = (rows[:, None] * 128 + rows).flatten().expand(1, 2, -1)
    found = case.scene.render_pixels(case.cameras, SIZE, pixels)
    assert found.opacity is not None
    linear = found.extras["linear"].transpose(-1, -2).unflatten(-1, (32, 32))
    case.check("x0_slice", 2 * linear - 1)
    case.check("opacity_slice", found.opacity[0].unflatten(-1, (32, 32)))
