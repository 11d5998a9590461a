"""SRN and LFN compute what the authors' code does, through our importers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.lfn_authors import read_lfn
from unseen.checkpoints.srn_authors import read_srn
from unseen.geometry.cameras import Cameras
from unseen.geometry.rays import pixel_rays, plucker

SIZE = (128, 128)


class Golden:
    """Inputs and outputs of a system, and how close is close enough."""

    def __init__(self, system: str) -> None:
        self.folder = fixture_folder(system)
        self.inputs = load_arrays(self.folder / "inputs.npz")
        self.outputs = load_arrays(self.folder / "outputs.npz")
        self.atol = load_meta(self.folder)["tolerance"]["suggested_atol"]
        self.compared: set[str] = set()

    def compare(self, name: str, found: Tensor) -> None:
        torch.testing.assert_close(
            found.reshape(self.outputs[name].shape),
            self.outputs[name],
            atol=self.atol[name],
            rtol=0,
        )
        self.compared.add(name)

    def pixels(self) -> Tensor:
        """Flat indices; the fixtures ask for whole pixels."""
        uv = self.inputs["uv"].long()
        assert torch.equal(uv.float(), self.inputs["uv"])
        return uv[:, 1] * SIZE[1] + uv[:, 0]


def cameras_of(poses: Tensor, intrinsics: Tensor) -> Cameras:
    """Cameras (batch, 1) of the authors' matrices."""
    scale = torch.tensor([1 / SIZE[1], 1 / SIZE[0], 1.0])
    batch = len(poses)
    return Cameras(
        poses[:, None],
        (scale[:, None] * intrinsics[:3, :3]).expand(batch, 1, 3, 3),
        torch.full((batch, 1), 0.8),
        torch.full((batch, 1), 1.8),
    )


@torch.no_grad()
def test_srn(tmp_path: Path) -> None:
    golden = Golden("srn")
    official = synthetic_state_dict(golden.folder)
    torch.save({"model": official, "optimizer": {}}, tmp_path / "srn.pth")
    srn = read_srn(tmp_path / "srn.pth")
    pose = golden.inputs["pose"][None]
    cameras = cameras_of(pose, golden.inputs["intrinsics"])
    scene = srn.scene(srn.codes(golden.inputs["instance"]), cameras)

    pixels = golden.pixels()[None, None]
    centers = scene.marching.pixel_grid
    origins, directions = pixel_rays(cameras, SIZE, pixels, centers)
    start = golden.inputs["initial_depth"].reshape(1, -1)
    color, depth = scene.shoot(origins[:, 0], directions[:, 0], start)
    golden.compare("rgb", 2 * color - 1)
    golden.compare("depth", depth)
    golden.compare("phi_at_point", scene.field(0.3 * pose[:, None, :3, 3]))
    assert golden.compared == golden.outputs.keys()

    # What users call starts at the mean of those depths, which are nearly the same.
    rendered = scene.render_pixels(cameras, SIZE, pixels)
    torch.testing.assert_close(rendered.color[0, 0], color[0], atol=2e-3, rtol=0)


@torch.no_grad()
def test_lfn(tmp_path: Path) -> None:
    golden = Golden("lfn")
    torch.save(synthetic_state_dict(golden.folder), tmp_path / "lfn.pth")
    lfn = read_lfn(tmp_path / "lfn.pth")
    poses = golden.inputs["cam2world"]
    cameras = cameras_of(poses, golden.inputs["intrinsics"])
    codes = lfn.codes(golden.inputs["instance_idx"])
    golden.compare("z", codes)
    scene = lfn.scene(codes, cameras)
    golden.compare("hyper_first_weight", scene.field.weights[0])
    golden.compare("hyper_mid_weight_slice", scene.field.weights[3][:, ::16, ::16])
    golden.compare("hyper_last_bias", scene.field.biases[-1])

    pixels = golden.pixels().expand(2, 1, -1)
    rays = pixel_rays(cameras, SIZE, pixels, scene.pixel_grid)
    golden.compare("plucker", plucker(*rays)[:, 0])
    rendered = scene.render_pixels(cameras, SIZE, pixels)
    golden.compare("rgb", 2 * rendered.color - 1)
    assert golden.compared == golden.outputs.keys()

    # The fast path agrees: these colours are far out of range, so compare inside.
    frame = scene.render(cameras, SIZE).color[:, 0].flatten(-2).movedim(-1, -2)
    fast = frame.gather(1, pixels[:, 0, :, None].expand(-1, -1, 3))
    expected = (0.5 * (golden.outputs["rgb"] + 1)).clamp(0, 1)
    torch.testing.assert_close(fast, expected, atol=golden.atol["rgb"], rtol=0)
