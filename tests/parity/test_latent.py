"""The autoencoder computes what the published one does; names of LDM files all map."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import (
    fixture_folder,
    load_arrays,
    load_meta,
    synthetic_state_dict,
)
from unseen.checkpoints.latent_keys import convert_autoencoder, convert_unet
from unseen.networks.latent import (
    Autoencoder,
    AutoencoderConfig,
    LatentUNet,
    LatentUNetConfig,
)

pytest.importorskip("diffusers", reason="diffusers is not installed")

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
ZERO123 = LatentUNetConfig(in_channels=8)
MVDREAM = LatentUNetConfig(context=1024, heads=(5, 10, 20, 20), linear_projection=True)


def without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): x for key, x in tensors.items() if prefix in key}


def empty_tensors(system: str) -> dict[str, Tensor]:
    """Official names with tensors that have a shape and no memory."""
    keys = json.loads((fixture_folder(system) / "keys.json").read_text())
    return {k: torch.empty(x["shape"], device="meta") for k, x in keys.items()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in tensors.items()}


@torch.no_grad()
def test_the_autoencoder() -> None:
    folder = fixture_folder("sd_vae")
    official = without(AUTOENCODER, synthetic_state_dict(folder))
    inputs, outputs = (load_arrays(folder / f"{x}puts.npz") for x in ("in", "out"))
    tolerance = load_meta(folder)["tolerance"]["suggested_atol"]
    with torch.device("meta"):
        autoencoder = Autoencoder(AutoencoderConfig()).eval()
    tensors = convert_autoencoder(official, levels=4)
    tensors = {f"model.{name}": x for name, x in tensors.items()}
    autoencoder.load_state_dict(tensors, assign=True)

    def check(name: str, value: Tensor) -> None:
        atol = tolerance[name]
        torch.testing.assert_close(value, outputs[name], rtol=0, atol=atol)

    mean, std = autoencoder.encode(inputs["image"])
    check("moments", torch.cat([mean, 2 * std.log()], dim=1))
    check("mode_scaled", autoencoder.config.scale * mean)
    check("decoded", autoencoder.decode(inputs["latent"]))


@pytest.mark.parametrize(
    ("system", "config"), [("zero123", ZERO123), ("mvdream", MVDREAM)]
)
def test_all_names_of_a_unet(system: str, config: LatentUNetConfig) -> None:
    official = without(UNET, empty_tensors(system))
    official = {k: x for k, x in official.items() if not k.startswith("camera_embed")}
    with torch.device("meta"):
        unet = LatentUNet(config)
    found = convert_unet(official, config.blocks)
    assert len(found) == len(official)
    assert shapes(found) == shapes(unet.model.state_dict())


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        counts = [
            sum(x.numel() for x in module.parameters())
            for module in (
                LatentUNet(ZERO123),
                LatentUNet(MVDREAM),
                Autoencoder(AutoencoderConfig()),
            )
        ]
    assert [round(n / 1e6, 2) for n in counts] == [859.53, 865.91, 83.65]
