"""Networks of latent diffusion in others' files: which there are, and their settings.

Two layouts are read: one file of an LDM, all of whose tensors have long names, and a
folder with a sub-folder per network, as diffusers writes it. What `model_index.json`
says about classes is not believed, and not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from unseen.checkpoints.latent_keys import convert_autoencoder, convert_unet
from unseen.checkpoints.released_files import count_blocks
from unseen.checkpoints.weight_files import read_weights
from unseen.configuration import read_json
from unseen.errors import UserError
from unseen.networks.clip import Activation, ClipImageConfig, ClipTextConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig

HEAD_WIDTH = 64
"""Channels per head of attention in CLIP and in Stable Diffusion 2."""

_WEIGHTS = tuple(
    f"{name}{variant}.{suffix}"
    for variant in ("", ".fp16")
    for name in ("diffusion_pytorch_model", "model", "pytorch_model")
    for suffix in ("safetensors", "bin")
)
"""Names of the file with weights in a sub-folder, best first."""

Tensors = dict[str, Tensor]


def select(official: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin so, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in official.items()
        if key.startswith(prefix)
    }


def averaged_unet(official: Mapping[str, Tensor], prefix: str) -> Tensors | None:
    """The moving average of the U-Net's tensors in an LDM's file, None without one.

    Its names are those of the plain tensors without their dots.
    """
    found: Tensors = {}
    for key in official:
        if key.startswith(prefix):
            name = key.removeprefix("model.").replace(".", "")
            if f"model_ema.{name}" not in official:
                return None
            found[key.removeprefix(prefix)] = official[f"model_ema.{name}"]
    return found or None


def ldm_unet(official: Mapping[str, Tensor]) -> Tensors:
    """An LDM's U-Net (without its prefix) under diffusers' names."""
    down = re.compile(r"input_blocks\.\d+\.0\.op\.weight")
    levels = 1 + sum(down.fullmatch(key) is not None for key in official)
    inputs = count_blocks(official, r"input_blocks\.(\d+)\.")
    return convert_unet(official, max(inputs // levels - 1, 1))


def ldm_autoencoder(official: Mapping[str, Tensor]) -> Tensors:
    """An LDM's autoencoder (without its prefix) under diffusers' names.

    What only its training needs (`loss`) is left out.
    """
    kept = {k: x for k, x in official.items() if not k.startswith("loss.")}
    return convert_autoencoder(kept, count_blocks(kept, r"encoder\.down\.(\d+)\."))


def folder_autoencoder(official: Mapping[str, Tensor]) -> Tensors:
    """An autoencoder of any version of diffusers under the names of today."""
    levels = count_blocks(official, r"encoder\.down_blocks\.(\d+)\.")
    return convert_autoencoder(official, levels)


def unet_settings(
    tensors: Mapping[str, Tensor],
    heads: int | Sequence[int] | None = None,
    groups: int = 32,
) -> LatentUNetConfig:
    """The settings of a U-Net under diffusers' names; KeyError if it is none.

    What its tensors do not tell is the number of `heads` at each resolution (by
    default 8, or as many as have 64 channels where linear layers enter transformers)
    and of `groups`.
    """
    levels = count_blocks(tensors, r"down_blocks\.(\d+)\.")
    down = [f"down_blocks.{i}" for i in range(levels)]
    channels = tuple(len(tensors[f"{x}.resnets.0.conv1.bias"]) for x in down)
    middle = "mid_block.attentions.0"
    linear = tensors[f"{middle}.proj_in.weight"].ndim == 2
    if heads is None:
        heads = [c // HEAD_WIDTH for c in channels] if linear else 8
    return LatentUNetConfig(
        in_channels=tensors["conv_in.weight"].shape[1],
        out_channels=len(tensors["conv_out.weight"]),
        channels=channels,
        attention=tuple(f"{x}.attentions.0.norm.weight" in tensors for x in down),
        blocks=count_blocks(tensors, r"down_blocks\.0\.resnets\.(\d+)\."),
        context=tensors[f"{middle}.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        heads=(heads,) * levels if isinstance(heads, int) else tuple(heads),
        linear_projection=linear,
        groups=groups,
    )


def autoencoder_settings(
    tensors: Mapping[str, Tensor], scale: float = 0.18215, groups: int = 32
) -> AutoencoderConfig:
    """The settings of an autoencoder under diffusers' names; KeyError if it is none."""
    levels = count_blocks(tensors, r"encoder\.down_blocks\.(\d+)\.")
    return AutoencoderConfig(
        channels=tuple(
            len(tensors[f"encoder.down_blocks.{i}.resnets.0.conv1.bias"])
            for i in range(levels)
        ),
        blocks=count_blocks(tensors, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        latent_channels=len(tensors["post_quant_conv.bias"]),
        groups=groups,
        scale=scale,
    )


def image_encoder_settings(
    tensors: Mapping[str, Tensor],
    heads: int | None = None,
    activation: Activation = "quick_gelu",
) -> ClipImageConfig:
    """The settings of CLIP's image encoder under our names; KeyError if it is none."""
    width, _, patch, _ = tensors["patches.weight"].shape
    return ClipImageConfig(
        image_size=patch * math.isqrt(len(tensors["positions"]) - 1),
        patch=patch,
        width=width,
        depth=count_blocks(tensors, r"blocks\.layers\.(\d+)\."),
        heads=heads or width // HEAD_WIDTH,
        hidden=len(tensors["blocks.layers.0.linear1.bias"]),
        embedding=len(tensors["projection.weight"]),
        activation=activation,
    )


def text_encoder_settings(
    tensors: Mapping[str, Tensor],
    heads: int | None = None,
    activation: Activation = "gelu",
    padding: int | None = 0,
) -> ClipTextConfig:
    """The settings of CLIP's text encoder under our names; KeyError if it is none."""
    vocabulary, width = tensors["words.weight"].shape
    return ClipTextConfig(
        vocabulary=vocabulary,
        length=len(tensors["positions"]),
        width=width,
        depth=count_blocks(tensors, r"blocks\.layers\.(\d+)\."),
        heads=heads or width // HEAD_WIDTH,
        hidden=len(tensors["blocks.layers.0.linear1.bias"]),
        activation=activation,
        padding=padding,
    )


def read_part(
    folder: Path, names: Sequence[str], owner: str
) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and settings of one network: of the sub-folder with one of these names.

    Raises:
        UserError: there is no such sub-folder, or it holds no weights.
    """
    for name in names:
        place = folder / name
        for file in _WEIGHTS:
            if (place / file).is_file():
                settings = place / "config.json"
                return (
                    read_weights(place / file, owner, mmap=True),
                    read_json(settings) if settings.is_file() else {},
                )
    listed = " or ".join(f"'{name}'" for name in names)
    raise UserError(
        f"{folder} has no sub-folder {listed} with weights: download the whole model "
        f"of {owner}."
    )


def join(**parts: Mapping[str, Tensor]) -> Tensors:
    """The tensors of a method, of those of its parts; double underscores are dots."""
    return {
        f"{part.replace('__', '.')}.{name}": value.detach()
        for part, tensors in parts.items()
        for name, value in tensors.items()
    }


def unet_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `unet_settings` needs of a `config.json`."""
    # This is what diffusers calls the number of heads.
    return _renamed(
        settings, {"attention_head_dim": "heads", "norm_num_groups": "groups"}
    )


def autoencoder_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `autoencoder_settings` needs of a `config.json`."""
    return _renamed(settings, {"scaling_factor": "scale", "norm_num_groups": "groups"})


def encoder_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings of CLIP's encoders need of a `config.json`."""
    names = {"num_attention_heads": "heads", "hidden_act": "activation"}
    found = _renamed(settings, names)
    if found.get("activation", "gelu") not in get_args(Activation):
        raise ValueError(f"its encoder's activation is {found['activation']!r}")
    return found


def _renamed(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        ours: settings[theirs]
        for theirs, ours in names.items()
        if settings.get(theirs) is not None
    }
