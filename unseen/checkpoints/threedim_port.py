"""The weights of the public port of 3DiM, to ours.

Source: https://github.com/a6o/3d-diffusion-pytorch (Apache License 2.0; the authors of
the paper released none). A file holds `{'optim', 'model', 'step', 'epoch'}`, and the
tensors under 'model' carry the prefix of a data-parallel wrapper. Nothing in the file
is executed when it is read. The port's deviations from the paper are settings of ours
(see `XUNetConfig`), without which its weights mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unseen.checkpoints.released_files import (
    count_blocks,
    filled,
    read_checkpoint,
    tensors_of,
)
from unseen.errors import UserError
from unseen.methods.threedim import ThreeDiM, ThreeDiMConfig
from unseen.networks.xunet import XUNetConfig

OWNER = "the public port of 3DiM"
_PREFIX = "module."
_FRAMES = ("conditioningprocessor.first_emb", "conditioningprocessor.other_emb")
_NAMES = {
    "conditioningprocessor.pos_emb": "conditioning.pixels",
    "conditioningprocessor.logsnr_emb_emb": "conditioning.level",
    "conditioningprocessor.convs": "conditioning.poses",
    "conv": "stem",
    "lastgn.gn": "norm",
    "lastconv": "head",
    "middle": "middle",
}
_INNER = {
    "resnetblock.": "resnet.",
    "groupnorm0.gn": "norm_1",
    "groupnorm1.gn": "norm_2",
    "conv1": "conv_1",
    "conv2": "conv_2",
    "film.dense": "film",
    "dense": "skip",
    "attnblock_self.": "self_attention.",
    "attnblock_cross.": "cross_attention.",
    "groupnorm.gn": "norm",
    "attn_layer.attn.in_proj_": "qkv.",
    "attn_layer.attn.out_proj": "projection",
    "linear": "out",
}
_STAGE = re.compile(r"(xunetblocks|upsample)\.(\d+)\.(\d+)\.(.+)")


def read_3dim(path: str | Path) -> ThreeDiM:
    """The method with the weights of a file of the port, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or another system's; or a tensor is
            missing, unknown, misshapen or not finite.
    """
    content = read_checkpoint(path, OWNER, mmap=True)
    official = tensors_of(content, "model", path, OWNER)
    official = {key.removeprefix(_PREFIX): value for key, value in official.items()}
    network, image_size = _settings(official, path)
    tensors = rename_tensors(official, network)
    config = ThreeDiMConfig(network, image_size)
    return filled(config, tensors, path)


def rename_tensors(
    official: Mapping[str, Tensor], network: XUNetConfig
) -> dict[str, Tensor]:
    """Our names and shapes of official tensors (without their prefix)."""
    tensors: dict[str, Tensor] = {}
    for key, value in official.items():
        # Unknown names stay as they are, to be refused by them.
        name = rename(key, network.num_blocks)
        if name is None:
            tensors[key] = value
        elif name.endswith("film.weight"):
            tensors[f"network.{name}"] = value[..., None, None]
        elif name.endswith("attention.out.weight") and value.shape[2:] == (1, 1):
            tensors[f"network.{name}"] = value[..., 0, 0]
        else:
            tensors[f"network.{name}"] = value
    if all(name in tensors for name in _FRAMES):
        frames = torch.cat([tensors.pop(name).flatten(1, 2) for name in _FRAMES])
        tensors["network.conditioning.frames"] = frames[..., 0, 0]
    return tensors


def rename(key: str, num_blocks: int) -> str | None:
    """Our name (inside of the network) of an official tensor without its prefix.

    None for what has no single counterpart. Blocks that change the resolution are the
    last ones of their level.
    """
    if match := _STAGE.fullmatch(key):
        level, block = int(match[2]), int(match[3])
        down = match[1] == "xunetblocks"
        if block < num_blocks + (not down):
            place = f"{'down' if down else 'up'}.{level}.{block}"
        else:
            place = f"downsample.{level}" if down else f"upsample.{level - 1}"
        inner = _rename_inner(match[4])
        return None if inner is None else f"{place}.{inner}"
    for official, ours in _NAMES.items():
        if key.startswith(f"{official}."):
            rest = key.removeprefix(f"{official}.")
            inner = _rename_inner(rest) if official == "middle" else rest
            return None if inner is None else f"{ours}.{inner}"
    return _NAMES.get(key) if key.endswith("pos_emb") else None


def _rename_inner(rest: str) -> str | None:
    """Our name of a tensor inside of a block."""
    for official in ("resnetblock.", "attnblock_self.", "attnblock_cross."):
        if rest.startswith(official):
            inner = _rename_inner(rest.removeprefix(official))
            return None if inner is None else f"{_INNER[official]}{inner}"
    if match := re.fullmatch(r"(.+?)(?:\.|(?<=in_proj_))(weight|bias)", rest):
        name = _INNER.get(match[1])
        return None if name is None else f"{name.rstrip('.')}.{match[2]}"
    return None


def _settings(
    official: Mapping[str, Tensor], path: str | Path
) -> tuple[XUNetConfig, int]:
    """Our network, and the image size, of what the tensors' shapes say.

    The number of attention heads is the port's: nothing in the file tells.
    """
    try:
        levels = count_blocks(official, r"xunetblocks\.(\d+)\.")
        ends = [
            official[f"xunetblocks.{i}.0.resnetblock.conv1.bias"] for i in range(levels)
        ]
        channels = len(official["conv.bias"])
        network = XUNetConfig(
            channels=channels,
            multipliers=tuple(len(end) // channels for end in ends),
            num_blocks=count_blocks(official, r"xunetblocks\.0\.(\d+)\.resnetblock"),
            attention=tuple(
                f"xunetblocks.{i}.0.attnblock_self.linear.bias" in official
                for i in range(levels)
            ),
            embedding=len(official["conditioningprocessor.logsnr_emb_emb.0.bias"]),
            noise_level="log_snr",
            film_activation=False,
            attention_projection=True,
            resample="output",
        )
        pixels = official["conditioningprocessor.pos_emb"]
        if (
            not levels
            or not all(network.multipliers)
            or pixels.shape[-1] % 2 ** (levels - 1)
        ):
            raise ValueError("its layers make no network")
        return network, pixels.shape[-1]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} does not hold the weights of {OWNER} ({type(error).__name__}: "
            f"{error}): give its file."
        ) from error
