"""The published DFM, number by number (see tests/fixtures/dfm_*/meta.json).

The full networks, 755 and 765 million synthetic weights: 4 GB of memory and some
minutes each.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.dfm_authors import load_official
from unseen.diffusion.guidance import classifier_free, dynamic_threshold
from unseen.diffusion.prediction import eps_from_x0
from unseen.diffusion.schedules import CosineSchedule
from unseen.encoders.pixel_aligned import PixelAlignedSceneModel
from unseen.geometry.cameras import Cameras
from unseen.geometry.views import Views
from unseen.rendering.volume import RayRendering
from unseen.scenes.aligned_field import AlignedField
from unseen.scenes.conditional_field import ConditionalFieldScene
from unseen.scenes.ray_sampling import Rays

SIZE = (64, 64)
SCHEDULE = CosineSchedule()
WEIGHTS = {"dfm_re10k": 755_067_808, "dfm_co3d": 764_543_008}


class Case:
    """The inputs of a fixture, as our types, and its outputs."""

    def __init__(self, system: str) -> None:
        folder = fixture_folder(system)
        self.meta = load_meta(folder)
        self.inputs = load_arrays(folder / "inputs.npz")
        self.outputs = load_arrays(folder / "outputs.npz")
        self.tolerance = self.meta["tolerance"]["suggested_atol"]
        # CO3D's encoder sees absolute poses; everything else depends on relative ones
        # only, so the absolute world serves for all.
        absolute = "abs_" if self.meta["config"]["use_abs_pose"] else ""
        self.context = self._cameras(f"ctxt_{absolute}c2w")
        self.target = self._cameras(f"trgt_{absolute}c2w")
        self.t = SCHEDULE.t_of_step(self.inputs["t"])
        self.reported: dict[str, float] = {}

    def _cameras(self, name: str) -> Cameras:
        extrinsics, config = self.inputs[name], self.meta["config"]
        shape = extrinsics.shape[:2]
        return Cameras(
            extrinsics,
            self.inputs["intrinsics"][:, None].expand(*shape, 3, 3),
            torch.full(shape, config["near"]),
            torch.full(shape, config["far"]),
        )

    @property
    def query_points(self) -> Tensor:
        """The fixture's query points, from the first context's frame to the world."""
        to_world = self.context.extrinsics[:, 0]
        points = self.inputs["query_xyz"]
        return points @ to_world[:, :3, :3].mT + to_world[:, None, :3, 3]

    def check(self, name: str, ours: Tensor) -> None:
        error = (ours - self.outputs[name]).abs().max().item()
        self.reported[name] = error
        assert error <= self.tolerance[name], name

    def check_positions(self, name: str, ours: Tensor) -> None:
        """Importance samples may jump to a neighbouring bin: few of them do."""
        error = (ours - self.outputs[name]).abs()
        self.reported[name] = error.quantile(0.97).item()
        assert self.reported[name] <= self.tolerance[name], name


@pytest.fixture(scope="module", params=["dfm_re10k", "dfm_co3d"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def model(case: Case) -> Iterator[PixelAlignedSceneModel]:
    folder = fixture_folder(case.meta["system"])
    official = synthetic_state_dict(folder)
    total = sum(value.numel() for value in official.values())
    assert total == WEIGHTS[case.meta["system"]]
    model = load_official(official)
    del official
    yield model
    del model
    gc.collect()


def published(field: AlignedField, points: Tensor) -> Tensor:
    """A field's output in the published order: colour, density, features."""
    out = field.query(points)
    return torch.cat([out[..., 1:4], out[..., :1], out[..., 4:]], dim=-1)


def render_at(
    scene: ConditionalFieldScene, rays: Rays, positions: Tensor
) -> RayRendering:
    values = scene.field.query(rays.points(positions))
    values = values.unflatten(1, positions.shape[1:])
    return scene.sampling.integrate(rays, positions, values, scene.background)


class Inference:
    """All that a step of sampling infers, each part computed once."""

    def __init__(
        self, case: Case, model: PixelAlignedSceneModel, images: Tensor, x_t: Tensor
    ) -> None:
        # What the encoder returns: the contexts' features, then the noisy view's.
        self.features: list[Tensor] = []
        hook = model.encoder.register_forward_hook(
            lambda module, inputs, output: self.features.append(output)
        )
        self.context = model.encode_context(Views(images, case.context))
        self.condition = model.condition(self.context, case.target, SIZE)
        noisy = Views(x_t[:, None], case.target)
        self.scene = model.joint(self.context, noisy, self.condition, case.t)
        hook.remove()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@torch.no_grad()
def test_every_output_of_the_published_model(
    case: Case, model: PixelAlignedSceneModel
) -> None:
    x, sub = case.inputs, slice(None, None, 8)
    x_t = SCHEDULE.add_noise(x["trgt_x0"], x["noise"], case.t)
    case.check("x_t", x_t)
    inferred = Inference(case, model, x["ctxt_rgb"], x_t)
    scene, maps = inferred.scene, inferred.condition.maps
    first, noisy = inferred.features
    case.check("enc_ctxt_feats_slice", first[:, ::16, sub, sub])
    case.check("cond_rgb_depth", maps[:, 0, :4])
    case.check("cond_feats_slice", maps[:, 0, 4:, sub, sub])
    case.check("enc_trgt_feats_slice", noisy[0, ::16, sub, sub])

    points, mean = case.query_points, model.deterministic(inferred.context)
    assert scene.proposal is not None
    case.check("query_joint_coarse_mlp", published(mean.field, points))
    case.check("query_joint_mlp", published(scene.proposal, points))
    case.check("query_joint_mlp_fine", published(scene.field, points))

    rays = scene.sampling.camera_rays(case.target, SIZE, x["pixel_indices"][None, None])
    positions = scene.render_rays(rays).positions
    case.check_positions("render_z_vals", positions)
    r = render_at(scene, rays, case.outputs["render_z_vals"])
    case.check("render_weights", r.weights)
    case.check("render_rgb", r.color)
    case.check("render_depth", (r.weights * r.positions).sum(dim=-1, keepdim=True))
    assert r.features is not None
    case.check("render_feats_slice", r.features[:, ::16])
    x_0 = (2 * r.color - 1).mT.unflatten(-1, (16, 16))
    case.check("x0", x_0)
    if case.meta["config"]["guidance_scale"] > 1:
        x_0 = check_guidance(case, model, x_t, x_0)
    check_step(case, x_t, x_0)
    print(case.meta["system"], case.reported)


def check_guidance(
    case: Case, model: PixelAlignedSceneModel, x_t: Tensor, conditional: Tensor
) -> Tensor:
    """The unconditional branch, and both combined."""
    inferred = Inference(case, model, 0 * case.inputs["ctxt_rgb"], x_t)
    scene, sub = inferred.scene, slice(None, None, 4)
    maps = inferred.condition.maps
    case.check("uncond_cond_rgb_depth_slice", maps[:, 0, :4, sub, sub])
    rays = scene.sampling.camera_rays(
        case.target, SIZE, case.inputs["pixel_indices"][None, None]
    )
    case.check_positions("uncond_render_z_vals", scene.render_rays(rays).positions)
    r = render_at(scene, rays, case.outputs["uncond_render_z_vals"])
    case.check("uncond_render_rgb", r.color)
    unconditional = (2 * r.color - 1).mT.unflatten(-1, (16, 16))
    scale = case.meta["config"]["guidance_scale"]
    guided = classifier_free(conditional, unconditional, scale)
    case.check("x0_guided_raw", guided)
    return guided


def check_step(case: Case, x_t: Tensor, x_0: Tensor) -> None:
    """Thresholding and one DDIM step, on the 16 x 16 grid of pixels."""
    x_0 = dynamic_threshold(x_0, percentile=0.95)
    case.check("x_start", x_0)
    x_t = x_t[..., ::4, ::4]
    alpha, sigma = SCHEDULE.alpha_sigma(case.t.double())
    noise = eps_from_x0(x_t, x_0, alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1))
    case.check("pred_noise", noise)
    t_next = SCHEDULE.t_of_step(case.inputs["t"] - 20)
    case.check("ddim_next", SCHEDULE.add_noise(x_0, noise, t_next))
