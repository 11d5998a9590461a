"""Names of tensors in the files of latent diffusion (LDM), to those of diffusers.

The authors' code numbers all blocks of a network; diffusers sorts them by level. The
same tensors are in both, but for 1x1 convolutions of the autoencoder's attention,
which are linear layers there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_AUTOENCODER = {
    "nin_shortcut": "conv_shortcut",
    "norm_out": "conv_norm_out",
    "mid.block_1": "mid_block.resnets.0",
    "mid.attn_1": "mid_block.attentions.0",
    "mid.block_2": "mid_block.resnets.1",
}
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    # As versions of diffusers before 0.18 called them.
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}


def rename_unet(key: str, blocks: int) -> str | None:
    """The name in diffusers of a tensor of an LDM's U-Net, None if it is no such name.

    `blocks` are the residual blocks per level on the way down.
    """
    for official, ours in _UNET.items():
        if key.startswith(f"{official}."):
            return ours + key.removeprefix(official)
    match = re.fullmatch(r"(input_blocks|output_blocks)\.(\d+)\.(\d)\.(.+)", key)
    if match:
        down, number = match[1] == "input_blocks", int(match[2])
        level, block = divmod(number - 1 if down else number, blocks + 1)
        if down and match[4].startswith("op."):
            return f"down_blocks.{level}.downsamplers.0.conv.{match[4][3:]}"
        if not down and match[4].startswith("conv."):
            return f"up_blocks.{level}.upsamplers.0.{match[4]}"
        place = f"{'down' if down else 'up'}_blocks.{level}"
        if match[3] == "0":
            return _rename_inner(f"{place}.resnets.{block}", match[4], _RESNET)
        return f"{place}.attentions.{block}.{match[4]}"
    match = re.fullmatch(r"middle_block\.(\d)\.(.+)", key)
    if match and match[1] in _MIDDLE:
        place = f"mid_block.{_MIDDLE[match[1]]}"
        if match[1] == "1":
            return f"{place}.{match[2]}"
        return _rename_inner(place, match[2], _RESNET)
    return None


def rename_autoencoder(key: str, levels: int) -> str:
    """The name in diffusers of a tensor of an LDM's autoencoder of so many levels.

    Names that are diffusers' already stay, but for those of its old versions.
    """
    key = re.sub(r"down\.(\d+)\.block\.", r"down_blocks.\1.resnets.", key)
    key = re.sub(r"down\.(\d+)\.downsample\.", r"down_blocks.\1.downsamplers.0.", key)

    def up(match: re.Match[str]) -> str:
        part = "resnets" if match[2] == "block" else "upsamplers.0"
        return f"up_blocks.{levels - 1 - int(match[1])}.{part}."

    key = re.sub(r"\bup\.(\d+)\.(block|upsample)\.", up, key)
    for official, ours in _AUTOENCODER.items():
        key = key.replace(f".{official}.", f".{ours}.")
    match = re.fullmatch(r"(.+mid_block\.attentions\.0)\.(\w+)\.(weight|bias)", key)
    if match and match[2] in _ATTENTION:
        return f"{match[1]}.{_ATTENTION[match[2]]}.{match[3]}"
    return key


def convert_unet(official: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Tensors of an LDM's U-Net (without a prefix) under diffusers' names.

    Unknown names stay as they are, to be refused by them.
    """
    return {rename_unet(key, blocks) or key: x for key, x in official.items()}


def convert_autoencoder(
    official: Mapping[str, Tensor], levels: int
) -> dict[str, Tensor]:
    """Tensors of an LDM's autoencoder, or of an old diffusers', as they are today."""
    tensors = {}
    for key, value in official.items():
        name = rename_autoencoder(key, levels)
        is_linear = ".attentions." in name and ".group_norm." not in name
        if is_linear and value.shape[2:] == (1, 1):
            value = value[:, :, 0, 0]
        tensors[name] = value
    return tensors


def _rename_inner(place: str, rest: str, names: Mapping[str, str]) -> str | None:
    name, _, kind = rest.rpartition(".")
    return f"{place}.{names[name]}.{kind}" if name in names else None
