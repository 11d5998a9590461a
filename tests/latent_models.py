"""Small models of latent diffusion in others' layouts, with weights of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from unseen.checkpoints.latent_keys import rename_autoencoder, rename_unet
from unseen.networks.clip import ClipImageConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig

UNET = LatentUNetConfig(
    in_channels=8,
    channels=(32, 64),
    attention=(True, False),
    blocks=1,
    context=24,
    heads=(8, 8),
)
AUTOENCODER = AutoencoderConfig((32, 64), 1)
IMAGE_ENCODER = ClipImageConfig(28, 14, 64, 2, 1, 48, 24)


def ldm_names(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Tensors of a small U-Net or autoencoder of diffusers under names of an LDM.

    All names that an LDM of two levels could have are renamed, and looked up.
    """
    names = {}
    for key in _unet_names() if part == "unet" else _autoencoder_names():
        new = rename_unet(key, 1) if part == "unet" else rename_autoencoder(key, 2)
        if new in tensors:
            names.setdefault(new, key)
    assert names.keys() == tensors.keys(), tensors.keys() - names.keys()
    found = {names[name]: x for name, x in tensors.items()}
    # Linear layers of the autoencoder's attention are convolutions there.
    return {
        key: x[..., None, None]
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", key)
        else x
        for key, x in found.items()
    }


def _unet_names() -> list[str]:
    inner = [
        *("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0"),
        *("out_layers.3", "skip_connection", "op", "conv", "norm", "proj_in"),
        *("proj_out", *(f"transformer_blocks.0.norm{i}" for i in (1, 2, 3))),
        *(f"transformer_blocks.0.ff.net.{x}" for x in ("0.proj", "2")),
    ]
    inner += [
        f"transformer_blocks.0.attn{i}.{x}"
        for i in (1, 2)
        for x in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    places = [f"input_blocks.{i}.{j}" for i in range(4) for j in range(2)]
    places += [f"middle_block.{i}" for i in range(3)]
    places += [f"output_blocks.{i}.{j}" for i in range(4) for j in range(3)]
    whole = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"]
    whole += [f"{place}.{x}" for place in places for x in inner]
    return [f"{name}.{kind}" for name in whole for kind in ("weight", "bias")]


def _autoencoder_names() -> list[str]:
    whole = ["quant_conv", "post_quant_conv"]
    for side, way in (("encoder", "down"), ("decoder", "up")):
        blocks = [f"{way}.{i}.block.{j}" for i in range(2) for j in range(2)]
        blocks += ["mid.block_1", "mid.block_2"]
        inner = ("norm1", "norm2", "conv1", "conv2", "nin_shortcut")
        whole += [f"{side}.{b}.{x}" for b in blocks for x in inner]
        whole += [f"{side}.mid.attn_1.{x}" for x in ("norm", "q", "k", "v", "proj_out")]
        whole += [f"{side}.{x}" for x in ("conv_in", "norm_out", "conv_out")]
        whole += [f"{side}.{way}.{i}.{way}sample.conv" for i in range(2)]
    return [f"{name}.{kind}" for name in whole for kind in ("weight", "bias")]


def openai_image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of CLIP's image encoder under OpenAI's names."""
    names = {
        "patches.weight": "conv1.weight",
        "class_token": "class_embedding",
        "positions": "positional_embedding",
        "self_attn.": "attn.",
        "linear1": "mlp.c_fc",
        "linear2": "mlp.c_proj",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "norm_in": "ln_pre",
        "norm_out": "ln_post",
        "blocks.layers": "transformer.resblocks",
    }
    found = {}
    for key, value in tensors.items():
        if key == "projection.weight":
            found["proj"] = value.T.contiguous()
            continue
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        found[key] = value
    return found


def transformers_image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of CLIP's image encoder under the names of transformers."""
    names = {
        "patches.weight": "embeddings.patch_embedding.weight",
        "class_token": "embeddings.class_embedding",
        "positions": "embeddings.position_embedding.weight",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "norm_in": "pre_layrnorm",
        "norm_out": "post_layernorm",
        "blocks.layers": "encoder.layers",
    }
    found = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    for key, value in tensors.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if key == "projection.weight":
            found["visual_projection.weight"] = value
        elif ".in_proj_" in key:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                name = key.replace("in_proj_", f"{letter}_proj.")
                found[f"vision_model.{name}"] = part.contiguous()
        else:
            found[f"vision_model.{key}"] = value
    return found


def write_part(
    folder: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], file: str
) -> None:
    """A network's sub-folder in the layout of diffusers."""
    folder.mkdir(parents=True)
    if file.endswith(".bin"):
        torch.save(dict(tensors), folder / file)
    else:
        copies = {name: x.detach().clone() for name, x in tensors.items()}
        safetensors.torch.save_file(copies, folder / file)
    (folder / "config.json").write_text(json.dumps(settings))


def openai_text_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of CLIP's text encoder under the names of OpenAI and open_clip."""
    names = {
        "words.weight": "token_embedding.weight",
        "positions": "positional_embedding",
        "self_attn.": "attn.",
        "linear1": "mlp.c_fc",
        "linear2": "mlp.c_proj",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "norm_out": "ln_final",
        "blocks.layers": "transformer.resblocks",
    }
    return {_replaced(key, names): x for key, x in tensors.items()}


def transformers_text_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of CLIP's text encoder under the names of transformers."""
    names = {
        "words.weight": "embeddings.token_embedding.weight",
        "positions": "embeddings.position_embedding.weight",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "norm_out": "final_layer_norm",
        "blocks.layers": "encoder.layers",
    }
    found = {"text_model.embeddings.position_ids": torch.arange(5)[None]}
    for key, value in tensors.items():
        key = _replaced(key, names)
        if ".in_proj_" in key:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                name = key.replace("in_proj_", f"{letter}_proj.")
                found[f"text_model.{name}"] = part.contiguous()
        else:
            found[f"text_model.{key}"] = value
    return found


def _replaced(key: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return key
