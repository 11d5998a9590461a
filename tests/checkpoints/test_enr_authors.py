"""Files of ENR: what is read, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from unseen.checkpoints.enr_authors import read_enr, rename
from unseen.errors import UserError
from unseen.methods.enr import ENR, ENRConfig
from unseen.networks.voxel_resnet import VoxelNetworkConfig, inner_ball

NETWORK = VoxelNetworkConfig(
    (8, 8, 8), (1, 1, 2), (8, 32), (4, 8, 4), (1, 2, -2), (16, 8)
)
SETTINGS = {
    "img_shape": [3, 16, 16],
    "channels_2d": [8, 8, 8],
    "strides_2d": [1, 1, 2],
    "channels_3d": [4, 8, 4],
    "strides_3d": [1, 2, -2],
    "num_channels_inv_projection": [8, 32],
    "num_channels_projection": [16, 8],
    "mode": "bilinear",
}
OFFICIAL = {
    "encoder.image_net": "inv_transform_2d",
    "encoder.unfold": "inv_projection",
    "encoder.volume_net": "inv_transform_3d",
    "decoder.volume_net": "transform_3d",
    "decoder.fold": "projection",
    "decoder.image_net": "transform_2d",
}


def official_name(name: str) -> str:
    """The authors' name of one of our tensors, written out independently."""
    part, net, rest = name.split(".", 2)
    rest = rest.replace(".layers.", ".residual_layers.forward_layers.")
    return f"{OFFICIAL[f'{part}.{net}']}.forward_layers.{rest}"


def make() -> tuple[ENR, dict[str, Tensor]]:
    torch.manual_seed(0)
    method = ENR(ENRConfig(16, NETWORK))
    official = {official_name(k): v.clone() for k, v in method.state_dict().items()}
    official["spherical_mask.mask"] = inner_ball(8).expand(4, -1, -1, -1).clone()
    return method, official


def save(path: Path, official: dict, settings: object = SETTINGS) -> Path:
    torch.save({"config": settings, "state_dict": official}, path)
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    method, official = make()
    state = torch.get_rng_state()
    found = read_enr(save(tmp_path / "a.pt", official))
    assert torch.equal(state, torch.get_rng_state())
    assert found.config == method.config and not found.training
    expected = method.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in found.state_dict().items())
    del official["spherical_mask.mask"]
    read_enr(str(save(tmp_path / "b.pt", official)))


def test_names() -> None:
    block = "transform_2d.forward_layers.6.residual_layers.forward_layers.2.weight"
    assert rename(block) == "decoder.image_net.6.layers.2.weight"
    assert rename("transform_2d.forward_layers.3.bias") == "decoder.image_net.3.bias"
    assert rename("transform_4d.forward_layers.3.bias") is None
    assert rename("spherical_mask.mask") is None


FOLD = "projection.forward_layers.0.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop(FOLD), "lacks tensor"),
        (lambda d: d.update(extra=torch.zeros(1)), "unknown tensor 'extra'"),
        (lambda d: d.update({FOLD: torch.zeros(3, 3)}), "shape"),
        (lambda d: d[FOLD].fill_(torch.nan), "not finite"),
        (lambda d: d["spherical_mask.mask"].fill_(1), "another shape"),
        (lambda d: d.update({FOLD: "text"}), "no tensors"),
    ],
)
def test_damaged_weights(damage, message: str, tmp_path: Path) -> None:
    _, official = make()
    damage(official)
    with pytest.raises(UserError, match=message) as caught:
        read_enr(save(tmp_path / "a.pt", official))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {},
        {**SETTINGS, "strides_2d": [1, 1]},
        {**SETTINGS, "strides_2d": [1, 1, "2"]},
        {**SETTINGS, "img_shape": [3, 64, 64]},
        {**SETTINGS, "mode": "nearest"},
        {**SETTINGS, "channels_3d": []},
        {**SETTINGS, "channels_3d": [0, 8, 4]},
    ],
)
def test_settings_that_make_no_network(settings: object, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", make()[1], settings)
    with pytest.raises(UserError, match="does not hold settings"):
        read_enr(path)


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(UserError, match="There is no file"):
        read_enr(path)
    path.write_text("no checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        read_enr(path)
    torch.save({"state_dict": Payload()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        read_enr(path)
    save(path, make()[1])
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="cannot be read"):
        read_enr(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="does not hold the weights"):
        read_enr(path)
    torch.save({"model": {}}, path)
    with pytest.raises(UserError, match="does not hold the weights"):
        read_enr(path)
