"""Names of tensors of CLIP's encoders in others' files, to ours.

There are two spellings: that of OpenAI's code, which open_clip and all files of latent
diffusion have, and that of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_BLOCK = {
    # OpenAI's.
    "attn.in_proj_weight": "self_attn.in_proj_weight",
    "attn.in_proj_bias": "self_attn.in_proj_bias",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "linear1",
    "mlp.c_proj": "linear2",
    "ln_1": "norm1",
    "ln_2": "norm2",
    # Those of transformers.
    "self_attn.out_proj": "self_attn.out_proj",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
}
_IMAGE = {
    "conv1.weight": "patches.weight",
    "class_embedding": "class_token",
    "positional_embedding": "positions",
    "ln_pre": "norm_in",
    "ln_post": "norm_out",
    "embeddings.patch_embedding.weight": "patches.weight",
    "embeddings.class_embedding": "class_token",
    "embeddings.position_embedding.weight": "positions",
    "pre_layrnorm": "norm_in",
    "post_layernorm": "norm_out",
    "visual_projection.weight": "projection.weight",
}
_TEXT = {
    "token_embedding.weight": "words.weight",
    "positional_embedding": "positions",
    "ln_final": "norm_out",
    "embeddings.token_embedding.weight": "words.weight",
    "embeddings.position_embedding.weight": "positions",
    "final_layer_norm": "norm_out",
}
# Not of the encoder: computed, or of the other half of CLIP.
_IMAGE_IGNORED = re.compile(r"embeddings\.position_ids")
_TEXT_IGNORED = re.compile(
    r"visual\..+|logit_scale|attn_mask|text_projection(\.weight)?|"
    r"embeddings\.position_ids"
)


def convert_image_encoder(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of CLIP's image encoder (OpenAI's without `visual.`) under our names."""
    tensors = _convert(official, "vision_model.", _IMAGE, _IMAGE_IGNORED)
    if "proj" in tensors:
        # OpenAI's matrix is multiplied from the right.
        tensors["projection.weight"] = tensors.pop("proj").T
    return tensors


def convert_text_encoder(
    official: Mapping[str, Tensor], depth: int | None = None
) -> dict[str, Tensor]:
    """Tensors of CLIP's text encoder under our names; its first `depth` layers."""
    tensors = _convert(official, "text_model.", _TEXT, _TEXT_IGNORED)
    kept = {}
    for name, value in tensors.items():
        match = re.match(r"blocks\.layers\.(\d+)\.", name)
        if depth is None or not match or int(match[1]) < depth:
            kept[name] = value
    return kept


def _convert(
    official: Mapping[str, Tensor],
    prefix: str,
    names: Mapping[str, str],
    ignored: re.Pattern[str],
) -> dict[str, Tensor]:
    """Unknown names stay as they are, to be refused by them."""
    tensors: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in official.items():
        key = key.removeprefix(prefix)
        if ignored.fullmatch(key):
            continue
        match = re.fullmatch(
            r"(?:transformer\.resblocks|encoder\.layers)\.(\d+)\.(.+)", key
        )
        if match is None:
            tensors[_rename(key, names) or key] = value
            continue
        place = f"blocks.layers.{match[1]}"
        split = re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", match[2])
        if split:
            whole = f"{place}.self_attn.in_proj_{split[2]}"
            parts.setdefault(whole, {})[split[1]] = value
        else:
            inner = _rename(match[2], _BLOCK)
            tensors[f"{place}.{inner}" if inner else key] = value
    for name, three in parts.items():
        if three.keys() == set("qkv"):
            tensors[name] = torch.cat([three[letter] for letter in "qkv"])
    return tensors


def _rename(key: str, names: Mapping[str, str]) -> str | None:
    """The whole key, or what comes before its last part, by the table."""
    if key in names:
        return names[key]
    name, _, kind = key.rpartition(".")
    return f"{names[name]}.{kind}" if name in names else None
