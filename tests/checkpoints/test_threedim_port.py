"""Files of the public port of 3DiM: what is read, what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, synthetic_state_dict
from unseen.checkpoints.importers import IMPORTERS
from unseen.checkpoints.threedim_port import read_3dim, rename
from unseen.errors import UserError
from unseen.methods.threedim import ThreeDiM
from unseen.networks.xunet import XUNetConfig


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return synthetic_state_dict(fixture_folder("xunet_small"))


def save(path: Path, tensors: dict) -> Path:
    torch.save({"optim": {}, "model": tensors, "step": 1, "epoch": 0}, path)
    return path


def test_a_file_is_read(official, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    found = IMPORTERS["3dim"].read(save(tmp_path / "a.pt", official))
    assert isinstance(found, ThreeDiM) and not found.training
    assert torch.equal(state, torch.get_rng_state())
    assert found.config.image_size == 16 and found.config.poses == "absolute"
    assert found.config.network == XUNetConfig(
        channels=32,
        noise_level="log_snr",
        film_activation=False,
        attention_projection=True,
        resample="output",
    )
    assert found.config.network.attention == (False, False, True, True)
    # Every number arrives, and nothing else.
    count = sum(x.numel() for x in official.values())
    assert count == sum(x.numel() for x in found.parameters())
    total = sum(x.double().sum() for x in official.values())
    ours = sum(x.double().sum() for x in found.parameters())
    torch.testing.assert_close(ours, total)


def test_names() -> None:
    def name(key: str) -> str | None:
        return rename(key, 3)

    assert name("xunetblocks.1.3.film.dense.weight") == "downsample.1.film.weight"
    assert name("upsample.1.4.dense.bias") == "upsample.0.skip.bias"
    assert name("upsample.1.3.resnetblock.groupnorm1.gn.bias") == (
        "up.1.3.resnet.norm_2.bias"
    )
    assert name("middle.attnblock_cross.attn_layer.attn.in_proj_weight") == (
        "middle.cross_attention.qkv.weight"
    )
    assert name("conditioningprocessor.convs.2.weight") == "conditioning.poses.2.weight"
    assert name("middle.attnblock_third.linear.weight") is None
    assert name("conditioningprocessor.first_emb") is None


KEY = "module.xunetblocks.2.1.attnblock_self.linear.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop(KEY), "lacks tensor"),
        (lambda d: d.update(extra=torch.zeros(1)), "unknown tensor 'extra'"),
        (lambda d: d.update({KEY: torch.zeros(3, 3, 1, 1)}), "shape"),
        (lambda d: d.update({KEY: torch.full((64, 64, 1, 1), torch.nan)}), "finite"),
        (lambda d: d.pop("module.conditioningprocessor.other_emb"), "lacks tensor"),
        (lambda d: d.pop("module.conditioningprocessor.pos_emb"), "does not hold"),
        (lambda d: d.update({KEY: "text"}), "no tensors"),
        (lambda d: d.clear(), "does not hold"),
    ],
)
def test_damaged_weights(damage, message: str, official, tmp_path: Path) -> None:
    tensors = dict(official)
    damage(tensors)
    with pytest.raises(UserError, match=message) as caught:
        read_3dim(save(tmp_path / "a.pt", tensors))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


def test_files_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_3dim(tmp_path / "a.pt")
    torch.save({"model": Payload()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read_3dim(tmp_path / "a.pt")
