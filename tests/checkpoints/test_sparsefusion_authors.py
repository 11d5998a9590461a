"""Files of SparseFusion's authors: what is read, what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.synthetic import fixture_folder, synthetic_state_dict
from unseen.checkpoints.importers import IMPORTERS
from unseen.checkpoints.latent_files import ldm_autoencoder, select
from unseen.checkpoints.sparsefusion_authors import (
    AUTOENCODER,
    find_files,
    read_sparsefusion,
    rename_epipolar,
    rename_network,
)
from unseen.encoders.epipolar import EpipolarConfig, EpipolarTransformer
from unseen.errors import UserError
from unseen.methods.sparsefusion import SparseFusion
from unseen.networks.feature_unet import FeatureUNet, FeatureUNetConfig
from unseen.networks.image_latents import StableDiffusionLatents
from unseen.networks.latent import AutoencoderConfig


def empty(system: str) -> dict[str, Tensor]:
    """The names and shapes of a file, without its numbers."""

    keys = json.loads((fixture_folder(system) / "keys.json").read_text())
    return {
        name: torch.empty(entry["shape"], device="meta") for name, entry in keys.items()
    }


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_every_tensor_has_its_place() -> None:
    with torch.device("meta"):
        network = FeatureUNet(FeatureUNetConfig(), latent=4, features=256)
        epipolar = EpipolarTransformer(EpipolarConfig())
        latents = StableDiffusionLatents(AutoencoderConfig())
    renamed = rename_network(empty("sparsefusion_vldm"), 4)
    assert shapes(renamed) == shapes(network.state_dict())
    renamed = rename_epipolar(empty("sparsefusion_eft"))
    assert shapes(renamed) == shapes(epipolar.state_dict())
    renamed = ldm_autoencoder(select(empty("sd_vae"), AUTOENCODER))
    assert shapes(renamed) == shapes(latents.autoencoder.model.state_dict())


def test_unknown_names_stay_to_be_refused() -> None:
    extra = {"unets.0.downs.0.9.weight": torch.zeros(1), "other": torch.zeros(1)}
    assert rename_network(extra, 4).keys() == extra.keys()
    assert rename_epipolar({"t4.pre.0.weight": torch.zeros(1)}).keys() == {
        "t4.pre.0.weight"
    }


def test_the_files_of_a_release_lie_together(tmp_path: Path) -> None:
    model = tmp_path / "ckpt_latest.pt"
    model.touch()
    with pytest.raises(UserError, match=r"0 files of the epipolar transformer"):
        find_files(model)
    (tmp_path / "ckpt_latest_eft.pt").touch()
    with pytest.raises(UserError, match=r"0 files of Stable Diffusion's autoencoder"):
        find_files(model)
    (tmp_path / "sd-v1-3-vae.ckpt").touch()
    names = [path.name for path in find_files(model)]
    assert names == ["ckpt_latest_eft.pt", "sd-v1-3-vae.ckpt"]
    (tmp_path / "sd-v1-4.ckpt").touch()
    with pytest.raises(UserError, match=r"2 files of Stable Diffusion") as caught:
        find_files(model)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_sparsefusion(tmp_path / "a.pt")
    torch.save({"model": {}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="it has no tensors under"):
        read_sparsefusion(tmp_path / "a.pt")


@pytest.mark.slow
def test_a_release_is_read(tmp_path: Path) -> None:
    networks, autoencoder = ("sparsefusion_vldm", "sparsefusion_eft"), "sd_vae"
    model, epipolar = (synthetic_state_dict(fixture_folder(name)) for name in networks)
    other = synthetic_state_dict(fixture_folder(autoencoder))
    torch.save({"model_state_dict": model, "step": 1}, tmp_path / "ckpt_latest.pt")
    torch.save({"model_state_dict": epipolar}, tmp_path / "ckpt_latest_eft.pt")
    torch.save({"state_dict": other}, tmp_path / "sd-v1-3-vae.ckpt")
    found = IMPORTERS["sparsefusion"].read(tmp_path / "ckpt_latest.pt")
    assert isinstance(found, SparseFusion) and not found.training
    head = model["unets.0.final_conv.weight"]
    assert torch.equal(found.network.head.weight, head)
    key = "unets.0.mid_attn.fn.fn.norm.g"
    assert torch.equal(found.network.middle_attention.norm.scale, model[key])
    # A tensor that is missing is named.
    del epipolar["t2_attn.bias"]
    torch.save({"model_state_dict": epipolar}, tmp_path / "ckpt_latest_eft.pt")
    with pytest.raises(UserError, match=r"lacks tensor 'epipolar\.depth_score\.bias'"):
        read_sparsefusion(tmp_path / "ckpt_latest.pt")
