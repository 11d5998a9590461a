"""Files of HoloDiffusion's trainer: what is read, what is refused in one sentence.

That the numbers of a complete file arrive is a slow test in tests/parity.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder
from unseen.checkpoints.holodiffusion_authors import (
    read_holodiffusion,
    read_settings,
    rename,
)
from unseen.checkpoints.importers import check_options
from unseen.errors import UserError
from unseen.methods.holodiffusion import HoloDiffusion, HoloDiffusionConfig
from unseen.networks.render_mlp import RenderMLPConfig


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """The official tensors' names and shapes, without numbers."""
    keys = json.loads((fixture_folder("holodiffusion") / "keys.json").read_text())
    return {
        key: torch.empty(entry["shape"], device="meta") for key, entry in keys.items()
    }


def test_the_settings_are_those_of_the_tensors(official) -> None:
    config = read_settings(official, "a.pth", 100, 6.0)
    assert config == HoloDiffusionConfig(
        decoder=RenderMLPConfig(activation="last"),
        image_size=100,
        extent=6.0,
        last_pass=True,
        swapped_axes=True,
    )


def test_every_tensor_has_a_place(official) -> None:
    config = read_settings(official, "a.pth", 512, 8.0)
    with torch.device("meta"):
        expected = HoloDiffusion(config).state_dict()
    found: dict[str, tuple[int, ...]] = {}
    for key, value in official.items():
        if key.startswith("_implicit_functions.0."):
            continue
        name = rename(key, config.network)
        assert name is not None and name not in found
        found[name] = tuple(value.shape)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Attention's linear layers are convolutions of one tap in the file.
        ours, tap = tuple(value.shape), (1,) if "attention" in name else ()
        assert found[name] == ours or found[name] == ours + tap


def test_names() -> None:
    network = HoloDiffusionConfig().network

    def name(key: str) -> str | None:
        return rename(f"net_3d._net.{key}", network)

    assert name("input_blocks.3.0.op.bias") == "network.downsample.0.bias"
    assert name("input_blocks.8.1.qkv.bias") == "network.down.2.1.attention.qkv.bias"
    assert name("output_blocks.5.2.conv.weight") == "network.upsample.2.weight"
    assert name("output_blocks.2.1.conv.weight") == "network.upsample.3.weight"
    assert name("output_blocks.14.0.skip_connection.bias") == (
        "network.up.0.2.block.skip.bias"
    )
    assert name("middle_block.1.proj_out.bias") == "network.middle_1.attention.out.bias"
    assert (
        name("middle_block.2.emb_layers.1.bias") == "network.middle_2.block.film.bias"
    )
    assert name("label_emb.weight") is None


def test_refusals(official, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, other)
    with pytest.raises(UserError, match="does not hold the weights of HoloDiffusion"):
        read_holodiffusion(other)
    torch.save({"model": {"weight": torch.zeros(2)}}, other)
    with pytest.raises(UserError, match="or not only tensors"):
        read_holodiffusion(other)
    with pytest.raises(UserError, match="There is no file"):
        read_holodiffusion(tmp_path / "missing.pth")
    wrong = dict(official)
    wrong["net_3d._net.input_blocks.4.0.in_layers.2.weight"] = torch.zeros(65, 64, 3)
    with pytest.raises(UserError, match="its layers make no network"):
        read_settings(wrong, "a.pth", 512, 8.0)
    with pytest.raises(UserError, match="--image-size, --extent"):
        check_options("holodiffusion", {"release": "srn"})
