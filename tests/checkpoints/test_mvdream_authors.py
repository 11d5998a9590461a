"""Files of MVDream: the authors' and three kinds of folders; what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.latent_models import (
    AUTOENCODER,
    ldm_names,
    openai_text_encoder,
    transformers_text_encoder,
    write_part,
)
from tests.networks.test_text import merges
from unseen.checkpoints.importers import IMPORTERS
from unseen.checkpoints.mvdream_authors import read_mvdream
from unseen.errors import UserError
from unseen.methods.mvdream import MVDream, MVDreamConfig
from unseen.networks.clip import ClipTextConfig
from unseen.networks.clip_tokenizer import parse_merges
from unseen.networks.latent import LatentUNetConfig

pytest.importorskip("diffusers", reason="diffusers is not installed")

COUNT = len(merges())
UNET = LatentUNetConfig(
    channels=(64, 128),
    attention=(True, False),
    blocks=1,
    context=64,
    heads=(1, 2),
    linear_projection=True,
)
TEXT = ClipTextConfig(514 + COUNT, 24, 64, 2, 1, 48)
CONFIG = MVDreamConfig(UNET, AUTOENCODER, TEXT)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": x for key, x in tensors.items()}


@pytest.fixture(scope="module")
def method() -> MVDream:
    torch.manual_seed(0)
    found = MVDream(CONFIG)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    found.text_encoder.tokenizer.merges.copy_(parse_merges(merges(), COUNT))
    return found


def authors_names(method: MVDream) -> dict[str, Tensor]:
    """The authors' bare state dict: all layers of the text encoder, the last unused."""
    unet = ldm_names(method.unet.model.state_dict(), "unet")
    autoencoder = ldm_names(method.autoencoder.model.state_dict(), "autoencoder")
    text = openai_text_encoder(method.text_encoder.encoder.state_dict())
    last = {k.replace("resblocks.1", "resblocks.2"): x + 1 for k, x in text.items()}
    text |= {k: x for k, x in last.items() if "resblocks.2" in k}
    return {
        **prefixed("model.diffusion_model.", unet),
        **prefixed("model.diffusion_model.camera_embed.", method.camera.state_dict()),
        **prefixed("first_stage_model.", autoencoder),
        **prefixed("cond_stage_model.model.", text),
        "cond_stage_model.model.text_projection": torch.zeros(64, 8),
        "cond_stage_model.model.logit_scale": torch.zeros(()),
        "alphas_cumprod": torch.zeros(1000),
    }


@pytest.fixture(scope="module")
def official(method: MVDream) -> dict[str, Tensor]:
    return authors_names(method)


def write_merges(path: Path) -> Path:
    text = "\n".join(["#version: 0.2", *merges(), ""])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def check_same(found: MVDream, expected: MVDream) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("name", ["merges.txt", "bpe_simple_vocab_16e6.txt.gz"])
def test_the_authors_file(name: str, method, official, tmp_path: Path) -> None:
    torch.save(official, tmp_path / "sd-v2.1-base-4view.pt")
    file = write_merges(tmp_path / "clip" / name)
    found = IMPORTERS["mvdream"].read(
        tmp_path / "sd-v2.1-base-4view.pt", tokenizer=file
    )
    assert isinstance(found, MVDream) and not found.training
    assert found.config == CONFIG
    check_same(found, method)


def test_a_file_of_stable_diffusion_1(tmp_path: Path) -> None:
    """Convolutions into transformers, OpenAI's text encoder of which all is used."""
    config = MVDreamConfig(
        LatentUNetConfig(
            channels=(32, 64),
            attention=(True, False),
            blocks=1,
            context=64,
            heads=(8, 8),
        ),
        AUTOENCODER,
        ClipTextConfig(514 + COUNT, 24, 64, 2, 1, 48, "quick_gelu", None),
    )
    expected = MVDream(config)
    expected.text_encoder.tokenizer.merges.copy_(parse_merges(merges(), COUNT))
    text = transformers_text_encoder(expected.text_encoder.encoder.state_dict())
    unet = ldm_names(expected.unet.model.state_dict(), "unet")
    autoencoder = ldm_names(expected.autoencoder.model.state_dict(), "autoencoder")
    camera = expected.camera.state_dict()
    torch.save(
        {
            **prefixed("model.diffusion_model.", unet),
            **prefixed("model.diffusion_model.camera_embed.", camera),
            **prefixed("first_stage_model.", autoencoder),
            **prefixed("cond_stage_model.transformer.", text),
        },
        tmp_path / "a.pt",
    )
    found = read_mvdream(tmp_path / "a.pt", write_merges(tmp_path / "merges.txt"))
    assert found.config == config
    check_same(found, expected)


def write_folder(root: Path, method: MVDream, kind: str) -> Path:
    """A folder whose U-Net has the names of the LDM, or of diffusers."""
    unet, camera = method.unet.model.state_dict(), method.camera.state_dict()
    if kind == "ldm":
        unet = ldm_names(unet, "unet") | prefixed("camera_embed.", camera)
        settings = {"model_channels": 64, "num_head_channels": 64}
    else:
        names = {"0": "linear_1", "2": "linear_2"}
        unet |= {
            f"camera_matrix_embedding.{names[k[0]]}{k[1:]}": x
            for k, x in camera.items()
        }
        settings = {"attention_head_dim": [1, 2], "norm_num_groups": 32}
    file = "diffusion_pytorch_model.safetensors"
    write_part(root / "unet", unet, settings, file)
    autoencoder = method.autoencoder.model.state_dict()
    write_part(root / "vae", autoencoder, {"scaling_factor": 0.18215}, file)
    text = transformers_text_encoder(method.text_encoder.encoder.state_dict())
    settings = {"num_attention_heads": 1, "hidden_act": "gelu"}
    write_part(root / "text_encoder", text, settings, "model.safetensors")
    write_merges(root / "tokenizer" / "merges.txt")
    return root


@pytest.mark.parametrize("kind", ["ldm", "diffusers"])
def test_folders(kind: str, method: MVDream, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", method, kind)
    found = read_mvdream(folder)
    assert found.config == CONFIG
    check_same(found, method)
    (folder / "vae").rename(tmp_path / "vae")
    with pytest.raises(UserError, match="has no sub-folder 'vae'"):
        read_mvdream(folder)


INPUT = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.update({INPUT: torch.zeros(64, 8, 3, 3)}), "takes 8 channels"),
        (lambda d: d.pop(INPUT), "does not hold the weights"),
        (
            lambda d: d.pop("model.diffusion_model.camera_embed.0.bias"),
            "lacks tensor 'camera.0.bias'",
        ),
        (
            lambda d: d.update({"model.diffusion_model.more": torch.zeros(1)}),
            "unknown tensor 'unet.model.more'",
        ),
        (lambda d: d.clear(), "does not hold the weights"),
    ],
)
def test_files_of_other_systems(damage, message: str, official, tmp_path: Path) -> None:
    tensors = dict(official)
    damage(tensors)
    torch.save(tensors, tmp_path / "a.pt")
    merges_file = write_merges(tmp_path / "merges.txt")
    with pytest.raises(UserError, match=message) as caught:
        read_mvdream(tmp_path / "a.pt", merges_file)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_tokenizers_that_are_none(official, tmp_path: Path) -> None:
    torch.save(official, tmp_path / "a.pt")
    (tmp_path / "short.txt").write_text("t h\n")
    (tmp_path / "bad.gz").write_bytes(b"no gzip")
    for tokenizer, message in (
        (None, "has no tokenizer: name the merges.txt"),
        ("missing.txt", "cannot be read as a tokenizer"),
        ("bad.gz", "cannot be read as a tokenizer"),
        ("short.txt", "has 1 pairs where the text encoder needs"),
    ):
        given = None if tokenizer is None else tmp_path / tokenizer
        with pytest.raises(UserError, match=message):
            read_mvdream(tmp_path / "a.pt", given)
